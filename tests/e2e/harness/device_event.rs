//! Device events as IoT Hub, a gateway or a careless producer puts them into an event hub.

use std::sync::atomic::{AtomicU64, Ordering};

use fe2o3_amqp_types::{
    messaging::{ApplicationProperties, Data, Message, MessageAnnotations, annotations::OwnedKey},
    primitives::{SimpleValue, Symbol, Timestamp, Value},
};
use serde_json::json;

/// An event to inject: a body, application properties, and message annotations, which IoT Hub uses as its system
/// properties.
#[derive(Clone, Debug)]
pub(crate) struct DeviceEvent {
    partition_key: String,
    body: Vec<u8>,
    properties: ApplicationProperties,
    annotations: MessageAnnotations,
}

impl DeviceEvent {
    /// Telemetry as a custom producer marks it (the event TT of the published checks).
    pub(crate) fn telemetry(device_id: &str, body: &serde_json::Value) -> Self {
        Self::telemetry_bytes(device_id, body.to_string())
    }

    /// Telemetry whose body need not be JSON.
    pub(crate) fn telemetry_bytes(device_id: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::bare(device_id, body)
            .property("iothub-connection-device-id", device_id)
            .property("iothub-message-schema", "Telemetry")
    }

    /// Telemetry as IoT Hub stamps it.
    pub(crate) fn stamped_by_iot_hub(device_id: &str, body: &serde_json::Value) -> Self {
        Self::bare(device_id, body.to_string())
            .annotation("iothub-connection-device-id", device_id)
            .annotation("iothub-message-source", "Telemetry")
    }

    /// Nothing but a body. `partition_key` keeps its order with other events of that key.
    pub(crate) fn bare(partition_key: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            partition_key: partition_key.to_owned(),
            body: body.into(),
            properties: ApplicationProperties::default(),
            annotations: MessageAnnotations::default(),
        }
    }

    /// A device connected or disconnected: `operation` is `deviceConnected` or `deviceDisconnected`. Each event is newer
    /// than those made before it.
    pub(crate) fn connection_state(device_id: &str, operation: &str) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(1);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "sequenceNumber": format!("000000000000000001D8713FF7E0851400000002{number:024X}"),
        });
        Self::notification(
            device_id,
            "deviceConnectionStateNotification",
            operation,
            &body,
        )
        .annotation("iothub-message-source", "deviceConnectionStateEvents")
    }

    /// A twin changed: `operation` is `updateTwin` or `replaceTwin`.
    pub(crate) fn twin_change(device_id: &str, operation: &str, body: &serde_json::Value) -> Self {
        Self::notification(device_id, "twinChangeNotification", operation, body)
            .annotation("iothub-message-source", "twinChangeEvents")
    }

    fn notification(
        device_id: &str,
        schema: &str,
        operation: &str,
        body: &serde_json::Value,
    ) -> Self {
        Self::bare(device_id, body.to_string())
            .annotation("iothub-connection-device-id", device_id)
            .property("deviceId", device_id)
            .property("hubName", "hub")
            .property("opType", operation)
            .property("iothub-message-schema", schema)
            .property("operationTimestamp", "2024-05-01T10:00:00.0000000Z")
    }

    /// The same of a module of the device, as IoT Hub stamps it.
    pub(crate) fn of_module(self, module_id: &str) -> Self {
        let event = self.annotation("iothub-connection-module-id", module_id);
        if event.properties.contains_key("deviceId") {
            event.property("moduleId", module_id)
        } else {
            event
        }
    }

    /// Sets an application property.
    pub(crate) fn property(mut self, name: &str, value: impl Into<SimpleValue>) -> Self {
        self.properties.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a message annotation.
    pub(crate) fn annotation(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.annotations.insert(key(name), value.into());
        self
    }

    /// Sets `iothub-enqueuedtime` as IoT Hub does.
    pub(crate) fn enqueued_at_ms(self, milliseconds: i64) -> Self {
        self.annotation(
            "iothub-enqueuedtime",
            Timestamp::from_milliseconds(milliseconds),
        )
    }

    /// The event as an AMQP message; `with_partition_key` lets the event hub choose the partition by it.
    pub(super) fn into_message(self, with_partition_key: bool) -> Message<Data> {
        let mut annotations = self.annotations;
        if with_partition_key {
            annotations.insert(key("x-opt-partition-key"), self.partition_key.into());
        }
        Message {
            message_annotations: Some(annotations),
            application_properties: Some(self.properties),
            ..Message::from(Data::from(self.body))
        }
    }
}

fn key(name: &str) -> OwnedKey {
    OwnedKey::from(Symbol::from(name))
}
