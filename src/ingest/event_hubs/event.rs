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
