//! The one event the relay sends to Socket.IO clients.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};

use crate::{DeviceId, ModuleId, RawJson, TelemetryValues};

/// Argument of the Socket.IO event `data`: one update of one device.
///
/// ```json
/// {"deviceId":"d1","telemetry":{"temperature":21.5},"timestamp":"2024-05-01T10:00:00.000Z"}
/// {"deviceId":"d1","connectionState":true,"timestamp":"2024-05-01T10:00:00.000Z"}
/// {"deviceId":"d1","deviceTwin":{"version":7,"properties":{"reported":{},"desired":{}}},"timestamp":"2024-05-01T10:00:00.000Z"}
/// {"deviceId":"d1","message":{"temperature":21.5},"timestamp":"2024-05-01T10:00:00.000Z"}
/// ```
///
/// Exactly one of the four kinds is present; an object with none or several is refused when read. An update of a module
/// has `moduleId` after `deviceId`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataEvent {
    /// The device, spelt as in the subscription.
    pub device_id: DeviceId,
    /// The module of the device, when the update is about that.
    pub module_id: Option<ModuleId>,
    /// When the update was measured, ISO 8601.
    pub timestamp: String,
    /// What changed.
    pub update: Update,
}

/// What a [`DataEvent`] carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The subscribed keys of one device message, values as the device wrote them.
    Telemetry(TelemetryValues),
    /// Online or offline.
    ConnectionState(bool),
    /// The twin after the change, as far as it may be seen.
    DeviceTwin(RawJson),
    /// The whole body of a device-to-cloud message.
    Message(RawJson),
}

impl Serialize for DataEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut event = serializer.serialize_struct("DataEvent", 4)?;
        event.serialize_field("deviceId", &self.device_id)?;
        if let Some(module_id) = &self.module_id {
            event.serialize_field("moduleId", module_id)?;
        }
        self.update.serialize_member::<S>(&mut event)?;
        event.serialize_field("timestamp", &self.timestamp)?;
        event.end()
    }
}

impl<'de> Deserialize<'de> for DataEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(deserializer)?;
        let update = UpdateMembers {
            telemetry: members.telemetry,
            connection_state: members.connection_state,
            device_twin: members.device_twin,
            message: members.message,
        };
        Ok(Self {
            device_id: members.device_id,
            module_id: members.module_id,
            timestamp: members.timestamp,
            update: update.only()?,
        })
    }
}

impl Update {
    /// Writes the one member that tells the kind.
    pub(crate) fn serialize_member<S: Serializer>(
        &self,
        object: &mut S::SerializeStruct,
    ) -> Result<(), S::Error> {
        match self {
            Self::Telemetry(values) => object.serialize_field("telemetry", values),
            Self::ConnectionState(connected) => {
                object.serialize_field("connectionState", connected)
            }
            Self::DeviceTwin(twin) => object.serialize_field("deviceTwin", twin),
            Self::Message(body) => object.serialize_field("message", body),
        }
    }
}

/// The members that tell the kinds apart, as they were found in an object.
pub(crate) struct UpdateMembers {
    pub(crate) telemetry: Option<TelemetryValues>,
    pub(crate) connection_state: Option<bool>,
    pub(crate) device_twin: Option<RawJson>,
    pub(crate) message: Option<RawJson>,
}

impl UpdateMembers {
    /// The one that is present.
    pub(crate) fn only<E: de::Error>(self) -> Result<Update, E> {
        let updates = [
            self.telemetry.map(Update::Telemetry),
            self.connection_state.map(Update::ConnectionState),
            self.device_twin.map(Update::DeviceTwin),
            self.message.map(Update::Message),
        ];
        let mut present = updates.into_iter().flatten();
        match (present.next(), present.next()) {
            (Some(update), None) => Ok(update),
            (None, _) => Err(E::custom(
                "one of telemetry, connectionState, deviceTwin and message must be present",
            )),
            (Some(_), Some(_)) => Err(E::custom(
                "only one of telemetry, connectionState, deviceTwin and message may be present",
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    device_id: DeviceId,
    module_id: Option<ModuleId>,
    timestamp: String,
    #[serde(default, deserialize_with = "present")]
    telemetry: Option<TelemetryValues>,
    #[serde(default, deserialize_with = "present")]
    connection_state: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    device_twin: Option<RawJson>,
    #[serde(default, deserialize_with = "present")]
    message: Option<RawJson>,
}

/// Tells a member that is `null` from one that is absent, which a plain `Option` does not: a message may be `null`.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_and_writes_its_documented_shape() {
        for text in [
            r#"{"deviceId":"d","telemetry":{"n":9007199254740993},"timestamp":"t"}"#,
            r#"{"deviceId":"d","connectionState":false,"timestamp":"t"}"#,
            r#"{"deviceId":"d","deviceTwin":{"version":7},"timestamp":"t"}"#,
            r#"{"deviceId":"d","message":null,"timestamp":"t"}"#,
            r#"{"deviceId":"d","moduleId":"m","connectionState":true,"timestamp":"t"}"#,
        ] {
            let event: DataEvent = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
        }
    }

    #[test]
    fn none_or_several_kinds_are_refused() {
        for text in [
            r#"{"deviceId":"d","timestamp":"t"}"#,
            r#"{"deviceId":"d","timestamp":"t","telemetry":{},"message":1}"#,
            r#"{"deviceId":"d","timestamp":"t","telemetry":{},"connectionState":null}"#,
        ] {
            assert!(serde_json::from_str::<DataEvent>(text).is_err(), "{text}");
        }
    }
}
