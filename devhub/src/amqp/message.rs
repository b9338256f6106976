//! Messages (AMQP 1.0 §3.2): taken apart by section without decoding what the sections hold, and put
//! together for events and replies.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{
    self, DecodeError, Map, Reader, Value, put_binary, put_descriptor, put_long, put_map,
    put_string, put_symbol, put_timestamp,
};
use crate::event::{AnnotationValue, Event};

/// The message format of a batch: every data section is one encoded message.
pub(crate) const BATCH_FORMAT: u32 = 0x8001_3700;

pub(crate) const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
pub(crate) const OFFSET: &str = "x-opt-offset";
pub(crate) const ENQUEUED_TIME: &str = "x-opt-enqueued-time";
pub(crate) const PARTITION_KEY: &str = "x-opt-partition-key";

const HEADER: u8 = 0x70;
const DELIVERY_ANNOTATIONS: u8 = 0x71;
const MESSAGE_ANNOTATIONS: u8 = 0x72;
const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;
const SEQUENCE: u8 = 0x76;
const VALUE: u8 = 0x77;
const FOOTER: u8 = 0x78;

/// A message by its sections, all of them checked to be well-formed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message<'a> {
    /// The header section as it stands, descriptor included; empty when there is none.
    pub(crate) header: &'a [u8],
    pub(crate) annotations: Option<Map<'a>>,
    /// The members of the properties section, still encoded.
    properties: Option<&'a [u8]>,
    pub(crate) application_properties: Option<Map<'a>>,
    /// Body sections and footer.
    body: &'a [u8],
    /// Everything after the message annotations: what receivers must get unchanged.
    pub(crate) bare: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes an encoded message apart.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        // Requests of the Python SDK have no body, so its absence is no error; that of everything is.
        if bytes.is_empty() {
            return Err(DecodeError::Unexpected("a message"));
        }
        let mut message = Self::default();
        let mut reader = Reader::new(bytes);
        let mut previous = 0;
        while !reader.is_empty() {
            let at = reader.rest();
            let len = codec::validate(at)?;
            let section = reader.descriptor()?;
            let code = u8::try_from(section)
                .ok()
                .filter(|code| (HEADER..=FOOTER).contains(code))
                .ok_or(DecodeError::Unexpected("a message section"))?;
            let repeats = code == previous && matches!(code, DATA | SEQUENCE);
            let body_twice = code > DATA && code < FOOTER && previous >= DATA && code != previous;
            if (code <= previous && !repeats) || body_twice {
                return Err(DecodeError::Unexpected("the order of message sections"));
            }
            if code >= PROPERTIES && previous < PROPERTIES {
                message.bare = at;
            }
            if code >= DATA && previous < DATA {
                message.body = at;
            }
            previous = code;
            let value = reader.value()?;
            match (code, value) {
                (HEADER, Value::List(_)) => message.header = &at[..len],
                (MESSAGE_ANNOTATIONS, Value::Map(map)) => message.annotations = Some(map),
                (PROPERTIES, Value::List(list)) => message.properties = Some(list.bytes),
                (APPLICATION_PROPERTIES, Value::Map(map)) => {
                    message.application_properties = Some(map);
                }
                (DELIVERY_ANNOTATIONS | FOOTER, Value::Map(_))
                | (DATA, Value::Binary(_))
                | (SEQUENCE, Value::List(_))
                | (VALUE, _) => {}
                _ => return Err(DecodeError::Unexpected("the value of a message section")),
            }
        }
        Ok(message)
    }

    /// The data sections, in order.
    pub(crate) fn data(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || {
            if reader.descriptor().ok()? != u64::from(DATA) {
                return None;
            }
            match reader.value().ok()? {
                Value::Binary(data) => Some(data),
                _ => None,
            }
        })
    }

    /// The value of an amqp-value body.
    pub(crate) fn value(&self) -> Option<Value<'a>> {
        let mut reader = Reader::new(self.body);
        (reader.descriptor().ok()? == u64::from(VALUE)).then(|| reader.value().ok())?
    }

    /// The message-id, still encoded, so that a reply can carry it with its type.
    pub(crate) fn message_id(&self) -> Option<&'a [u8]> {
        Reader::new(self.properties?).raw().ok()
    }

    /// The address that replies go to.
    pub(crate) fn reply_to(&self) -> Option<&'a str> {
        let mut properties = Reader::new(self.properties?);
        for _ in 0..4 {
            properties.raw().ok()?;
        }
        properties.value().ok()?.text()
    }

    /// The partition key that the sender asked for.
    pub(crate) fn partition_key(&self) -> Option<&'a str> {
        self.annotations?.text(PARTITION_KEY)
    }
}

/// An event on its way into a partition, by the parts that the partition puts together.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'a> {
    header: Cow<'a, [u8]>,
    /// Encoded annotation entries of the sender, without those that the partition writes.
    annotations: Cow<'a, [u8]>,
    /// How many entries `annotations` holds.
    annotation_count: u32,
    bare: Cow<'a, [u8]>,
}

impl<'a> Draft<'a> {
    /// The message of a sender. `envelope_key` is the partition key of the batch it came in, for a
    /// message that has none of its own.
    pub(crate) fn from_message(
        message: &Message<'a>,
        envelope_key: Option<&str>,
    ) -> Result<Self, DecodeError> {
        let (mut annotations, mut annotation_count) = match message.annotations {
            Some(map) => without_stamps(map)?,
            None => (Cow::Borrowed(&[][..]), 0),
        };
        if let Some(key) = envelope_key.filter(|_| message.partition_key().is_none()) {
            let mut entry = BytesMut::new();
            put_symbol(&mut entry, PARTITION_KEY);
            put_string(&mut entry, key);
            annotations.to_mut().extend_from_slice(&entry);
            annotation_count += 1;
        }
        Ok(Self {
            header: message.header.into(),
            annotations,
            annotation_count,
            bare: message.bare.into(),
        })
    }

    /// An event that devhub itself publishes.
    pub(crate) fn from_event(event: &Event) -> Draft<'static> {
        let mut annotations = BytesMut::with_capacity(256);
        for (key, value) in &event.annotations {
            put_symbol(&mut annotations, key);
            match value {
                AnnotationValue::String(text) => put_string(&mut annotations, text),
                AnnotationValue::TimestampMs(ms) => put_timestamp(&mut annotations, *ms),
            }
        }
        let count = event.annotations.len();
        Draft {
            header: Cow::Borrowed(&[]),
            annotations: Cow::Owned(annotations.into()),
            annotation_count: u32::try_from(count).expect("annotations fit into memory"),
            bare: Cow::Owned(encode_bare(event)),
        }
    }

    /// The event as receivers get it, with its place in the partition stamped on, and the length of
    /// its header section: delivery annotations go behind that.
    pub(crate) fn stamp(
        &self,
        sequence_number: i64,
        offset: i64,
        enqueued_ms: i64,
    ) -> (Bytes, usize) {
        let len = self.header.len() + self.annotations.len() + self.bare.len();
        let mut out = BytesMut::with_capacity(len + 128);
        out.put_slice(&self.header);
        put_descriptor(&mut out, MESSAGE_ANNOTATIONS);
        put_map(&mut out, |out| {
            put_symbol(out, SEQUENCE_NUMBER);
            put_long(out, sequence_number);
            put_symbol(out, OFFSET);
            put_number_as_string(out, offset);
            put_symbol(out, ENQUEUED_TIME);
            put_timestamp(out, enqueued_ms);
            out.put_slice(&self.annotations);
            self.annotation_count + 3
        });
        out.put_slice(&self.bare);
        (out.freeze(), self.header.len())
    }
}

/// A reply of `$cbs` or `$management`.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    /// The message-id of the request, still encoded.
    pub(crate) correlation_id: Option<&'a [u8]>,
    pub(crate) status_code: i32,
    pub(crate) status_description: &'a str,
    /// Only on failure: the Python SDK takes its presence for one.
    pub(crate) error_condition: Option<&'a str>,
    /// An encoded value for the body; null when empty.
    pub(crate) body: &'a [u8],
}

impl Reply<'_> {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        put_descriptor(&mut out, PROPERTIES);
        codec::put_list(&mut out, |out| {
            for _ in 0..5 {
                codec::put_null(out);
            }
            match self.correlation_id {
                Some(id) => out.put_slice(id),
                None => codec::put_null(out),
            }
            6
        });
        put_descriptor(&mut out, APPLICATION_PROPERTIES);
        put_map(&mut out, |out| {
            put_string(out, "status-code");
            codec::put_int(out, self.status_code);
            put_string(out, "status-description");
            put_string(out, self.status_description);
            if let Some(condition) = self.error_condition {
                put_string(out, "error-condition");
                put_symbol(out, condition);
            }
            2 + u32::from(self.error_condition.is_some())
        });
        put_descriptor(&mut out, VALUE);
        if self.body.is_empty() {
            codec::put_null(&mut out);
        } else {
            out.put_slice(self.body);
        }
        out.freeze()
    }
}

/// What a receiver that asked for runtime metrics learns with every event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuntimeMetrics {
    pub(crate) last_sequence_number: i64,
    pub(crate) last_offset: i64,
    pub(crate) last_enqueued_ms: i64,
    pub(crate) retrieved_ms: i64,
}

impl RuntimeMetrics {
    /// Appends them as a delivery-annotations section.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_descriptor(out, DELIVERY_ANNOTATIONS);
        put_map(out, |out| {
            put_symbol(out, "last_enqueued_sequence_number");
            put_long(out, self.last_sequence_number);
            put_symbol(out, "last_enqueued_offset");
            put_number_as_string(out, self.last_offset);
            put_symbol(out, "last_enqueued_time_utc");
            put_timestamp(out, self.last_enqueued_ms);
            put_symbol(out, "runtime_info_retrieval_time_utc");
            put_timestamp(out, self.retrieved_ms);
            4
        });
    }
}

/// The entries of a sender's annotations but for those that the partition writes, and how many.
fn without_stamps(map: Map<'_>) -> Result<(Cow<'_, [u8]>, u32), DecodeError> {
    let is_stamp =
        |key: &Value<'_>| matches!(key.text(), Some(SEQUENCE_NUMBER | OFFSET | ENQUEUED_TIME));
    let mut has_stamps = false;
    for entry in map.entries() {
        has_stamps |= is_stamp(&entry?.0);
    }
    if !has_stamps {
        return Ok((Cow::Borrowed(map.bytes), map.count / 2));
    }
    let mut kept = Vec::with_capacity(map.bytes.len());
    let mut count = 0;
    for entry in map.entries() {
        let (key, _, bytes) = entry?;
        if !is_stamp(&key) {
            kept.extend_from_slice(bytes);
            count += 1;
        }
    }
    Ok((Cow::Owned(kept), count))
}

fn encode_bare(event: &Event) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(event.body.len() + 256);
    put_descriptor(&mut out, PROPERTIES);
    codec::put_list(&mut out, |out| {
        put_optional(out, event.message_id.as_deref(), put_string);
        put_optional(out, event.user_id.as_deref(), put_binary);
        put_optional(out, event.to.as_deref(), put_string);
        // subject, reply-to
        codec::put_null(out);
        codec::put_null(out);
        put_optional(out, event.correlation_id.as_deref(), put_string);
        put_optional(out, event.content_type.as_deref(), put_symbol);
        put_optional(out, event.content_encoding.as_deref(), put_symbol);
        put_optional(out, event.absolute_expiry_time_ms, put_timestamp);
        put_optional(out, event.creation_time_ms, put_timestamp);
        10
    });
    if !event.application_properties.is_empty() {
        put_descriptor(&mut out, APPLICATION_PROPERTIES);
        put_map(&mut out, |out| {
            for (key, value) in &event.application_properties {
                put_string(out, key);
                put_string(out, value);
            }
            u32::try_from(event.application_properties.len()).expect("properties fit into memory")
        });
    }
    put_descriptor(&mut out, DATA);
    put_binary(&mut out, &event.body);
    out.into()
}

fn put_optional<T>(out: &mut BytesMut, value: Option<T>, put: impl FnOnce(&mut BytesMut, T)) {
    match value {
        Some(value) => put(out, value),
        None => codec::put_null(out),
    }
}

/// Offsets are strings for clients and numbers here; this writes one without a detour by the heap.
fn put_number_as_string(out: &mut BytesMut, number: i64) {
    use std::fmt::Write;
    out.put_slice(&[0xa1, 0]);
    let at = out.len();
    write!(out, "{number}").expect("a buffer that grows takes what is written");
    out[at - 1] = u8::try_from(out.len() - at).expect("a 64-bit number has 20 digits at most");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> Event {
        Event {
            annotations: vec![
                (
                    "iothub-connection-device-id".into(),
                    AnnotationValue::String("d1".into()),
                ),
                (
                    "iothub-enqueuedtime".into(),
                    AnnotationValue::TimestampMs(5),
                ),
            ],
            content_type: Some("application/json".into()),
            application_properties: vec![("k".into(), "v".into())],
            body: Bytes::from_static(b"{}"),
            ..Event::default()
        }
    }

    #[test]
    fn an_event_is_stamped_and_keeps_its_own_annotations() {
        let (encoded, header_len) = Draft::from_event(&event()).stamp(7, 900, 1234);
        assert_eq!(header_len, 0);
        let message = Message::decode(&encoded).unwrap();
        let annotations = message.annotations.unwrap();
        assert_eq!(annotations.get(SEQUENCE_NUMBER), Some(Value::Long(7)));
        assert_eq!(annotations.get(OFFSET), Some(Value::String("900")));
        assert_eq!(
            annotations.get(ENQUEUED_TIME),
            Some(Value::TimestampMs(1234))
        );
        assert_eq!(annotations.get(PARTITION_KEY), None);
        assert_eq!(
            annotations.get("iothub-connection-device-id"),
            Some(Value::String("d1"))
        );
        assert_eq!(
            annotations.get("iothub-enqueuedtime"),
            Some(Value::TimestampMs(5))
        );
        assert_eq!(message.data().collect::<Vec<_>>(), [b"{}"]);
        assert_eq!(message.application_properties.unwrap().text("k"), Some("v"));
    }

    #[test]
    fn stamps_of_the_sender_are_replaced_and_the_rest_is_untouched() {
        let (sent, _) = Draft::from_event(&event()).stamp(1, 2, 3);
        let message = Message::decode(&sent).unwrap();
        let (stored, _) = Draft::from_message(&message, None)
            .unwrap()
            .stamp(40, 50, 60);
        let stored = Message::decode(&stored).unwrap();
        let annotations = stored.annotations.unwrap();
        assert_eq!(annotations.count, message.annotations.unwrap().count);
        assert_eq!(annotations.get(SEQUENCE_NUMBER), Some(Value::Long(40)));
        assert_eq!(annotations.text("iothub-connection-device-id"), Some("d1"));
        assert_eq!(stored.bare, message.bare);
    }

    #[test]
    fn a_message_without_key_takes_that_of_its_batch() {
        let data = [0x00, 0x53, 0x75, 0xa0, 1, b'x'];
        let message = Message::decode(&data).unwrap();
        let draft = Draft::from_message(&message, Some("batch")).unwrap();
        let (stored, _) = draft.stamp(0, 0, 0);
        let stored = Message::decode(&stored).unwrap();
        assert_eq!(stored.partition_key(), Some("batch"));
        let draft = Draft::from_message(&stored, Some("other")).unwrap();
        let (kept, _) = draft.stamp(1, 1, 1);
        assert_eq!(
            Message::decode(&kept).unwrap().partition_key(),
            Some("batch")
        );
    }

    #[test]
    fn sections_out_of_order_are_refused() {
        let twice = [0x00, 0x53, 0x77, 0x40, 0x00, 0x53, 0x75, 0xa0, 0];
        assert!(Message::decode(&twice).is_err());
        let mixed = [0x00, 0x53, 0x75, 0xa0, 0, 0x00, 0x53, 0x77, 0x40];
        assert!(Message::decode(&mixed).is_err());
        assert!(Message::decode(&[]).is_err());
    }

    #[test]
    fn a_reply_carries_the_request_id_with_its_type() {
        let mut uuid = vec![0x98];
        uuid.extend([7; 16]);
        let reply = Reply {
            correlation_id: Some(&uuid),
            status_code: 202,
            status_description: "Accepted",
            error_condition: None,
            body: &[],
        }
        .encode();
        let message = Message::decode(&reply).unwrap();
        let mut properties = Reader::new(message.properties.unwrap());
        for _ in 0..5 {
            assert_eq!(properties.value(), Ok(Value::Null));
        }
        assert_eq!(properties.value(), Ok(Value::Uuid(&[7; 16])));
        let status = message.application_properties.unwrap();
        assert_eq!(status.get("status-code"), Some(Value::Int(202)));
        assert_eq!(status.get("error-condition"), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..200, byte: u8) {
            let (encoded, _) = Draft::from_event(&event()).stamp(7, 900, 1234);
            let mut encoded = encoded.to_vec();
            let at = at % encoded.len();
            encoded[at] = byte;
            if let Ok(message) = Message::decode(&encoded) {
                message.data().for_each(drop);
                let _ = (message.message_id(), message.reply_to(), message.value());
                let _ = Draft::from_message(&message, Some("k"));
            }
        }
    }
}
