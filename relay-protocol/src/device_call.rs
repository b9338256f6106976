//! Calls that reach a device through IoT Hub.

use serde::{Deserialize, Serialize};

use crate::{DeviceId, RawJson};

/// Body of `POST /directMethod`:
/// `{"deviceId":"…","methodParams":{"methodName":"reboot","payload":{"delay":1}}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectMethodRequest {
    /// The device to call.
    pub device_id: DeviceId,
    /// The call.
    pub method_params: MethodParams,
}

/// A direct method call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodParams {
    /// Name of the method.
    pub method_name: String,
    /// Argument of the method; absent means `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<RawJson>,
    /// How long the device may take to answer; the default is 30, IoT Hub allows 5 to 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout_in_seconds: Option<u32>,
    /// How long to wait for the device to come online; the default is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_in_seconds: Option<u32>,
}

/// Body of `PATCH /deviceTwinDesiredProperties`: `{"deviceId":"…","desiredPropertyPatch":{…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredPropertyPatch {
    /// The device whose twin changes.
    pub device_id: DeviceId,
    /// The properties to set; `null` members delete.
    pub desired_property_patch: RawJson,
}

/// What came back through IoT Hub: `{"status":200,"payload":…}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubResponse {
    /// The device's own status for a method; 200 for a twin change.
    pub status: i64,
    /// The device's answer, or the updated twin.
    pub payload: RawJson,
}
