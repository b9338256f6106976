//! Whom a call or an update is about.

use crate::{DeviceId, ModuleId};

/// A device, or a module of one.
///
/// On the wire it is the member `deviceId` and, for a module only, the member `moduleId` beside it. A module has
/// telemetry, a connection state, a twin and grants of its own: a grant on a device says nothing of its modules.
///
/// Calls take whatever turns into an identity, so a [`DeviceId`] stands for the device itself:
///
/// ```
/// use relay_protocol::{DeviceId, Identity};
///
/// let device = Identity::from(DeviceId::from("press-01"));
/// let module = Identity::module("press-01", "vision");
/// assert_eq!(device.device_id, module.device_id);
/// assert_ne!(device, module);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The device.
    pub device_id: DeviceId,
    /// The module of it; `None` for the device itself.
    pub module_id: Option<ModuleId>,
}

impl Identity {
    /// A device itself.
    pub fn device(device_id: impl Into<DeviceId>) -> Self {
        Self {
            device_id: device_id.into(),
            module_id: None,
        }
    }

    /// A module of a device.
    pub fn module(device_id: impl Into<DeviceId>, module_id: impl Into<ModuleId>) -> Self {
        Self {
            device_id: device_id.into(),
            module_id: Some(module_id.into()),
        }
    }
}

impl From<DeviceId> for Identity {
    fn from(device_id: DeviceId) -> Self {
        Self::device(device_id)
    }
}

impl From<&DeviceId> for Identity {
    fn from(device_id: &DeviceId) -> Self {
        Self::device(device_id.clone())
    }
}

impl From<&Identity> for Identity {
    fn from(identity: &Identity) -> Self {
        identity.clone()
    }
}
