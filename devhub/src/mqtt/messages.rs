//! Messages from and to devices: which properties of a topic are the hub's own, and what they mean.
//!
//! Names that begin with `$.` are system properties; all others are the sender's. The retain flag is
//! not honoured but becomes a property, and so does being a will. See "Communicate with an IoT hub
//! using the MQTT protocol" and "Create and read IoT Hub messages" in the Azure documentation.

use bytes::Bytes;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::iot_hub::{CloudToDeviceMessage, SystemProperties, TelemetryMessage};

/// The property that says that a message was published with the retain flag.
const RETAIN: (&str, &str) = ("mqtt-retain", "true");

/// The property that says that a message is a will.
const WILL: (&str, &str) = ("iothub-MessageType", "Will");

/// A message to the cloud with these properties, as they stand in its topic, of a client with this model id.
pub(super) fn to_cloud(
    properties: Vec<(String, String)>,
    is_retained: bool,
    body: Bytes,
    model_id: Option<&str>,
) -> TelemetryMessage {
    let mut message = TelemetryMessage {
        body,
        ..TelemetryMessage::default()
    };
    message.system.data_schema = model_id.map(str::to_owned);
    for (name, value) in properties {
        match name.strip_prefix("$.") {
            Some(system) => set(&mut message.system, system, value),
            None => message.properties.push((name, value)),
        }
    }
    if is_retained {
        mark(&mut message, RETAIN);
    }
    message
}

/// The same message as a will.
pub(super) fn as_will(mut message: TelemetryMessage) -> TelemetryMessage {
    mark(&mut message, WILL);
    message
}

/// The properties of a message to a device, as they stand in its topic.
pub(super) fn to_device(device_id: &str, message: &CloudToDeviceMessage) -> Vec<(String, String)> {
    let expires = message
        .expires_at_ms
        .and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok())
        .map(|at| at.to_string());
    let system = [
        ("$.mid", message.message_id.clone()),
        (
            "$.to",
            Some(format!("/devices/{device_id}/messages/deviceBound")),
        ),
        ("$.cid", message.correlation_id.clone()),
        ("$.uid", message.user_id.clone()),
        ("$.ct", message.content_type.clone()),
        ("$.ce", message.content_encoding.clone()),
        ("$.exp", expires),
    ];
    let system = system
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    system.chain(message.properties.iter().cloned()).collect()
}

fn mark(message: &mut TelemetryMessage, (name, value): (&str, &str)) {
    message.properties.retain(|(own, _)| own != name);
    message.properties.push((name.to_owned(), value.to_owned()));
}

/// Sets a system property. Those that mean something to IoT Edge only, and those of newer SDKs, are
/// ignored.
fn set(system: &mut SystemProperties, name: &str, value: String) {
    match name {
        "mid" => system.message_id = Some(value),
        "cid" => system.correlation_id = Some(value),
        "uid" => system.user_id = Some(value),
        "to" => system.to = Some(value),
        "ct" => system.content_type = Some(value),
        "ce" => system.content_encoding = Some(value),
        "ctime" => system.creation_time_ms = time_ms(&value),
        "exp" => system.absolute_expiry_time_ms = time_ms(&value),
        "sub" => system.subject = Some(value),
        "ifid" => system.interface_id = Some(value),
        _ => tracing::debug!(property.name = name, "ignored a system property"),
    }
}

/// A time in ISO 8601, in milliseconds since the Unix epoch; without an offset it is in UTC.
fn time_ms(text: &str) -> Option<i64> {
    let with_offset = || text.parse::<Timestamp>().ok();
    let in_utc = || {
        let zoned = text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC);
        Some(zoned.ok()?.timestamp())
    };
    let time = with_offset().or_else(in_utc);
    if time.is_none() {
        tracing::info!("ignored a time of a message that is not in ISO 8601");
    }
    time.map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_with(properties: &[(&str, &str)], is_retained: bool) -> TelemetryMessage {
        let own = |text: &str| text.to_owned();
        let properties = properties.iter().map(|(n, v)| (own(n), own(v)));
        to_cloud(properties.collect(), is_retained, Bytes::new(), None)
    }

    #[test]
    fn system_properties_are_told_from_the_devices_own() {
        let message = message_with(
            &[
                ("$.mid", "m"),
                ("$.cid", "c"),
                ("$.uid", "u"),
                ("$.to", "t"),
                ("$.ct", "application/json"),
                ("$.ce", "utf-8"),
                ("$.ctime", "2022-01-16T16:36:53.814Z"),
                ("$.exp", "2022-01-16T16:36:53.814000"),
                ("$.sub", "thermostat"),
                ("$.ifid", "i"),
                ("$.on", "edge"),
                ("b", "2"),
                ("a", "1"),
            ],
            false,
        );
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            message.system,
            SystemProperties {
                message_id: some("m"),
                correlation_id: some("c"),
                user_id: some("u"),
                to: some("t"),
                content_type: some("application/json"),
                content_encoding: some("utf-8"),
                creation_time_ms: Some(1_642_351_013_814),
                absolute_expiry_time_ms: Some(1_642_351_013_814),
                subject: some("thermostat"),
                interface_id: some("i"),
                data_schema: None,
            }
        );
        let names: Vec<_> = message
            .properties
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn a_device_is_told_what_the_service_said_and_that_it_is_for_it() {
        let message = CloudToDeviceMessage {
            message_id: Some("m".to_owned()),
            expires_at_ms: Some(1_642_351_013_814),
            properties: vec![("x".to_owned(), "1".to_owned())],
            ..CloudToDeviceMessage::default()
        };
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(
            to_device("press-01", &message),
            [
                ("$.mid", "m"),
                ("$.to", "/devices/press-01/messages/deviceBound"),
                ("$.exp", "2022-01-16T16:36:53.814Z"),
                ("x", "1"),
            ]
            .map(own)
        );
    }

    #[test]
    fn a_time_that_is_none_is_no_property() {
        assert_eq!(
            message_with(&[("$.exp", "soon")], false).system,
            SystemProperties::default()
        );
    }

    #[test]
    fn the_hub_marks_wills_and_retained_messages_whatever_the_device_says() {
        let message = message_with(&[("mqtt-retain", "false"), ("x", "1")], true);
        let message = as_will(message);
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(
            message.properties,
            [
                ("x", "1"),
                ("mqtt-retain", "true"),
                ("iothub-MessageType", "Will")
            ]
            .map(own)
        );
    }
}
