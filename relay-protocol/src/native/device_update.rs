//! One change of one device.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeStruct};

use super::object::object;
use crate::data_event::{UpdateMembers, present};
use crate::{DeviceId, ModuleId, RawJson, TelemetryValues, Update};

/// One update of one device, with the time the relay took it in.
///
/// ```json
/// {"deviceId":"d1","telemetry":{"temperature":21.5},"timestamp":"2024-05-01T10:00:00.000Z","receivedAt":1714557600123}
/// ```
///
/// Exactly one of `telemetry`, `connectionState`, `deviceTwin` and `message` is present; an object with none or several
/// is refused when read. An update of a module has `moduleId` after `deviceId`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceUpdate {
    /// The device, spelt as in the subscription.
    pub device_id: DeviceId,
    /// The module of the device, when the update is about that.
    pub module_id: Option<ModuleId>,
    /// What changed.
    pub update: Update,
    /// The device's own time, ISO 8601.
    pub timestamp: String,
    /// When the relay took it in, in Unix milliseconds on its own clock.
    pub received_at: i64,
}

impl Serialize for DeviceUpdate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut update = serializer.serialize_struct("DeviceUpdate", 5)?;
        update.serialize_field("deviceId", &self.device_id)?;
        if let Some(module_id) = &self.module_id {
            update.serialize_field("moduleId", module_id)?;
        }
        self.update.serialize_member::<S>(&mut update)?;
        update.serialize_field("timestamp", &self.timestamp)?;
        update.serialize_field("receivedAt", &self.received_at)?;
        update.end()
    }
}

impl<'de> Deserialize<'de> for DeviceUpdate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members: Members = object(deserializer)?;
        let update = UpdateMembers {
            telemetry: members.telemetry,
            connection_state: members.connection_state,
            device_twin: members.device_twin,
            message: members.message,
        };
        Ok(Self {
            device_id: members.device_id,
            module_id: members.module_id,
            update: update.only()?,
            timestamp: members.timestamp,
            received_at: members.received_at,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    device_id: DeviceId,
    module_id: Option<ModuleId>,
    #[serde(default, deserialize_with = "present")]
    telemetry: Option<TelemetryValues>,
    #[serde(default, deserialize_with = "present")]
    connection_state: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    device_twin: Option<RawJson>,
    #[serde(default, deserialize_with = "present")]
    message: Option<RawJson>,
    timestamp: String,
    received_at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_and_writes_its_documented_shape() {
        for text in [
            r#"{"deviceId":"d","telemetry":{"n":9007199254740993},"timestamp":"t","receivedAt":1}"#,
            r#"{"deviceId":"d","connectionState":false,"timestamp":"t","receivedAt":1}"#,
            r#"{"deviceId":"d","deviceTwin":{"version":7},"timestamp":"t","receivedAt":1}"#,
            r#"{"deviceId":"d","message":null,"timestamp":"t","receivedAt":1}"#,
            r#"{"deviceId":"d","moduleId":"m","deviceTwin":{},"timestamp":"t","receivedAt":1}"#,
        ] {
            let update: DeviceUpdate = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&update).unwrap(), text);
        }
    }

    #[test]
    fn none_or_several_kinds_are_refused() {
        for text in [
            r#"{"deviceId":"d","timestamp":"t","receivedAt":1}"#,
            r#"{"deviceId":"d","telemetry":{},"message":1,"timestamp":"t","receivedAt":1}"#,
        ] {
            assert!(
                serde_json::from_str::<DeviceUpdate>(text).is_err(),
                "{text}"
            );
        }
    }
}
