//! Which grants of a session run out, and when.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexSet;

use crate::domain::grant::Grant;
use crate::domain::id::DeviceId;

/// Which grants of a session run out, and when. A grant that is not in here holds until it is revoked.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    by_grant: HashMap<(DeviceId, Grant), i64>,
    by_unix_ms: BTreeMap<i64, IndexSet<(DeviceId, Grant)>>,
}

impl Expiries {
    /// Notes that a grant was given, until a moment or for good. `new` says that it was not there before.
    pub(super) fn granted(
        &mut self,
        device: &DeviceId,
        grant: Grant,
        expires_at_unix_ms: Option<i64>,
        new: bool,
    ) {
        let grant = (device.clone(), grant);
        let Some(expires_at) = expires_at_unix_ms else {
            self.forget(&grant);
            return;
        };
        match self.by_grant.get(&grant) {
            // Given for good before.
            None if !new => return,
            Some(later) if !new && *later >= expires_at => return,
            _ => self.forget(&grant),
        }
        self.by_grant.insert(grant.clone(), expires_at);
        self.by_unix_ms.entry(expires_at).or_default().insert(grant);
    }

    /// Notes that a grant was revoked.
    pub(super) fn revoked(&mut self, device: &DeviceId, grant: &Grant) {
        if !self.by_grant.is_empty() {
            self.forget(&(device.clone(), grant.clone()));
        }
    }

    /// The first moment at which a grant runs out.
    pub(super) fn next(&self) -> Option<i64> {
        self.by_unix_ms.keys().next().copied()
    }

    /// Takes out one grant that has run out.
    pub(super) fn pop_due(&mut self, now_unix_ms: i64) -> Option<(DeviceId, Grant)> {
        let mut first = self.by_unix_ms.first_entry()?;
        if *first.key() > now_unix_ms {
            return None;
        }
        let grant = first.get_mut().pop()?;
        if first.get().is_empty() {
            first.remove();
        }
        self.by_grant.remove(&grant);
        Some(grant)
    }

    fn forget(&mut self, grant: &(DeviceId, Grant)) {
        let Some(expires_at) = self.by_grant.remove(grant) else {
            return;
        };
        if let Some(grants) = self.by_unix_ms.get_mut(&expires_at) {
            grants.swap_remove(grant);
            if grants.is_empty() {
                self.by_unix_ms.remove(&expires_at);
            }
        }
    }
}
