//! What kind of event it is, by the source that IoT Hub stamped on it and the schema that a producer claims.

use super::Event;
use super::properties::Property;
use crate::domain::device_message::TwinEventKind;
use crate::domain::id::DeviceName;

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
///
/// The application properties of what the hub stamped as telemetry are the sender's own. By them a gateway may tell of
/// the connections of its devices, unless `may_claim` is off. Nobody tells of twins but the hub, which has them.
#[inline]
pub(super) fn classify(event: &Event<'_>, may_claim: bool) -> Class {
    let by_a_device = is_by_a_device(event);
    let source = event
        .annotations
        .message_source
        .or(event.application_properties.message_source);
    let schema = event
        .application_properties
        .message_schema
        .or(event.annotations.message_schema);
    if by_a_device && (!may_claim || schema.text().is_none()) {
        return Class::Telemetry;
    }
    if is(schema, "deviceConnectionStateNotification") || is(source, "deviceConnectionStateEvents")
    {
        Class::ConnectionState
    } else if !by_a_device
        && (is(schema, "twinChangeNotification")
            || is(source, "twinChangeEvents")
            || is_creation(event))
    {
        Class::Twin
    } else if is(schema, "Telemetry") || is(source, "Telemetry") {
        Class::Telemetry
    } else if OTHER_SOURCES.iter().any(|other| is(source, other))
        || OTHER_SCHEMAS.iter().any(|other| is(schema, other))
    {
        Class::Ignored(Ignored::OtherEvent)
    } else if source.text().is_none() && schema.text().is_none() {
        Class::Telemetry
    } else {
        Class::Ignored(Ignored::UnknownEvent)
    }
}

/// Whether the hub stamped the event as a message of a device: what else it says of itself is the sender's word.
#[inline]
pub(super) fn is_by_a_device(event: &Event<'_>) -> bool {
    is(event.annotations.message_source, "Telemetry")
}

/// Whether the device is connected, as the event's operation says.
pub(super) fn connection_state(event: &Event<'_>) -> Option<bool> {
    let operation = operation_type(event)?;
    let is_one_of = |names: [&str; 2]| {
        names
            .iter()
            .any(|name| operation.eq_ignore_ascii_case(name))
    };
    if is_one_of(["deviceConnected", "moduleConnected"]) {
        Some(true)
    } else if is_one_of(["deviceDisconnected", "moduleDisconnected"]) {
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
    } else if operation.eq_ignore_ascii_case("replaceTwin") || is_creation(event) {
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

/// Whether a device or module was made: such a life cycle event holds the twin that it begins with.
fn is_creation(event: &Event<'_>) -> bool {
    operation_type(event).is_some_and(|operation| {
        operation.eq_ignore_ascii_case("createDeviceIdentity")
            || operation.eq_ignore_ascii_case("createModuleIdentity")
    })
}

/// The device that an event is about, and the module of it, if it is about one.
///
/// Application properties count before what the hub stamped, as in ux4iot, by which a gateway speaks for its devices. But
/// on telemetry they are the sender's own: with `may_claim` off they count only where the hub stamped no sender. A module
/// is one of the device that is named beside it. The hub names modules in application properties on its own events; on
/// telemetry one called `moduleId` says nothing.
#[inline]
pub(super) fn about<'a>(
    event: &Event<'a>,
    class: Class,
    may_claim: bool,
) -> Option<DeviceName<'a>> {
    let (properties, stamps) = (&event.application_properties, &event.annotations);
    let sender = stamps.connection_device_id.text();
    let believed = may_claim || class != Class::Telemetry || sender.is_none();
    let claimed = properties.connection_device_id.text().filter(|_| believed);
    let stamped_module = (stamps.connection_module_id.text())
        .filter(|_| claimed.is_none() || sender.is_none() || claimed == sender);
    let claimed_module = properties.connection_module_id.text();
    let module = stamped_module.or(claimed_module.filter(|_| believed));
    let named = || properties.module_id.text();
    Some(DeviceName {
        device: (claimed.or(sender)).or_else(|| properties.device_id.text())?,
        module: module.or_else(|| match class {
            Class::ConnectionState | Class::Twin => named(),
            Class::Telemetry | Class::Ignored(_) => None,
        }),
    })
}

/// Names are written as they are documented, mostly.
#[inline]
fn is(property: Property<'_>, name: &str) -> bool {
    matches!(property, Property::Text(text) if text == name || text.eq_ignore_ascii_case(name))
}
