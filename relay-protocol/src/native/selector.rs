//! Which values of a device are meant.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::object::object;
use crate::{DeviceId, Identity, ModuleId};

/// Some values of one device or module.
///
/// ```json
/// {"type":"telemetry","deviceId":"d1","telemetryKeys":["a","b"],"telemetryKeyPatterns":["temp*"]}
/// {"type":"connectionState","deviceId":"d1"}
/// {"type":"connectionState","deviceId":"d1","moduleId":"m1"}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The device, spelt as it spells itself.
    pub device_id: DeviceId,
    /// The module of the device, when its values are meant and not those of the device itself.
    pub module_id: Option<ModuleId>,
    /// Which of its values.
    pub values: Values,
}

/// What of a device a [`Selector`] selects, told apart by its member `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Values {
    /// Telemetry: the named keys and those that match a pattern; every key when there are neither.
    Telemetry {
        /// Keys by name.
        keys: Vec<String>,
        /// Keys by pattern: `*` stands for any run of characters, also none; everything else for itself.
        patterns: Vec<String>,
    },
    /// Online or offline.
    ConnectionState,
    /// The device twin, as far as it may be seen.
    DeviceTwin,
    /// Whole device-to-cloud messages, which have no last value.
    D2cMessages,
}

/// A subscription as a client asks for it: a [`Selector`] and, for telemetry, how its updates are delivered, in one object.
///
/// ```json
/// {"type":"telemetry","deviceId":"d1","telemetryKeys":["a"],"minIntervalMs":1000,"changesOnly":true}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewSubscription {
    /// What is wanted.
    pub selector: Selector,
    /// Shortest time between two updates, newest values merged; absent and 0 mean each at once.
    pub min_interval_ms: Option<u64>,
    /// Whether values that are the same as before are left out.
    pub changes_only: bool,
}

impl Selector {
    /// Values of a device or module.
    pub fn new(of: impl Into<Identity>, values: Values) -> Self {
        let Identity {
            device_id,
            module_id,
        } = of.into();
        Self {
            device_id,
            module_id,
            values,
        }
    }

    /// Telemetry keys of a device by name.
    pub fn telemetry<K: Into<String>>(
        device_id: impl Into<DeviceId>,
        keys: impl IntoIterator<Item = K>,
    ) -> Self {
        let values = Values::Telemetry {
            keys: keys.into_iter().map(Into::into).collect(),
            patterns: Vec::new(),
        };
        Self::new(Identity::device(device_id), values)
    }
}

impl From<Selector> for NewSubscription {
    fn from(selector: Selector) -> Self {
        Self {
            selector,
            min_interval_ms: None,
            changes_only: false,
        }
    }
}

/// The members of both forms. A tagged enum would build a tree of each object before it reads it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<D, M> {
    #[serde(rename = "type")]
    kind: Type,
    device_id: D,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    module_id: Option<M>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    telemetry_keys: Vec<String>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    telemetry_key_patterns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_interval_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    changes_only: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    Telemetry,
    ConnectionState,
    DeviceTwin,
    D2cMessages,
}

impl<'a> From<&'a Selector> for Members<&'a DeviceId, &'a ModuleId> {
    fn from(selector: &'a Selector) -> Self {
        let (kind, telemetry_keys, telemetry_key_patterns) = match &selector.values {
            Values::Telemetry { keys, patterns } => {
                (Type::Telemetry, keys.clone(), patterns.clone())
            }
            Values::ConnectionState => (Type::ConnectionState, Vec::new(), Vec::new()),
            Values::DeviceTwin => (Type::DeviceTwin, Vec::new(), Vec::new()),
            Values::D2cMessages => (Type::D2cMessages, Vec::new(), Vec::new()),
        };
        Self {
            kind,
            device_id: &selector.device_id,
            module_id: selector.module_id.as_ref(),
            telemetry_keys,
            telemetry_key_patterns,
            min_interval_ms: None,
            changes_only: false,
        }
    }
}

impl From<Members<DeviceId, ModuleId>> for NewSubscription {
    fn from(members: Members<DeviceId, ModuleId>) -> Self {
        let values = match members.kind {
            Type::Telemetry => Values::Telemetry {
                keys: members.telemetry_keys,
                patterns: members.telemetry_key_patterns,
            },
            Type::ConnectionState => Values::ConnectionState,
            Type::DeviceTwin => Values::DeviceTwin,
            Type::D2cMessages => Values::D2cMessages,
        };
        Self {
            selector: Selector {
                device_id: members.device_id,
                module_id: members.module_id,
                values,
            },
            min_interval_ms: members.min_interval_ms,
            changes_only: members.changes_only,
        }
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Members::from(self).serialize(serializer)
    }
}

impl Serialize for NewSubscription {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Members {
            min_interval_ms: self.min_interval_ms,
            changes_only: self.changes_only,
            ..Members::from(&self.selector)
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NewSubscription {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object::<_, Members<DeviceId, ModuleId>>(deserializer).map(Self::from)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NewSubscription::deserialize(deserializer).map(|subscription| subscription.selector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_and_writes_its_documented_shape() {
        for text in [
            r#"{"type":"telemetry","deviceId":"d"}"#,
            r#"{"type":"telemetry","deviceId":"d","telemetryKeys":["a"],"telemetryKeyPatterns":["b*"],"minIntervalMs":5,"changesOnly":true}"#,
            r#"{"type":"connectionState","deviceId":"d"}"#,
            r#"{"type":"deviceTwin","deviceId":"d"}"#,
            r#"{"type":"d2cMessages","deviceId":"d"}"#,
            r#"{"type":"telemetry","deviceId":"d","moduleId":"m","telemetryKeys":["a"]}"#,
        ] {
            let read: NewSubscription = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn a_selector_has_no_delivery() {
        let text = r#"{"type":"telemetry","deviceId":"d","telemetryKeys":["a"],"minIntervalMs":5}"#;
        let read: Selector = serde_json::from_str(text).unwrap();
        assert_eq!(read, Selector::telemetry("d", ["a"]));
    }
}
