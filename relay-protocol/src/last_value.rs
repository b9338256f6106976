//! Last values as REST answers them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{DeviceId, ModuleId, RawJson};

/// Envelope of every last-value answer: `{"deviceId":"…","data":…,"timestamp":"…"}`, with `moduleId` beside
/// `deviceId` when a module was asked for.
///
/// | call | `data` |
/// |---|---|
/// | `GET /lastValue/:deviceId/:telemetryKey` | [`TelemetryValues`], holding that key only |
/// | `GET /lastValue/:deviceId` | [`TelemetrySnapshot`] |
/// | `GET /connectionState/:deviceId` | `bool` |
/// | `GET /deviceTwin/:deviceId` | [`Twin`] |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastValue<T> {
    /// The device.
    pub device_id: DeviceId,
    /// The module of the device, when the value is of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// The value.
    pub data: T,
    /// When the value was measured, ISO 8601; empty where every value carries its own.
    pub timestamp: String,
}

/// Bare telemetry values by key, as devices wrote them.
pub type TelemetryValues = BTreeMap<String, RawJson>;

/// All last telemetry values of a device, by key.
pub type TelemetrySnapshot = BTreeMap<String, TimedValue>;

/// A value and the time of the message that carried it: `{"value":…,"timestamp":"…"}`, exactly these two members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedValue {
    /// The value as the device wrote it.
    pub value: RawJson,
    /// ISO 8601.
    pub timestamp: String,
}

/// A twin: `{"version":7,"properties":{"reported":{…},"desired":{…}}}`. A session that was granted parts of it finds only
/// those in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// Counts every change of the twin.
    pub version: u64,
    /// Both sides of the twin.
    pub properties: TwinProperties,
    /// Tags, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<RawJson>,
}

/// The two sides of a twin, `$metadata` and `$version` included as the hub sent them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinProperties {
    /// What the device says it is.
    pub reported: RawJson,
    /// What the back end wants it to be.
    pub desired: RawJson,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unkeyed_answer_keeps_each_value_as_written() {
        let text = r#"{"deviceId":"d","data":{"n":{"value":9007199254740993,"timestamp":"2024-05-01T10:00:00.000Z"}},"timestamp":""}"#;
        let answer: LastValue<TelemetrySnapshot> = serde_json::from_str(text).unwrap();
        assert_eq!(answer.data["n"].value.as_str(), "9007199254740993");
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
    }
}
