//! Calls that reach a device, or a module of one, through IoT Hub.

use serde::{Deserialize, Serialize};

use crate::{DeviceId, Identity, ModuleId, RawJson};

/// Body of `POST /directMethod`:
/// `{"deviceId":"…","methodParams":{"methodName":"reboot","payload":{"delay":1}}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectMethodRequest {
    /// The device to call.
    pub device_id: DeviceId,
    /// The module of the device, when that is to be called and not the device itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// The call.
    pub method_params: MethodParams,
}

/// A direct method call.
///
/// ```
/// use relay_protocol::MethodParams;
/// use serde_json::json;
///
/// let reboot = MethodParams::new("reboot").payload(json!({"delay": 1})).response_timeout_s(60);
/// ```
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
    /// The module of the device, when its twin changes and not that of the device itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// The properties to set; `null` members delete.
    pub desired_property_patch: RawJson,
    /// The `etag` that the twin must still have; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
}

/// Body of `PATCH /deviceTwinTags`: `{"deviceId":"…","tagPatch":{…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagPatch {
    /// The device whose twin changes.
    pub device_id: DeviceId,
    /// The module of the device, when its twin changes and not that of the device itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// The tags to set; `null` members delete.
    pub tag_patch: RawJson,
    /// The `etag` that the twin must still have; absent means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
}

/// What came back through IoT Hub: `{"status":200,"payload":…}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubResponse {
    /// The device's own status for a method; 200 for a twin change.
    pub status: i64,
    /// The device's answer, or the updated twin as far as the session may see or change it.
    pub payload: RawJson,
}

impl DirectMethodRequest {
    /// A call to a device or module.
    pub fn new(to: impl Into<Identity>, method_params: MethodParams) -> Self {
        let Identity {
            device_id,
            module_id,
        } = to.into();
        Self {
            device_id,
            module_id,
            method_params,
        }
    }
}

impl MethodParams {
    /// A call without payload and with the default time-outs.
    pub fn new(method_name: impl Into<String>) -> Self {
        Self {
            method_name: method_name.into(),
            payload: None,
            response_timeout_in_seconds: None,
            connect_timeout_in_seconds: None,
        }
    }

    /// With this argument of the method.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<RawJson>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// With this many seconds for the device to answer; IoT Hub allows 5 to 300.
    #[must_use]
    pub fn response_timeout_s(mut self, seconds: u32) -> Self {
        self.response_timeout_in_seconds = Some(seconds);
        self
    }

    /// With this many seconds for the device to come online; IoT Hub allows up to 300.
    #[must_use]
    pub fn connect_timeout_s(mut self, seconds: u32) -> Self {
        self.connect_timeout_in_seconds = Some(seconds);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let plain = DirectMethodRequest::new(DeviceId::from("d"), MethodParams::new("reboot"));
        assert_eq!(
            serde_json::to_value(&plain).unwrap(),
            json!({"deviceId": "d", "methodParams": {"methodName": "reboot"}})
        );
        let params = MethodParams::new("reboot")
            .payload(json!({"delay": 1}))
            .response_timeout_s(60)
            .connect_timeout_s(5);
        let whole = DirectMethodRequest::new(Identity::module("d", "m"), params);
        assert_eq!(
            serde_json::to_value(&whole).unwrap(),
            json!({"deviceId": "d", "moduleId": "m", "methodParams": {
                "methodName": "reboot", "payload": {"delay": 1},
                "responseTimeoutInSeconds": 60, "connectTimeoutInSeconds": 5,
            }})
        );
    }

    #[test]
    fn patches_keep_every_digit() {
        let text = r#"{"deviceId":"d","moduleId":"m","tagPatch":{"n":1.50,"big":9007199254740993},"ifMatch":"AAAAAAAAAAE="}"#;
        let patch: TagPatch = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&patch).unwrap(), text);
    }
}
