//! Subscriptions: what a session wants pushed.

use serde::{Deserialize, Serialize};

use crate::{DeviceId, Identity, ModuleId, SessionId};

/// Body of `PUT` and `DELETE /subscription`, and element of the bulk calls:
/// `{"sessionId":"…","deviceId":"…","type":"telemetry","telemetryKey":"temperature"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionRequest {
    /// The session; may be left out where the header `sessionId` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The device.
    pub device_id: DeviceId,
    /// The module of the device, when that is meant and not the device itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// What is wanted of it.
    #[serde(flatten)]
    pub subscription: Subscription,
}

impl SubscriptionRequest {
    /// Something of a device or module, for the session that the header names.
    pub fn new(of: impl Into<Identity>, subscription: Subscription) -> Self {
        let Identity {
            device_id,
            module_id,
        } = of.into();
        Self {
            session_id: None,
            device_id,
            module_id,
            subscription,
        }
    }
}

/// What of a device is wanted, told apart by the member `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Subscription {
    /// Telemetry: one key, or every key when `telemetry_key` is `None`.
    Telemetry {
        /// The wanted key; absent and `null` mean every key.
        #[serde(default)]
        telemetry_key: Option<String>,
    },
    /// The device twin, as far as it may be seen, after each change.
    DeviceTwin,
    /// Online or offline.
    ConnectionState,
    /// Whole device-to-cloud messages.
    D2cMessages,
}

/// The object form of `PUT /subscriptions`: `{"subscriptionRequests":[…]}`. A bare array is the other form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionList {
    /// The wanted subscriptions.
    pub subscription_requests: Vec<SubscriptionRequest>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_without_session_leaves_the_member_out() {
        let written = |of| {
            let request = SubscriptionRequest::new(of, Subscription::D2cMessages);
            serde_json::to_value(&request).unwrap()
        };
        assert_eq!(
            written(Identity::device("d")),
            json!({"deviceId": "d", "type": "d2cMessages"})
        );
        assert_eq!(
            written(Identity::module("d", "m")),
            json!({"deviceId": "d", "moduleId": "m", "type": "d2cMessages"})
        );
    }
}
