//! Each property in its place.

use serde_json::json;

use super::*;
use crate::iot_hub::authentication::{AuthKind, AuthScope};
use crate::iot_hub::connection_sequence::ConnectionSequence;
use crate::iot_hub::telemetry_message::SystemProperties;

/// 2022-01-16T16:36:53.814Z
const AT_MS: i64 = 1_642_351_013_814;

fn press() -> IdentityId {
    IdentityId::device("press-01").unwrap()
}

fn spindle() -> IdentityId {
    IdentityId::module("press-01", "spindle").unwrap()
}

fn notification(id: &IdentityId) -> Notification<'_> {
    Notification {
        hub_name: "factory",
        id,
        at_ms: AT_MS,
        correlation_id: Uuid::from_u128(7),
    }
}

fn body(event: &Event) -> Value {
    serde_json::from_slice(&event.body).unwrap()
}

fn properties(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn sender(id: &IdentityId, scope: AuthScope) -> Sender<'_> {
    Sender {
        id,
        generation_id: "637540164221770949",
        auth_method: AuthMethod {
            scope,
            kind: AuthKind::Sas,
            expires_at_ms: None,
        },
    }
}

#[test]
fn telemetry_carries_the_identity_in_annotations_only() {
    let id = press();
    let event = telemetry(
        sender(&id, AuthScope::Device),
        TelemetryMessage::json("{}"),
        AT_MS,
    );
    assert_eq!(
        event.annotations,
        [
            string("iothub-connection-device-id", "press-01"),
            string(
                "iothub-connection-auth-method",
                r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
            ),
            string("iothub-connection-auth-generation-id", "637540164221770949"),
            timestamp("iothub-enqueuedtime", AT_MS),
            string("iothub-message-source", "Telemetry"),
        ]
    );
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(event.application_properties, []);
}

#[test]
fn a_module_is_named_beside_its_device_and_system_properties_find_their_section() {
    let id = spindle();
    let message = TelemetryMessage {
        system: SystemProperties {
            message_id: Some("m".to_owned()),
            user_id: Some("u".to_owned()),
            subject: Some("thermostat".to_owned()),
            data_schema: Some("dtmi:a;1".to_owned()),
            creation_time_ms: Some(5),
            ..SystemProperties::default()
        },
        // A device cannot forge what the hub stamps.
        properties: properties(&[("iothub-connection-device-id", "other")]),
        body: Bytes::from_static(b"x"),
    };
    let event = telemetry(sender(&id, AuthScope::Module), message, AT_MS);
    assert_eq!(
        event.annotations[..2],
        [
            string("iothub-connection-device-id", "press-01"),
            string("iothub-connection-module-id", "spindle"),
        ]
    );
    assert_eq!(
        event.annotations[6..],
        [
            string("dt-subject", "thermostat"),
            string("dt-dataschema", "dtmi:a;1")
        ]
    );
    assert_eq!(event.message_id.as_deref(), Some("m"));
    assert_eq!(event.user_id.as_deref(), Some(b"u".as_slice()));
    assert_eq!(event.creation_time_ms, Some(5));
    assert_eq!(event.content_type, None);
    assert_eq!(
        event.application_properties,
        properties(&[("iothub-connection-device-id", "other")])
    );
}

#[test]
fn a_connection_change_has_the_envelope_of_notifications() {
    let number = ConnectionSequence::default().next(AT_MS);
    let id = press();
    let event = notification(&id).connection_state(ConnectionChange::Disconnected, number);
    assert_eq!(
        event.annotations,
        [
            string("iothub-connection-device-id", "press-01"),
            timestamp("iothub-enqueuedtime", AT_MS),
            string("iothub-message-source", "deviceConnectionStateEvents"),
        ]
    );
    assert_eq!(
        event.application_properties,
        properties(&[
            ("hubName", "factory"),
            ("deviceId", "press-01"),
            ("opType", "deviceDisconnected"),
            ("iothub-message-schema", "deviceConnectionStateNotification"),
            ("operationTimestamp", "2022-01-16T16:36:53.8140000Z"),
        ])
    );
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(event.user_id.as_deref(), Some(b"factory".as_slice()));
    assert_eq!(
        event.correlation_id.as_deref(),
        Some("00000000-0000-0000-0000-000000000007")
    );
    assert_eq!(
        body(&event),
        json!({ "sequenceNumber": number.to_string() })
    );
}

#[test]
fn the_operation_tells_devices_from_modules() {
    let number = ConnectionSequence::default().next(AT_MS);
    let operations = |id: &IdentityId| {
        let about = notification(id);
        let twin = json!({});
        [
            about.connection_state(ConnectionChange::Connected, number),
            about.lifecycle(LifecycleOperation::Create, &twin),
            about.lifecycle(LifecycleOperation::Delete, &twin),
            about.twin_change(TwinOperation::Replace, &twin),
        ]
        .map(|event| {
            let value = |name: &str| {
                let (_, value) = event
                    .application_properties
                    .iter()
                    .find(|(own, _)| own == name)?;
                Some(value.clone())
            };
            (
                value("opType").unwrap(),
                value("iothub-message-schema").unwrap(),
                value("moduleId"),
            )
        })
    };
    let expected = |rows: [(&str, &str); 4], module: Option<&str>| {
        rows.map(|(operation, schema)| {
            (
                operation.to_owned(),
                schema.to_owned(),
                module.map(str::to_owned),
            )
        })
    };
    assert_eq!(
        operations(&press()),
        expected(
            [
                ("deviceConnected", "deviceConnectionStateNotification"),
                ("createDeviceIdentity", "deviceLifecycleNotification"),
                ("deleteDeviceIdentity", "deviceLifecycleNotification"),
                ("replaceTwin", "twinChangeNotification"),
            ],
            None
        )
    );
    assert_eq!(
        operations(&spindle()),
        expected(
            [
                ("moduleConnected", "deviceConnectionStateNotification"),
                ("createModuleIdentity", "moduleLifecycleNotification"),
                ("deleteModuleIdentity", "moduleLifecycleNotification"),
                ("replaceTwin", "twinChangeNotification"),
            ],
            Some("spindle")
        )
    );
}
