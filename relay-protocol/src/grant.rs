//! Grants: what a session may see or call.

use serde::{Deserialize, Serialize};

use crate::data_event::present;
use crate::{Condition, DeviceId, Identity, ModuleId, SessionId};

/// Body of `PUT /grants` and `DELETE /grants`:
/// `{"sessionId":"…","deviceId":"…","type":"telemetry","telemetryKey":null}`.
///
/// ```
/// use relay_protocol::{Condition, Grant, GrantRequest, Identity, SessionId};
///
/// # fn example(session_id: SessionId) {
/// let reads_tags = Grant::direct_method_if(
///     "thingspro-api-v1",
///     [Condition::equals("/method", "GET"), Condition::matches("/path", "/tags/*")],
/// );
/// let request = GrantRequest::new(&session_id, Identity::module("gateway-1", "thingspro"), reads_tags);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantRequest {
    /// The session that gains or loses the grant.
    pub session_id: SessionId,
    /// The device it is about; there is no wildcard.
    pub device_id: DeviceId,
    /// The module of the device, when it is about that; it is about the device itself otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_id: Option<ModuleId>,
    /// What may be done.
    #[serde(flatten)]
    pub grant: Grant,
}

/// One right on one device or module, told apart by the member `type`.
///
/// Several types can be narrowed. A session may have several narrowed grants of one type, and has what any of them
/// allows. Revoking a narrowed grant takes away exactly that one; revoking the type without its narrowing takes away
/// all of them, as revoking the telemetry of every key takes away that of single keys.
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
    /// Seeing the twin.
    DeviceTwin {
        /// The parts that are seen, and nothing else but `version`; the whole twin when `None`. JSON pointers
        /// (RFC 6901) into the twin as it is pushed, such as `/properties/desired/telemetryInterval` and `/tags/site`.
        #[serde(
            default,
            deserialize_with = "present",
            skip_serializing_if = "Option::is_none"
        )]
        pointers: Option<Vec<String>>,
    },
    /// Online or offline.
    ConnectionState,
    /// Whole device-to-cloud messages.
    D2cMessages,
    /// Changing desired properties.
    DesiredProperties {
        /// The places at or below which a patch may write; anywhere when `None`. JSON pointers into the desired
        /// properties, such as `/telemetryInterval`.
        #[serde(
            default,
            deserialize_with = "present",
            skip_serializing_if = "Option::is_none"
        )]
        pointers: Option<Vec<String>>,
    },
    /// Changing tags.
    Tags {
        /// The places at or below which a patch may write; anywhere when `None`. JSON pointers into the tags, such as
        /// `/site`.
        #[serde(
            default,
            deserialize_with = "present",
            skip_serializing_if = "Option::is_none"
        )]
        pointers: Option<Vec<String>>,
    },
    /// Calling direct methods: one method, or every method when `direct_method_name` is `None`.
    DirectMethod {
        /// The granted method; absent and `null` mean every method.
        #[serde(default)]
        direct_method_name: Option<String>,
        /// What must hold of the payload, all of it; any payload will do when `None`.
        #[serde(
            default,
            deserialize_with = "present",
            skip_serializing_if = "Option::is_none"
        )]
        payload_policy: Option<Vec<Condition>>,
    },
}

impl GrantRequest {
    /// `grant` on a device or module, for a session.
    pub fn new(session_id: &SessionId, on: impl Into<Identity>, grant: Grant) -> Self {
        let Identity {
            device_id,
            module_id,
        } = on.into();
        Self {
            session_id: session_id.clone(),
            device_id,
            module_id,
            grant,
        }
    }

    /// The device or module it is about.
    pub fn identity(&self) -> Identity {
        Identity {
            device_id: self.device_id.clone(),
            module_id: self.module_id.clone(),
        }
    }
}

/// A list of pointers or conditions that is empty narrows a grant to nothing, which the relay refuses. It never means
/// everything.
impl Grant {
    /// Telemetry of one key.
    pub fn telemetry(key: impl Into<String>) -> Self {
        Self::Telemetry {
            telemetry_key: Some(key.into()),
        }
    }

    /// Telemetry of every key.
    pub fn every_telemetry_key() -> Self {
        Self::Telemetry {
            telemetry_key: None,
        }
    }

    /// Seeing the whole twin.
    pub fn device_twin() -> Self {
        Self::DeviceTwin { pointers: None }
    }

    /// Seeing the parts of the twin that `pointers` point to, and its version.
    ///
    /// ```
    /// # use relay_protocol::Grant;
    /// Grant::device_twin_at(["/properties/desired/telemetryInterval", "/tags/site"]);
    /// ```
    pub fn device_twin_at<P: Into<String>>(pointers: impl IntoIterator<Item = P>) -> Self {
        Self::DeviceTwin {
            pointers: Some(texts(pointers)),
        }
    }

    /// Changing any desired property.
    pub fn desired_properties() -> Self {
        Self::DesiredProperties { pointers: None }
    }

    /// Changing the desired properties at and below `pointers`.
    ///
    /// ```
    /// # use relay_protocol::Grant;
    /// Grant::desired_properties_at(["/telemetryInterval", "/alarms/limits"]);
    /// ```
    pub fn desired_properties_at<P: Into<String>>(pointers: impl IntoIterator<Item = P>) -> Self {
        Self::DesiredProperties {
            pointers: Some(texts(pointers)),
        }
    }

    /// Changing any tag.
    pub fn tags() -> Self {
        Self::Tags { pointers: None }
    }

    /// Changing the tags at and below `pointers`.
    pub fn tags_at<P: Into<String>>(pointers: impl IntoIterator<Item = P>) -> Self {
        Self::Tags {
            pointers: Some(texts(pointers)),
        }
    }

    /// Calling one direct method, with any payload.
    pub fn direct_method(name: impl Into<String>) -> Self {
        Self::DirectMethod {
            direct_method_name: Some(name.into()),
            payload_policy: None,
        }
    }

    /// Calling one direct method with a payload for which all of `conditions` hold.
    ///
    /// ```
    /// # use relay_protocol::{Condition, Grant};
    /// Grant::direct_method_if(
    ///     "thingspro-api-v1",
    ///     [Condition::equals("/method", "GET"), Condition::matches("/path", "/tags/*")],
    /// );
    /// ```
    pub fn direct_method_if(
        name: impl Into<String>,
        conditions: impl IntoIterator<Item = Condition>,
    ) -> Self {
        Self::DirectMethod {
            direct_method_name: Some(name.into()),
            payload_policy: Some(conditions.into_iter().collect()),
        }
    }

    /// Calling every direct method, with any payload.
    pub fn every_direct_method() -> Self {
        Self::DirectMethod {
            direct_method_name: None,
            payload_policy: None,
        }
    }
}

fn texts<P: Into<String>>(pointers: impl IntoIterator<Item = P>) -> Vec<String> {
    pointers.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn wire(on: Identity, grant: Grant) -> Value {
        let request = GrantRequest::new(&"s".into(), on, grant);
        let written = serde_json::to_value(&request).unwrap();
        let read: GrantRequest = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(read, request);
        written
    }

    fn of_device(grant: Grant) -> Value {
        wire(Identity::device("d"), grant)
    }

    #[test]
    fn every_kind_has_its_documented_shape() {
        assert_eq!(
            of_device(Grant::telemetry("t")),
            json!({"sessionId": "s", "deviceId": "d", "type": "telemetry", "telemetryKey": "t"})
        );
        assert_eq!(
            of_device(Grant::every_direct_method()),
            json!({"sessionId": "s", "deviceId": "d", "type": "directMethod", "directMethodName": null})
        );
        for (grant, name) in [
            (Grant::device_twin(), "deviceTwin"),
            (Grant::ConnectionState, "connectionState"),
            (Grant::D2cMessages, "d2cMessages"),
            (Grant::desired_properties(), "desiredProperties"),
            (Grant::tags(), "tags"),
        ] {
            assert_eq!(
                of_device(grant),
                json!({"sessionId": "s", "deviceId": "d", "type": name})
            );
        }
    }

    #[test]
    fn what_narrows_a_grant_stands_beside_its_type() {
        for (grant, name) in [
            (Grant::device_twin_at(["/tags/site"]), "deviceTwin"),
            (
                Grant::desired_properties_at(["/tags/site"]),
                "desiredProperties",
            ),
            (Grant::tags_at(["/tags/site"]), "tags"),
        ] {
            assert_eq!(
                of_device(grant),
                json!({"sessionId": "s", "deviceId": "d", "type": name, "pointers": ["/tags/site"]})
            );
        }
        let conditions = [
            Condition::equals("/method", "GET"),
            Condition::matches("/path", "/tags/*"),
        ];
        assert_eq!(
            wire(
                Identity::module("d", "m"),
                Grant::direct_method_if("api", conditions)
            ),
            json!({
                "sessionId": "s", "deviceId": "d", "moduleId": "m",
                "type": "directMethod", "directMethodName": "api",
                "payloadPolicy": [
                    {"pointer": "/method", "equals": "GET"},
                    {"pointer": "/path", "matches": "/tags/*"},
                ],
            })
        );
    }

    #[test]
    fn an_absent_key_reads_as_every_key() {
        let request: GrantRequest =
            serde_json::from_value(json!({"sessionId": "s", "deviceId": "d", "type": "telemetry"}))
                .unwrap();
        assert_eq!(request.grant, Grant::every_telemetry_key());
    }

    #[test]
    fn a_narrowing_is_never_lost_on_the_way() {
        let empty = of_device(Grant::device_twin_at([""; 0]));
        assert_eq!(empty["pointers"], json!([]));
        let empty = of_device(Grant::direct_method_if("m", []));
        assert_eq!(empty["payloadPolicy"], json!([]));
        for narrowing in [
            json!({"type": "deviceTwin", "pointers": null}),
            json!({"type": "directMethod", "payloadPolicy": null}),
            json!({"type": "directMethod", "payloadPolicy": [{"pointer": "/a"}]}),
        ] {
            assert!(serde_json::from_value::<Grant>(narrowing).is_err());
        }
    }
}
