//! The messages as an event hub takes them: AMQP, stamped as IoT Hub does.

use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::{Data, Message, MessageAnnotations};
use fe2o3_amqp_types::primitives::{Symbol, Timestamp, Value};

use crate::message::{BODY_BYTES, Body, device_id};

/// The encoded AMQP message of one device, without a number.
#[derive(Debug)]
pub(crate) struct EventTemplate {
    encoded: Vec<u8>,
}

impl EventTemplate {
    pub(crate) fn new(device: usize) -> anyhow::Result<Self> {
        let body = Body::new().set(device, 0).to_vec();
        let encoded = encode(&device_id(device), body)?;
        Ok(Self { encoded })
    }

    /// The encoded message with this body.
    pub(crate) fn message(&self, body: &[u8; BODY_BYTES]) -> Vec<u8> {
        let mut encoded = self.encoded.clone();
        // The body is what an encoded message ends with.
        let body_at = encoded.len() - BODY_BYTES;
        encoded[body_at..].copy_from_slice(body);
        encoded
    }
}

/// The encoded AMQP message with this body, as IoT Hub stamps it.
pub(crate) fn encode(device_id: &str, body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
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
        ..Message::from(Data::from(body))
    };
    Ok(serde_amqp::to_vec(&Serializable(message))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_its_body() {
        let mut body = Body::new();
        let body = body.set(42, 7);
        let encoded = EventTemplate::new(42).unwrap().message(body);
        assert!(encoded.ends_with(body));
        assert_eq!(encoded, encode(&device_id(42), body.to_vec()).unwrap());
    }
}
