//! Names of devices and modules, as the registry takes them.

use std::fmt;

/// The longest id of a device or a module.
const ID_CHARACTERS_MAX: usize = 128;

/// A device, or a module of one. Ids are case-sensitive. A device sorts right before its modules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityId {
    device_id: String,
    module_id: Option<String>,
}

/// A text that cannot be the id of a device or a module: it must have 1 to 128 ASCII letters, digits and
/// characters of ``-.%_*?!(),:=@$'`` (see "Identity registry" in the Azure IoT Hub documentation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} must have 1 to 128 ASCII letters, digits and characters of - . % _ * ? ! ( ) , : = @ $ '"
)]
pub struct InvalidId {
    /// `deviceId` or `moduleId`.
    pub name: &'static str,
}

impl IdentityId {
    /// A device, or with `module_id` a module of it.
    pub fn new(device_id: impl Into<String>, module_id: Option<String>) -> Result<Self, InvalidId> {
        let device_id = device_id.into();
        if !is_id(&device_id) {
            return Err(InvalidId { name: "deviceId" });
        }
        if module_id.as_deref().is_some_and(|id| !is_id(id)) {
            return Err(InvalidId { name: "moduleId" });
        }
        Ok(Self {
            device_id,
            module_id,
        })
    }

    /// A device.
    pub fn device(device_id: impl Into<String>) -> Result<Self, InvalidId> {
        Self::new(device_id, None)
    }

    /// A module of a device.
    pub fn module(
        device_id: impl Into<String>,
        module_id: impl Into<String>,
    ) -> Result<Self, InvalidId> {
        Self::new(device_id, Some(module_id.into()))
    }

    /// The device's id.
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The module's id, if this is one.
    pub fn module_id(&self) -> Option<&str> {
        self.module_id.as_deref()
    }

    /// The device that this is or belongs to.
    #[must_use]
    pub fn to_device(&self) -> Self {
        Self {
            device_id: self.device_id.clone(),
            module_id: None,
        }
    }
}

/// `device` or `device/module`, as in MQTT client ids.
impl fmt::Display for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device_id)?;
        match &self.module_id {
            Some(module_id) => write!(f, "/{module_id}"),
            None => Ok(()),
        }
    }
}

fn is_id(text: &str) -> bool {
    (1..=ID_CHARACTERS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.%_*?!(),:=@$'".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_azure_are_taken_and_others_are_named() {
        let id = IdentityId::module("a-.%_*?!(),:=@$'Z9", "m").unwrap();
        assert_eq!(id.to_string(), "a-.%_*?!(),:=@$'Z9/m");
        assert_eq!(
            id.to_device(),
            IdentityId::device("a-.%_*?!(),:=@$'Z9").unwrap()
        );
        for bad in ["", "a/b", "a b", "a+b", "#", "ä", &"a".repeat(129)] {
            assert_eq!(
                IdentityId::device(bad).unwrap_err().name,
                "deviceId",
                "{bad}"
            );
            assert_eq!(
                IdentityId::module("d", bad).unwrap_err().name,
                "moduleId",
                "{bad}"
            );
        }
    }
}
