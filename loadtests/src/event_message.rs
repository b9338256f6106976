//! The messages that are sent and how they come back: 200 bytes of telemetry that carry their number and their time.
//!
//! Numbers and times have a fixed width, so a message is a copy of its device's template with digits put in, and what
//! arrives can be compared with what was sent byte for byte.

use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::{Data, Message, MessageAnnotations};
use fe2o3_amqp_types::primitives::{Symbol, Timestamp, Value};

/// Telemetry keys in each message.
pub(crate) const KEYS: [&str; 9] = [
    "sequence",
    "sent_at_us",
    "temperature",
    "pressure",
    "humidity",
    "position",
    "running",
    "mode",
    "message",
];

const BODY_BEFORE: &str = "{\"sequence\":";
const BODY_BETWEEN: &str = ",\"sent_at_us\":";
const BODY_AFTER: &str = r#","temperature":21.53,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.52,"lon":13.405},"running":true,"mode":"automatic","message":"all's well"}"#;

/// Added to numbers and times, so that they always have as many digits.
const SEQUENCE_BASE: u64 = 1_000_000_000;
const SEQUENCE_DIGITS: usize = 10;
const TIME_BASE: u64 = 1_000_000_000_000;
const TIME_DIGITS: usize = 13;

const BODY_BYTES: usize =
    BODY_BEFORE.len() + SEQUENCE_DIGITS + BODY_BETWEEN.len() + TIME_DIGITS + BODY_AFTER.len();
const _: () = assert!(BODY_BYTES == 200, "messages are 200 bytes");

const DEVICE_DIGITS: usize = 5;

/// The name of a device.
pub(crate) fn device_id(device: usize) -> String {
    format!("load-{device:0DEVICE_DIGITS$}")
}

/// The encoded AMQP message of one device, as IoT Hub stamps it.
#[derive(Debug)]
pub(crate) struct Template {
    encoded: Vec<u8>,
}

impl Template {
    pub(crate) fn new(device: usize) -> anyhow::Result<Self> {
        let body = [
            BODY_BEFORE,
            &SEQUENCE_BASE.to_string(),
            BODY_BETWEEN,
            &TIME_BASE.to_string(),
            BODY_AFTER,
        ]
        .concat();
        let encoded = encode(&device_id(device), body)?;
        Ok(Self { encoded })
    }

    /// The encoded message number `sequence` of the device, counted from 1, sent at a time since the start of the run.
    pub(crate) fn message(&self, sequence: u64, sent_at_us: u64) -> Vec<u8> {
        let mut encoded = self.encoded.clone();
        // The body is what an encoded message ends with.
        let body = encoded.len() - BODY_BYTES;
        let sequence_at = body + BODY_BEFORE.len();
        put_digits(
            &mut encoded[sequence_at..sequence_at + SEQUENCE_DIGITS],
            SEQUENCE_BASE + sequence,
        );
        let time_at = sequence_at + SEQUENCE_DIGITS + BODY_BETWEEN.len();
        put_digits(
            &mut encoded[time_at..time_at + TIME_DIGITS],
            TIME_BASE + sent_at_us,
        );
        encoded
    }

    /// The body of an encoded message.
    #[cfg(test)]
    pub(crate) fn body(message: &[u8]) -> &[u8] {
        // It is what an encoded message ends with.
        &message[message.len() - BODY_BYTES..]
    }
}

/// The encoded AMQP message with this body, as IoT Hub stamps it.
pub(crate) fn encode(device_id: &str, body: String) -> anyhow::Result<Vec<u8>> {
    let annotation = |name: &str, value: Value| (OwnedKey::from(Symbol::from(name)), value);
    let text = |text: &str| Value::String(text.to_owned());
    let mut annotations = MessageAnnotations::default();
    for (name, value) in [
        annotation("iothub-connection-device-id", text(device_id)),
        annotation(
            "iothub-connection-auth-method",
            text(r#"{"scope":"device","type":"sas","issuer":"iothub"}"#),
        ),
        annotation(
            "iothub-connection-auth-generation-id",
            text("638500000000000000"),
        ),
        annotation(
            "iothub-enqueuedtime",
            Value::Timestamp(Timestamp::from_milliseconds(1_777_629_600_000)),
        ),
        annotation("iothub-message-source", text("Telemetry")),
    ] {
        annotations.insert(name, value);
    }
    let message = Message {
        message_annotations: Some(annotations),
        ..Message::from(Data::from(body.into_bytes()))
    };
    Ok(serde_amqp::to_vec(&Serializable(message))?)
}

/// What a delivered update says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) device: usize,
    pub(crate) sequence: u64,
    pub(crate) sent_at_us: u64,
}

impl Delivery {
    /// Reads the Engine.IO packet of an update; `None` unless it holds exactly what was sent.
    pub(crate) fn parse(packet: &str) -> Option<Self> {
        let (delivery, _) = Self::read(packet.strip_prefix(r#"42["data","#)?)?;
        Some(delivery)
    }

    /// Reads the beginning of an object that holds an update; `None` unless that is exactly what was sent. Returns the
    /// text from the timestamp on as well.
    pub(crate) fn read(text: &str) -> Option<(Self, &str)> {
        let rest = text.strip_prefix(r#"{"deviceId":"load-"#)?;
        let (device, rest) = digits(rest, DEVICE_DIGITS)?;
        let rest = rest
            .strip_prefix("\",\"telemetry\":")?
            .strip_prefix(BODY_BEFORE)?;
        let (sequence, rest) = digits(rest, SEQUENCE_DIGITS)?;
        let rest = rest.strip_prefix(BODY_BETWEEN)?;
        let (sent_at, rest) = digits(rest, TIME_DIGITS)?;
        let rest = rest
            .strip_prefix(BODY_AFTER)?
            .strip_prefix(",\"timestamp\":\"")?;
        let delivery = Self {
            device: usize::try_from(device).ok()?,
            sequence: sequence.checked_sub(SEQUENCE_BASE)?,
            sent_at_us: sent_at.checked_sub(TIME_BASE)?,
        };
        Some((delivery, rest))
    }
}

fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a remainder of ten");
        number /= 10;
    }
}

fn digits(text: &str, count: usize) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(message: &[u8]) -> String {
        let body = std::str::from_utf8(Template::body(message)).unwrap();
        format!(
            r#"42["data",{{"deviceId":"load-00042","telemetry":{body},"timestamp":"2026-05-01T10:00:00.000Z"}}]"#
        )
    }

    #[test]
    fn a_message_comes_back_as_it_was_sent() {
        let message = Template::new(42).unwrap().message(7, 1_234_567);
        let delivery = Delivery {
            device: 42,
            sequence: 7,
            sent_at_us: 1_234_567,
        };
        assert_eq!(Delivery::parse(&packet(&message)), Some(delivery));
    }

    #[test]
    fn a_changed_value_is_noticed() {
        let packet = packet(&Template::new(42).unwrap().message(7, 0));
        assert_eq!(Delivery::parse(&packet.replace("21.53", "21.54")), None);
        assert_eq!(Delivery::parse(&packet.replace("load-", "else-")), None);
    }

    #[test]
    fn every_key_is_in_the_body() {
        let message = Template::new(0).unwrap().message(1, 0);
        let body: serde_json::Value = serde_json::from_slice(Template::body(&message)).unwrap();
        let keys: Vec<&str> = body
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys.len(), KEYS.len());
        assert!(KEYS.iter().all(|key| keys.contains(key)));
    }
}
