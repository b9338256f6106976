//! Device ids that were seen before, so that a known device costs a look-up and not an allocation.

use hashbrown::HashSet;

use crate::domain::id::{DeviceId, DeviceName};

/// Ids kept at most. When full the cache starts over: it saves allocations and holds no state.
const DEVICE_IDS_MAX: usize = 250_000;

/// A bounded cache of device ids.
#[derive(Debug, Default)]
pub(super) struct DeviceIds {
    seen: HashSet<DeviceId>,
}

impl DeviceIds {
    /// The shared id of this name; `None` when a part of it is empty or too long.
    #[inline]
    pub(super) fn get(&mut self, name: DeviceName<'_>) -> Option<DeviceId> {
        if let Some(device_id) = self.seen.get(&name) {
            return Some(device_id.clone());
        }
        let device_id = name.to_id()?;
        if self.seen.len() >= DEVICE_IDS_MAX {
            self.seen.clear();
        }
        self.seen.insert(device_id.clone());
        Some(device_id)
    }
}
