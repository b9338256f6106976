//! The built-in endpoint of an IoT hub: what happens at the hub, as events of its event hub, each property in the
//! section where IoT Hub puts it.
//!
//! What IoT Hub knows for certain stands in message annotations, where a device cannot write; the device's own
//! properties are application properties. Telemetry carries the identity that sent it and how that was proven; the
//! hub's own notifications (connection state, twin change, lifecycle) do not, and share an envelope of application
//! properties instead. See "Create and read IoT Hub messages" and "IoT Hub non-telemetry event schemas" in the Azure
//! documentation.

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::authentication::AuthMethod;
use super::connection_sequence::ConnectionSequenceNumber;
use super::identity_id::IdentityId;
use super::telemetry_message::TelemetryMessage;
use crate::event::{AnnotationValue, Event};
use crate::event_hub::EventHub;

const CONNECTION_DEVICE_ID: &str = "iothub-connection-device-id";
const CONNECTION_MODULE_ID: &str = "iothub-connection-module-id";
const CONNECTION_AUTH_METHOD: &str = "iothub-connection-auth-method";
const CONNECTION_AUTH_GENERATION_ID: &str = "iothub-connection-auth-generation-id";
const ENQUEUED_TIME: &str = "iothub-enqueuedtime";
const MESSAGE_SOURCE: &str = "iothub-message-source";
const MESSAGE_SCHEMA: &str = "iothub-message-schema";
const INTERFACE_ID: &str = "iothub-interface-id";
const DATA_SCHEMA: &str = "dt-dataschema";
const SUBJECT: &str = "dt-subject";

/// Which sources reach the endpoint. An IoT hub without routes delivers telemetry alone; here, each is on unless it is
/// switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four routes, each of which is there or not"
)]
pub struct Routes {
    /// Device-to-cloud messages.
    pub telemetry: bool,
    /// Changes of twins.
    pub twin_changes: bool,
    /// Devices and modules that connect and disconnect.
    pub connection_states: bool,
    /// Identities that are created and deleted.
    pub lifecycle: bool,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            telemetry: true,
            twin_changes: true,
            connection_states: true,
            lifecycle: true,
        }
    }
}

/// Publishes what has a route. Events of a device and of its modules go to one partition.
#[derive(Debug)]
pub(super) struct BuiltInEndpoint {
    pub(super) event_hub: EventHub,
    pub(super) hub_name: String,
    pub(super) routes: RwLock<Routes>,
}

impl BuiltInEndpoint {
    pub(super) fn telemetry(&self, sender: Sender<'_>, message: TelemetryMessage, at_ms: i64) {
        if self.routes.read().telemetry {
            let event = telemetry(sender, message, at_ms);
            self.event_hub.publish(sender.id.device_id(), &event);
        }
    }

    pub(super) fn connection_state(
        &self,
        id: &IdentityId,
        change: ConnectionChange,
        sequence_number: ConnectionSequenceNumber,
        at_ms: i64,
    ) {
        if self.routes.read().connection_states {
            let notification = self.notification(id, at_ms);
            let event = notification.connection_state(change, sequence_number);
            self.event_hub.publish(id.device_id(), &event);
        }
    }

    pub(super) fn twin_change(
        &self,
        id: &IdentityId,
        operation: TwinOperation,
        body: &Value,
        at_ms: i64,
    ) {
        if self.routes.read().twin_changes {
            let event = self.notification(id, at_ms).twin_change(operation, body);
            self.event_hub.publish(id.device_id(), &event);
        }
    }

    pub(super) fn lifecycle(
        &self,
        id: &IdentityId,
        operation: LifecycleOperation,
        twin: &Value,
        at_ms: i64,
    ) {
        if self.routes.read().lifecycle {
            let event = self.notification(id, at_ms).lifecycle(operation, twin);
            self.event_hub.publish(id.device_id(), &event);
        }
    }

    fn notification<'a>(&'a self, id: &'a IdentityId, at_ms: i64) -> Notification<'a> {
        Notification {
            hub_name: &self.hub_name,
            id,
            at_ms,
            correlation_id: Uuid::new_v4(),
        }
    }
}

/// Who a message is from, as the hub knows it.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The device or module.
    pub id: &'a IdentityId,
    /// Decimal digits; others when an identity of the same id is created anew.
    pub generation_id: &'a str,
    /// How it proved who it is.
    pub auth_method: AuthMethod,
}

/// One device-to-cloud message, taken in by the hub at `enqueued_at_ms` (milliseconds since the Unix epoch).
pub fn telemetry(sender: Sender<'_>, message: TelemetryMessage, enqueued_at_ms: i64) -> Event {
    let TelemetryMessage {
        system,
        properties,
        body,
    } = message;
    let mut annotations = vec![string(CONNECTION_DEVICE_ID, sender.id.device_id())];
    if let Some(module_id) = sender.id.module_id() {
        annotations.push(string(CONNECTION_MODULE_ID, module_id));
    }
    annotations.extend([
        string(CONNECTION_AUTH_METHOD, sender.auth_method.annotation()),
        string(CONNECTION_AUTH_GENERATION_ID, sender.generation_id),
        timestamp(ENQUEUED_TIME, enqueued_at_ms),
        string(MESSAGE_SOURCE, "Telemetry"),
    ]);
    let told = [
        (SUBJECT, &system.subject),
        (INTERFACE_ID, &system.interface_id),
        (DATA_SCHEMA, &system.data_schema),
    ];
    annotations.extend(
        told.into_iter()
            .filter_map(|(name, value)| Some(string(name, value.as_deref()?))),
    );
    Event {
        annotations,
        message_id: system.message_id,
        to: system.to,
        content_type: system.content_type,
        content_encoding: system.content_encoding,
        correlation_id: system.correlation_id,
        user_id: system.user_id.map(Bytes::from),
        absolute_expiry_time_ms: system.absolute_expiry_time_ms,
        creation_time_ms: system.creation_time_ms,
        application_properties: properties,
        body,
    }
}

/// Which way a connection to the hub changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionChange {
    /// The device or module has come online.
    Connected,
    /// The device or module has gone offline.
    Disconnected,
}

/// How a twin was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinOperation {
    /// By a patch; the event holds what changed.
    Update,
    /// As a whole; the event holds the twin.
    Replace,
}

/// What happened to an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleOperation {
    /// It was registered.
    Create,
    /// It was removed.
    Delete,
}

/// What the hub tells about one of its identities by itself, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// The IoT hub's name, without a domain.
    pub hub_name: &'a str,
    /// The device or module it is about.
    pub id: &'a IdentityId,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Unlike that of every other event.
    pub correlation_id: Uuid,
}

impl Notification<'_> {
    /// The identity connected or disconnected. `sequence_number` must be the next of that identity.
    pub fn connection_state(
        &self,
        change: ConnectionChange,
        sequence_number: ConnectionSequenceNumber,
    ) -> Event {
        let operation = match (change, self.id.module_id()) {
            (ConnectionChange::Connected, None) => "deviceConnected",
            (ConnectionChange::Connected, Some(_)) => "moduleConnected",
            (ConnectionChange::Disconnected, None) => "deviceDisconnected",
            (ConnectionChange::Disconnected, Some(_)) => "moduleDisconnected",
        };
        self.event(
            "deviceConnectionStateEvents",
            "deviceConnectionStateNotification",
            operation,
            format!(r#"{{"sequenceNumber":"{sequence_number}"}}"#),
        )
    }

    /// The twin changed; the body is what changed, or all of it when it was replaced.
    pub fn twin_change(&self, operation: TwinOperation, body: &Value) -> Event {
        let operation = match operation {
            TwinOperation::Update => "updateTwin",
            TwinOperation::Replace => "replaceTwin",
        };
        self.event(
            "twinChangeEvents",
            "twinChangeNotification",
            operation,
            body.to_string(),
        )
    }

    /// The identity was created or deleted; the body is its twin.
    pub fn lifecycle(&self, operation: LifecycleOperation, twin: &Value) -> Event {
        let (schema, operation) = match (operation, self.id.module_id()) {
            (LifecycleOperation::Create, None) => {
                ("deviceLifecycleNotification", "createDeviceIdentity")
            }
            (LifecycleOperation::Delete, None) => {
                ("deviceLifecycleNotification", "deleteDeviceIdentity")
            }
            (LifecycleOperation::Create, Some(_)) => {
                ("moduleLifecycleNotification", "createModuleIdentity")
            }
            (LifecycleOperation::Delete, Some(_)) => {
                ("moduleLifecycleNotification", "deleteModuleIdentity")
            }
        };
        self.event("deviceLifecycleEvents", schema, operation, twin.to_string())
    }

    fn event(&self, source: &str, schema: &str, operation: &str, body: String) -> Event {
        let device_id = self.id.device_id();
        let mut annotations = vec![string(CONNECTION_DEVICE_ID, device_id)];
        let mut application_properties = vec![
            ("hubName".to_owned(), self.hub_name.to_owned()),
            ("deviceId".to_owned(), device_id.to_owned()),
        ];
        if let Some(module_id) = self.id.module_id() {
            annotations.push(string(CONNECTION_MODULE_ID, module_id));
            application_properties.push(("moduleId".to_owned(), module_id.to_owned()));
        }
        annotations.extend([
            timestamp(ENQUEUED_TIME, self.at_ms),
            string(MESSAGE_SOURCE, source),
        ]);
        application_properties.extend([
            ("opType".to_owned(), operation.to_owned()),
            (MESSAGE_SCHEMA.to_owned(), schema.to_owned()),
            ("operationTimestamp".to_owned(), timestamp_text(self.at_ms)),
        ]);
        Event {
            annotations,
            content_type: Some("application/json".to_owned()),
            content_encoding: Some("utf-8".to_owned()),
            correlation_id: Some(self.correlation_id.to_string()),
            user_id: Some(Bytes::copy_from_slice(self.hub_name.as_bytes())),
            application_properties,
            body: body.into(),
            ..Event::default()
        }
    }
}

/// ISO 8601 in UTC with seven fraction digits, as the hub writes every time. A time out of the calendar's range becomes
/// the nearest end of it.
pub(crate) fn timestamp_text(at_ms: i64) -> String {
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
mod tests;
