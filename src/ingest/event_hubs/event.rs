//! From an AMQP message to what the decoder reads of it.

use std::borrow::Cow;

use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::{AmqpSequence, AmqpValue, Body, Message};
use fe2o3_amqp_types::primitives::{LazyValue, SimpleValue, Value};

use crate::ingest::decode::{Properties, Property};

/// Longest AMQP value section other than text and binary that is taken apart; it bounds how deep such a value can nest.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// The sequence number of the event in its partition.
pub(super) fn sequence_number(message: &Message<Body<LazyValue>>) -> Option<i64> {
    let annotations = message.message_annotations.as_ref()?;
    annotations
        .0
        .iter()
        .find_map(|(key, value)| match (key, value) {
            (OwnedKey::Symbol(name), Value::Long(number)) if name.0 == "x-opt-sequence-number" => {
                Some(*number)
            }
            _ => None,
        })
}

/// What the message annotations say.
pub(super) fn annotations(message: &Message<Body<LazyValue>>) -> Properties<'_> {
    let mut properties = Properties::default();
    for (key, value) in message
        .message_annotations
        .iter()
        .flat_map(|annotations| annotations.0.iter())
    {
        if let OwnedKey::Symbol(name) = key {
            properties.set(&name.0, property(value));
        }
    }
    properties
}

/// What the application properties say.
pub(super) fn application_properties(message: &Message<Body<LazyValue>>) -> Properties<'_> {
    let mut properties = Properties::default();
    for (name, value) in message
        .application_properties
        .iter()
        .flat_map(|properties| properties.0.iter())
    {
        properties.set(name, simple_property(value));
    }
    properties
}

/// The body as bytes: data as it is, several data sections joined, an AMQP string or binary as its content, any other
/// AMQP value as JSON. `None` when it cannot be read.
pub(super) fn body(message: &Message<Body<LazyValue>>) -> Option<Cow<'_, [u8]>> {
    match &message.body {
        Body::Data(sections) => {
            let mut sections = sections.iter().map(|section| section.0.as_slice());
            let first = sections.next().unwrap_or_default();
            Some(match sections.next() {
                None => Cow::Borrowed(first),
                Some(second) => {
                    let joined = [first, second].into_iter().chain(sections);
                    Cow::Owned(joined.collect::<Vec<_>>().concat())
                }
            })
        }
        Body::Value(AmqpValue(value)) => value_body(value.as_slice()),
        Body::Sequence(sections) => {
            let elements: Option<Vec<serde_json::Value>> = sections
                .iter()
                .flat_map(|AmqpSequence(elements)| elements)
                .map(|element| json_of(element.as_slice()))
                .collect();
            elements.map(|elements| {
                Cow::Owned(serde_json::Value::from(elements).to_string().into_bytes())
            })
        }
        Body::Empty => Some(Cow::Borrowed(&[])),
    }
}

fn value_body(encoded: &[u8]) -> Option<Cow<'_, [u8]>> {
    // AMQP 1.0 §1.6: vbin8 and str8 have one byte of length, vbin32 and str32 four.
    match encoded {
        [0xa0 | 0xa1, _, content @ ..] | [0xb0 | 0xb1, _, _, _, _, content @ ..] => {
            Some(Cow::Borrowed(content))
        }
        _ => json_of(encoded).map(|value| Cow::Owned(value.to_string().into_bytes())),
    }
}

fn json_of(encoded: &[u8]) -> Option<serde_json::Value> {
    if encoded.len() > VALUE_BYTES_MAX {
        return None;
    }
    json(serde_amqp::from_slice(encoded).ok()?)
}

fn json(value: Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Described(described) => return json(described.value),
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => value.into(),
        Value::Ubyte(value) => value.into(),
        Value::Ushort(value) => value.into(),
        Value::Uint(value) => value.into(),
        Value::Ulong(value) => value.into(),
        Value::Byte(value) => value.into(),
        Value::Short(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Long(value) => value.into(),
        Value::Float(value) => value.into_inner().into(),
        Value::Double(value) => value.into_inner().into(),
        Value::Char(value) => value.to_string().into(),
        Value::Timestamp(value) => value.milliseconds().into(),
        Value::String(value) => value.into(),
        Value::Symbol(value) => value.0.into(),
        Value::Uuid(value) => uuid::Uuid::from_bytes(value.into_inner())
            .to_string()
            .into(),
        Value::List(values) => values.into_iter().map(json).collect::<Option<_>>()?,
        Value::Array(values) => values.0.into_iter().map(json).collect::<Option<_>>()?,
        Value::Map(members) => members
            .into_iter()
            .map(|(key, value)| match key {
                Value::String(key) => Some((key, json(value)?)),
                Value::Symbol(key) => Some((key.0, json(value)?)),
                _ => None,
            })
            .collect::<Option<serde_json::Map<_, _>>>()?
            .into(),
        Value::Decimal32(_) | Value::Decimal64(_) | Value::Decimal128(_) | Value::Binary(_) => {
            return None;
        }
    })
}

fn property(value: &Value) -> Property<'_> {
    match value {
        Value::Null => Property::Absent,
        Value::String(text) => Property::Text(text),
        Value::Symbol(text) => Property::Text(&text.0),
        Value::Timestamp(time) => Property::TimestampMs(time.milliseconds()),
        Value::Long(number) => integer(*number),
        Value::Ulong(number) => i64::try_from(*number).map_or(Property::Other, integer),
        Value::Int(number) => Property::Number(f64::from(*number)),
        Value::Uint(number) => Property::Number(f64::from(*number)),
        Value::Double(number) => Property::Number(number.into_inner()),
        _ => Property::Other,
    }
}

fn simple_property(value: &SimpleValue) -> Property<'_> {
    match value {
        SimpleValue::Null => Property::Absent,
        SimpleValue::String(text) => Property::Text(text),
        SimpleValue::Symbol(text) => Property::Text(&text.0),
        SimpleValue::Timestamp(time) => Property::TimestampMs(time.milliseconds()),
        SimpleValue::Long(number) => integer(*number),
        SimpleValue::Ulong(number) => i64::try_from(*number).map_or(Property::Other, integer),
        SimpleValue::Int(number) => Property::Number(f64::from(*number)),
        SimpleValue::Uint(number) => Property::Number(f64::from(*number)),
        SimpleValue::Double(number) => Property::Number(number.into_inner()),
        _ => Property::Other,
    }
}

#[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
fn integer(number: i64) -> Property<'static> {
    Property::Number(number as f64)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::messaging::{ApplicationProperties, Batch, Data, MessageAnnotations};
    use fe2o3_amqp_types::primitives::{Binary, OrderedMap, Symbol, Timestamp};
    use serde_amqp::lazy::to_lazy_value;

    use super::*;

    fn message(body: Body<LazyValue>) -> Message<Body<LazyValue>> {
        Message::builder().body(body).build()
    }

    fn lazy(value: &Value) -> LazyValue {
        to_lazy_value(value).unwrap()
    }

    fn body_text(sections: Body<LazyValue>) -> Option<String> {
        let message = message(sections);
        let body = body(&message)?.into_owned();
        Some(String::from_utf8(body).unwrap())
    }

    #[test]
    fn every_kind_of_body_is_read() {
        let data = |parts: &[&str]| {
            Body::Data(Batch::new(
                parts
                    .iter()
                    .map(|part| Data::from(part.as_bytes()))
                    .collect::<Vec<_>>(),
            ))
        };
        assert_eq!(body_text(data(&[r#"{"a":1}"#])).unwrap(), r#"{"a":1}"#);
        assert_eq!(
            body_text(data(&["{\"a\"", ":", "1}"])).unwrap(),
            r#"{"a":1}"#
        );
        assert_eq!(body_text(Body::Empty).unwrap(), "");
        let value = |value: Value| body_text(Body::Value(AmqpValue(lazy(&value))));
        assert_eq!(
            value(Value::String(r#"{"a":1}"#.to_owned())).unwrap(),
            r#"{"a":1}"#
        );
        let long = "x".repeat(300);
        assert_eq!(value(Value::String(long.clone())).unwrap(), long);
        assert_eq!(value(Value::Binary(Binary::from(*b"[1]"))).unwrap(), "[1]");
        let members = OrderedMap::from_iter([
            (
                Value::String("a".to_owned()),
                Value::List(vec![Value::Long(i64::MAX), Value::Null]),
            ),
            (Value::Symbol(Symbol::from("b")), Value::Bool(true)),
        ]);
        let sent = value(Value::Map(members)).unwrap();
        assert_eq!(sent, r#"{"a":[9223372036854775807,null],"b":true}"#);
        assert_eq!(
            value(Value::Map(OrderedMap::from_iter([(
                Value::Int(1),
                Value::Null
            )]))),
            None
        );
        let sequence = AmqpSequence(vec![
            lazy(&Value::Int(1)),
            lazy(&Value::String("b".to_owned())),
        ]);
        assert_eq!(
            body_text(Body::Sequence(Batch::new(vec![sequence]))).unwrap(),
            r#"[1,"b"]"#
        );
    }

    #[test]
    fn a_structured_value_that_could_nest_too_deep_is_not_taken_apart() {
        let large = Value::List(vec![Value::String("x".repeat(VALUE_BYTES_MAX))]);
        assert_eq!(body_text(Body::Value(AmqpValue(lazy(&large)))), None);
    }

    #[test]
    fn both_bags_give_their_properties_in_every_type_a_sender_may_choose() {
        let mut message = message(Body::Empty);
        message.message_annotations = Some(
            MessageAnnotations::builder()
                .insert("x-opt-sequence-number", Value::Long(41))
                .insert(
                    "iothub-connection-device-id",
                    Value::String("d1".to_owned()),
                )
                .insert(
                    "iothub-message-source",
                    Value::Symbol(Symbol::from("Telemetry")),
                )
                .insert(
                    "iothub-enqueuedtime",
                    Value::Timestamp(Timestamp::from_milliseconds(7)),
                )
                .build(),
        );
        message.application_properties = Some(
            ApplicationProperties::builder()
                .insert("iothub-enqueuedtime", SimpleValue::Long(1_714_557_600_123))
                .insert("deviceId", SimpleValue::Bool(true))
                .insert("opType", SimpleValue::Null)
                .build(),
        );
        assert_eq!(sequence_number(&message), Some(41));
        let expected = Properties {
            connection_device_id: Property::Text("d1"),
            message_source: Property::Text("Telemetry"),
            enqueued_time: Property::TimestampMs(7),
            ..Properties::default()
        };
        assert_eq!(annotations(&message), expected);
        let expected = Properties {
            enqueued_time: Property::Number(1_714_557_600_123.0),
            device_id: Property::Other,
            ..Properties::default()
        };
        assert_eq!(application_properties(&message), expected);
    }
}
