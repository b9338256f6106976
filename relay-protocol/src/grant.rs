//! Grants: what a session may see or call.

use serde::{Deserialize, Serialize};

use crate::{DeviceId, SessionId};

/// Body of `PUT /grants` and `DELETE /grants`:
/// `{"sessionId":"…","deviceId":"…","type":"telemetry","telemetryKey":null}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantRequest {
    /// The session that gains or loses the grant.
    pub session_id: SessionId,
    /// The device it is about; there is no wildcard.
    pub device_id: DeviceId,
    /// What may be done.
    #[serde(flatten)]
    pub grant: Grant,
}

/// One right on one device, told apart by the member `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Grant {
    /// Telemetry: one key, or every key when `telemetry_key` is `None`.
    Telemetry {
        /// The granted key; absent and `null` mean every key.
        #[serde(default)]
        telemetry_key: Option<String>,
    },
    /// The device twin.
    DeviceTwin,
    /// Online or offline.
    ConnectionState,
    /// Whole device-to-cloud messages.
    D2cMessages,
    /// Changing desired properties.
    DesiredProperties,
    /// Calling direct methods: one method, or every method when `direct_method_name` is `None`.
    DirectMethod {
        /// The granted method; absent and `null` mean every method.
        #[serde(default)]
        direct_method_name: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wire(grant: Grant) -> serde_json::Value {
        serde_json::to_value(GrantRequest {
            session_id: "s".into(),
            device_id: "d".into(),
            grant,
        })
        .unwrap()
    }

    #[test]
    fn every_kind_has_its_documented_shape() {
        assert_eq!(
            wire(Grant::Telemetry {
                telemetry_key: Some("t".into())
            }),
            json!({"sessionId": "s", "deviceId": "d", "type": "telemetry", "telemetryKey": "t"})
        );
        assert_eq!(
            wire(Grant::DirectMethod {
                direct_method_name: None
            }),
            json!({"sessionId": "s", "deviceId": "d", "type": "directMethod", "directMethodName": null})
        );
        for (grant, name) in [
            (Grant::DeviceTwin, "deviceTwin"),
            (Grant::ConnectionState, "connectionState"),
            (Grant::D2cMessages, "d2cMessages"),
            (Grant::DesiredProperties, "desiredProperties"),
        ] {
            assert_eq!(
                wire(grant),
                json!({"sessionId": "s", "deviceId": "d", "type": name})
            );
        }
    }

    #[test]
    fn an_absent_key_reads_as_every_key() {
        let request: GrantRequest =
            serde_json::from_value(json!({"sessionId": "s", "deviceId": "d", "type": "telemetry"}))
                .unwrap();
        assert_eq!(
            request.grant,
            Grant::Telemetry {
                telemetry_key: None
            }
        );
    }
}
