//! What goes out: one update about one device, shared by every session that gets it.

use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use once_cell::race::OnceBox;

use super::id::DeviceId;
use super::raw_json::RawJson;
use super::telemetry::Telemetry;
use super::time::Stamp;

/// One update about one device. Many outboxes hold the same one; each transport encoding is made once for all.
#[derive(Debug)]
pub struct Update {
    /// The device it is about.
    pub device_id: DeviceId,
    /// The times of what it says.
    pub stamp: Stamp,
    /// What it says.
    pub body: UpdateBody,
    bytes: usize,
    /// In memory of its own: an update that only one gets needs none of it.
    encodings: OnceBox<Encodings>,
}

type Encodings = [OnceLock<Box<[u8]>>; Encoding::COUNT];

/// What an update says: exactly one kind.
#[derive(Clone, Debug)]
pub enum UpdateBody {
    /// Values by telemetry key; never empty.
    Telemetry(Telemetry),
    /// Whether the device is connected.
    ConnectionState(bool),
    /// The full twin.
    DeviceTwin(RawJson),
    /// The complete body of a device-to-cloud message.
    Message(RawJson),
}

/// How an update is written for a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The Engine.IO text packet of a Socket.IO event in the root namespace.
    SocketIo,
    /// The JSON object that stands for it in messages of the native protocol.
    Native,
}

impl Encoding {
    const COUNT: usize = 2;
}

/// Bytes that an encoding adds to device id and body, roughly; outbox bounds need no exactness.
const ENVELOPE_BYTES: usize = 96;

impl Update {
    /// Makes an update that is not encoded yet. What it keeps in memory is bounded by a small multiple of what it says, or
    /// by some kilobytes, however long the message was that it is a part of.
    pub fn new(device_id: DeviceId, stamp: Stamp, mut body: UpdateBody) -> Self {
        let body_bytes = match &mut body {
            UpdateBody::Telemetry(telemetry) => {
                telemetry.let_go_of_the_rest();
                telemetry.bytes()
            }
            UpdateBody::ConnectionState(_) => 5,
            UpdateBody::DeviceTwin(json) | UpdateBody::Message(json) => json.as_str().len(),
        };
        Self {
            bytes: ENVELOPE_BYTES + device_id.as_str().len() + body_bytes,
            device_id,
            stamp,
            body,
            encodings: OnceBox::new(),
        }
    }

    /// Lends an update in one encoding to the others who hold it, unless somebody did before or there is only one other:
    /// that one encodes it in less time than it takes to keep it.
    pub fn share_encoding(self: &Arc<Self>, encoding: Encoding, encoded: &[u8]) {
        if Arc::strong_count(self) > 2 {
            let encodings = self.encodings.get_or_init(Box::default);
            encodings[encoding as usize].get_or_init(|| encoded.into());
        }
    }

    /// The update in one encoding, if it was shared. The last one who holds it does not look.
    pub fn encoded_before(self: &Arc<Self>, encoding: Encoding) -> Option<&[u8]> {
        if Arc::strong_count(self) == 1 {
            return None;
        }
        let encodings = self.encodings.get()?;
        encodings[encoding as usize].get().map(Box::as_ref)
    }

    /// About how many bytes the update takes on the wire.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how many bytes some updates take on the wire. This reads a little of everything that an update consists of,
    /// so whoever is about to go through them waits for memory once and not at each of them.
    pub fn bytes_of_all(updates: &[Arc<Self>]) -> usize {
        let bytes = updates.iter().map(|update| {
            // That is in one of its two cache lines, and its size in the other.
            black_box(Arc::strong_count(update));
            update.bytes
        });
        bytes.sum()
    }

    /// The same update with only the telemetry that satisfies `keep`; itself when that is all of it, `None` when it
    /// is none. Other kinds have no keys and stay as they are.
    pub fn filter_keys(self: &Arc<Self>, mut keep: impl FnMut(&str) -> bool) -> Option<Arc<Self>> {
        let UpdateBody::Telemetry(telemetry) = &self.body else {
            return Some(self.clone());
        };
        if telemetry.iter().all(|(key, _, _)| keep(key)) {
            return Some(self.clone());
        }
        let body = UpdateBody::Telemetry(telemetry.filter(keep)?);
        Some(Arc::new(Self::new(
            self.device_id.clone(),
            self.stamp.clone(),
            body,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::telemetry::tests::telemetry;
    use super::super::time::Timestamp;
    use super::*;

    #[test]
    fn an_update_keeps_no_long_message_in_memory_for_a_part_of_it() {
        let long = "9".repeat(200_000);
        let part = format!("\"{}\"", "x".repeat(100));
        let message = telemetry(&[("long", &long), ("part\"", &part)]);
        let update = |member: usize| {
            let stamp = Stamp {
                timestamp: Timestamp::UnixMs(1),
                received_unix_ms: 1,
            };
            let telemetry = message.select([member]).unwrap();
            let body = UpdateBody::Telemetry(telemetry.clone());
            let update = Update::new(DeviceId::new("d").unwrap(), stamp, body);
            let UpdateBody::Telemetry(kept) = update.body else {
                panic!("it is telemetry");
            };
            assert!(kept.iter().eq(telemetry.iter()));
            kept.body_bytes()
        };
        assert!(update(0) >= long.len());
        assert_eq!(update(1), part.len());
    }

    #[test]
    fn what_most_recipients_of_an_update_read_is_in_two_cache_lines() {
        // With the two counters of the `Arc` that every update is in.
        assert!(size_of::<Update>() + 2 * size_of::<usize>() <= 128);
    }
}
