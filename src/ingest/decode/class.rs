//! What kind of event it is, by the source that IoT Hub stamped on it and the schema that a producer claims.

use super::Event;
use super::properties::Property;
use crate::domain::device_message::TwinEventKind;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A device sent data.
    Telemetry,
    /// A device connected or disconnected.
    ConnectionState,
    /// A device's twin changed.
    Twin,
    /// Something of the hub that the relay has no use for.
    Ignored(Ignored),
}

/// Why an event is of no use to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// A known kind of event: life cycle, digital twin, jobs.
    OtherEvent,
    /// Source and schema are both unknown.
    UnknownEvent,
    /// It is about a module, not a device.
    Module,
}

const OTHER_SOURCES: [&str; 5] = [
    "deviceLifecycleEvents",
    "digitalTwinChangeEvents",
    "deviceJobLifecycleEvents",
    "jobLifecycleEvents",
    "mqttBrokerMessages",
];

const OTHER_SCHEMAS: [&str; 3] = [
    "deviceLifecycleNotification",
    "moduleLifecycleNotification",
    "digitalTwinChangeNotification",
];

/// Classifies an event. The first match counts: connection state, twin, telemetry, other. An event with neither source
/// nor schema is telemetry, because plain producers set none; an unknown one is not.
pub(super) fn classify(event: &Event<'_>) -> Class {
    let source = event
        .annotations
        .message_source
        .or(event.application_properties.message_source);
    let schema = event
        .application_properties
        .message_schema
        .or(event.annotations.message_schema);
    let class = if is(schema, "deviceConnectionStateNotification")
        || is(source, "deviceConnectionStateEvents")
    {
        Class::ConnectionState
    } else if is(schema, "twinChangeNotification") || is(source, "twinChangeEvents") {
        Class::Twin
    } else if is(schema, "Telemetry") || is(source, "Telemetry") {
        Class::Telemetry
    } else if OTHER_SOURCES.iter().any(|other| is(source, other))
        || OTHER_SCHEMAS.iter().any(|other| is(schema, other))
    {
        return Class::Ignored(Ignored::OtherEvent);
    } else if source.text().is_none() && schema.text().is_none() {
        Class::Telemetry
    } else {
        return Class::Ignored(Ignored::UnknownEvent);
    };
    if is_about_module(event, class) {
        Class::Ignored(Ignored::Module)
    } else {
        class
    }
}

/// Whether the device is connected, as the event's operation says.
pub(super) fn connection_state(event: &Event<'_>) -> Option<bool> {
    let operation = operation_type(event)?;
    if operation.eq_ignore_ascii_case("deviceConnected") {
        Some(true)
    } else if operation.eq_ignore_ascii_case("deviceDisconnected") {
        Some(false)
    } else {
        None
    }
}

/// How much of the twin the event holds, as its operation says.
pub(super) fn twin_event_kind(event: &Event<'_>) -> Option<TwinEventKind> {
    let operation = operation_type(event)?;
    if operation.eq_ignore_ascii_case("updateTwin") {
        Some(TwinEventKind::Update)
    } else if operation.eq_ignore_ascii_case("replaceTwin") {
        Some(TwinEventKind::Replace)
    } else {
        None
    }
}

fn operation_type<'a>(event: &Event<'a>) -> Option<&'a str> {
    event
        .application_properties
        .operation_type
        .or(event.annotations.operation_type)
        .text()
}

/// The hub stamps the module on a module's telemetry; on its own events the application properties name it. On
/// telemetry an application property `moduleId` is the device's own and says nothing.
fn is_about_module(event: &Event<'_>, class: Class) -> bool {
    if event
        .annotations
        .connection_module_id
        .or(event.application_properties.connection_module_id)
        .text()
        .is_some()
    {
        return true;
    }
    match class {
        Class::ConnectionState | Class::Twin => {
            event.application_properties.module_id.text().is_some()
                || operation_type(event).is_some_and(|operation| {
                    operation.eq_ignore_ascii_case("moduleConnected")
                        || operation.eq_ignore_ascii_case("moduleDisconnected")
                })
        }
        Class::Telemetry | Class::Ignored(_) => false,
    }
}

fn is(property: Property<'_>, name: &str) -> bool {
    matches!(property, Property::Text(text) if text.eq_ignore_ascii_case(name))
}
