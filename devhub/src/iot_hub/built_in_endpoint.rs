//! The events of an IoT hub's built-in endpoint, each property in the section where IoT Hub puts it.
//!
//! What IoT Hub knows for certain stands in message annotations, where a device cannot write; the
//! device's own properties are application properties. Telemetry carries the identity that sent it and
//! how that was proven; the hub's own notifications (connection state, twin change) do not, and share
//! an envelope of application properties instead. See "Create and read IoT Hub messages" and "IoT Hub
//! non-telemetry event schemas" in the Azure documentation.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::connection_sequence::ConnectionSequenceNumber;
use super::twin_change::TwinChange;
use crate::event::{AnnotationValue, Event};

const CONNECTION_DEVICE_ID: &str = "iothub-connection-device-id";
const CONNECTION_AUTH_METHOD: &str = "iothub-connection-auth-method";
const CONNECTION_AUTH_GENERATION_ID: &str = "iothub-connection-auth-generation-id";
const ENQUEUED_TIME: &str = "iothub-enqueuedtime";
const MESSAGE_SOURCE: &str = "iothub-message-source";
const MESSAGE_SCHEMA: &str = "iothub-message-schema";

/// How every simulated device proves who it is: with a token signed by its own key.
const DEVICE_KEY_AUTH_METHOD: &str =
    r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;

/// A device as the hub's registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The device's id, case-sensitive.
    pub device_id: String,
    /// Decimal digits; another one when a device of the same id is created anew.
    pub generation_id: String,
}

/// One device-to-cloud message with a JSON body, taken in by the hub at `enqueued_at_ms` (milliseconds
/// since the Unix epoch).
pub fn telemetry(device: &DeviceIdentity, body: Bytes, enqueued_at_ms: i64) -> Event {
    Event {
        annotations: vec![
            string(CONNECTION_DEVICE_ID, &device.device_id),
            string(CONNECTION_AUTH_METHOD, DEVICE_KEY_AUTH_METHOD),
            string(CONNECTION_AUTH_GENERATION_ID, &device.generation_id),
            timestamp(ENQUEUED_TIME, enqueued_at_ms),
            string(MESSAGE_SOURCE, "Telemetry"),
        ],
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("utf-8".to_owned()),
        body,
        ..Event::default()
    }
}

/// Which way a device's connection to the hub changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionChange {
    /// The device has come online.
    Connected,
    /// The device has gone offline.
    Disconnected,
}

/// What the hub tells about one of its devices by itself, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// The IoT hub's name, without a domain.
    pub hub_name: &'a str,
    /// The device it is about.
    pub device_id: &'a str,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Unlike that of every other event.
    pub correlation_id: Uuid,
}

impl Notification<'_> {
    /// The device connected or disconnected. `sequence_number` must be the next of that device.
    pub fn connection_state(
        &self,
        change: ConnectionChange,
        sequence_number: ConnectionSequenceNumber,
    ) -> Event {
        let operation = match change {
            ConnectionChange::Connected => "deviceConnected",
            ConnectionChange::Disconnected => "deviceDisconnected",
        };
        self.event(
            "deviceConnectionStateEvents",
            "deviceConnectionStateNotification",
            operation,
            format!(r#"{{"sequenceNumber":"{sequence_number}"}}"#),
        )
    }

    /// A part of the device's twin changed; the body holds that part alone.
    pub fn twin_update(&self, change: &TwinChange) -> Event {
        self.event(
            "twinChangeEvents",
            "twinChangeNotification",
            "updateTwin",
            change.to_json(),
        )
    }

    fn event(&self, source: &str, schema: &str, operation: &str, body: String) -> Event {
        let application_properties = [
            ("hubName", self.hub_name.to_owned()),
            ("deviceId", self.device_id.to_owned()),
            ("opType", operation.to_owned()),
            (MESSAGE_SCHEMA, schema.to_owned()),
            ("operationTimestamp", timestamp_text(self.at_ms)),
        ];
        Event {
            annotations: vec![
                string(CONNECTION_DEVICE_ID, self.device_id),
                timestamp(ENQUEUED_TIME, self.at_ms),
                string(MESSAGE_SOURCE, source),
            ],
            content_type: Some("application/json".to_owned()),
            content_encoding: Some("utf-8".to_owned()),
            correlation_id: Some(self.correlation_id.to_string()),
            user_id: Some(Bytes::copy_from_slice(self.hub_name.as_bytes())),
            application_properties: application_properties
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            body: body.into(),
        }
    }
}

/// ISO 8601 in UTC with seven fraction digits, as the hub writes every time. A time out of the
/// calendar's range becomes the nearest end of it.
pub(super) fn timestamp_text(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(if at_ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    });
    format!("{at:.7}")
}

fn string(name: &str, value: &str) -> (String, AnnotationValue) {
    (name.to_owned(), AnnotationValue::String(value.to_owned()))
}

fn timestamp(name: &str, at_ms: i64) -> (String, AnnotationValue) {
    (name.to_owned(), AnnotationValue::TimestampMs(at_ms))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::iot_hub::connection_sequence::ConnectionSequence;
    use crate::iot_hub::twin_change::{TwinSide, TwinVersions};

    /// 2022-01-16T16:36:53.814Z
    const AT_MS: i64 = 1_642_351_013_814;

    fn notification() -> Notification<'static> {
        Notification {
            hub_name: "factory",
            device_id: "press-01",
            at_ms: AT_MS,
            correlation_id: Uuid::from_u128(7),
        }
    }

    fn body(event: &Event) -> Value {
        serde_json::from_slice(&event.body).unwrap()
    }

    fn application_property<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
        let (_, value) = event
            .application_properties
            .iter()
            .find(|(own, _)| own == name)?;
        Some(value)
    }

    #[test]
    fn telemetry_carries_the_identity_in_annotations_only() {
        let device = DeviceIdentity {
            device_id: "press-01".to_owned(),
            generation_id: "637540164221770949".to_owned(),
        };
        let event = telemetry(&device, Bytes::from_static(b"{}"), AT_MS);
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
    fn a_connection_change_has_the_envelope_of_notifications() {
        let number = ConnectionSequence::default().next(AT_MS);
        let event = notification().connection_state(ConnectionChange::Disconnected, number);
        assert_eq!(
            event.annotations,
            [
                string("iothub-connection-device-id", "press-01"),
                timestamp("iothub-enqueuedtime", AT_MS),
                string("iothub-message-source", "deviceConnectionStateEvents"),
            ]
        );
        let expected = [
            ("hubName", "factory"),
            ("deviceId", "press-01"),
            ("opType", "deviceDisconnected"),
            ("iothub-message-schema", "deviceConnectionStateNotification"),
            ("operationTimestamp", "2022-01-16T16:36:53.8140000Z"),
        ];
        assert_eq!(event.application_properties.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(application_property(&event, name), Some(value), "{name}");
        }
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
    fn a_twin_change_names_its_device_in_the_envelope_and_not_in_the_body() {
        let patch = json!({ "firmware": "1.4.2" });
        let change = TwinVersions::default().update(
            TwinSide::Reported,
            patch.as_object().unwrap().clone(),
            AT_MS,
        );
        let event = notification().twin_update(&change);
        assert_eq!(application_property(&event, "opType"), Some("updateTwin"));
        assert_eq!(
            application_property(&event, "iothub-message-schema"),
            Some("twinChangeNotification")
        );
        assert_eq!(application_property(&event, "deviceId"), Some("press-01"));
        assert_eq!(body(&event)["properties"]["reported"]["firmware"], "1.4.2");
        assert_eq!(body(&event).get("deviceId"), None);
    }
}
