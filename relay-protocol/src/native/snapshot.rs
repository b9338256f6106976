//! The last values of a device.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{DeviceId, ModuleId, RawJson};

/// Last values of one device or module, as far as they were asked for, are granted and are known:
/// `{"deviceId":"d1","telemetry":{"a":{"value":1,"timestamp":"…","receivedAt":1714557600123}}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSnapshot {
    /// The device.
    pub device_id: DeviceId,
    /// The module of the device, when the values are of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// Telemetry by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub telemetry: BTreeMap<String, AgedValue<RawJson>>,
    /// Online or offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_state: Option<AgedValue<bool>>,
    /// The twin, as far as it may be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_twin: Option<AgedValue<RawJson>>,
}

/// A value and its two times: `{"value":21.5,"timestamp":"2024-05-01T10:00:00.000Z","receivedAt":1714557600123}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgedValue<T> {
    /// The value; of a device, as it wrote it.
    pub value: T,
    /// The device's own time, ISO 8601.
    pub timestamp: String,
    /// When the relay took the value in, in Unix milliseconds on its own clock. With the `time` of the message around it,
    /// which is of the same clock, it gives the age of the value.
    pub received_at: i64,
}
