//! The frame of the native protocol that carries updates, read as strictly as the packets of Socket.IO.
//!
//! What the messages of the protocol mean is in `relay_protocol::native`; this reads the one that comes thousands of
//! times a second, compares it byte for byte, and costs the generator little.

use crate::event_message::Delivery;

/// What a frame says beside its updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpdatesFrame {
    /// Number of its last update.
    pub(crate) sequence: u64,
    /// How many updates it has.
    pub(crate) updates: u64,
    /// Values that the relay says it replaced by newer ones since the frame before.
    pub(crate) conflated_values: u64,
}

impl UpdatesFrame {
    /// Reads a frame and hands over its updates; `None` unless all of it is what was sent.
    pub(crate) fn read(frame: &str, mut each: impl FnMut(Delivery)) -> Option<Self> {
        let rest = frame.strip_prefix(r#"{"type":"updates","sequence":"#)?;
        let (sequence, rest) = number(rest)?;
        let (_, rest) = number(rest.strip_prefix(r#","time":"#)?)?;
        let mut rest = rest.strip_prefix(r#","updates":["#)?;
        let mut updates = 0;
        loop {
            let (delivery, stamp) = Delivery::read(rest)?;
            each(delivery);
            updates += 1;
            let (_, after) = stamp.split_once('"')?;
            let (_, after) = number(after.strip_prefix(r#","receivedAt":"#)?)?;
            let after = after.strip_prefix('}')?;
            let Some(next) = after.strip_prefix(',') else {
                rest = after.strip_prefix(']')?;
                break;
            };
            rest = next;
        }
        let mut conflated_values = 0;
        if let Some(skipped) = rest.strip_prefix(r#","skipped":{"conflated":"#) {
            let (conflated, after) = number(skipped)?;
            conflated_values = conflated;
            rest = after.strip_prefix(r#","dropped":0}"#)?;
        }
        (rest == "}").then_some(Self {
            sequence,
            updates,
            conflated_values,
        })
    }
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use relay_protocol::native::{ServerMessage, Skipped, Updates};

    use super::*;
    use crate::event_message::Template;

    fn frame(sequences: &[u64], conflated: u64) -> String {
        let template = Template::new(42).unwrap();
        let update = |&sequence: &u64| {
            let message = template.message(sequence, 5);
            let body = std::str::from_utf8(Template::body(&message)).unwrap();
            format!(
                r#"{{"deviceId":"load-00042","telemetry":{body},"timestamp":"2026-05-01T10:00:00.000Z","receivedAt":1}}"#
            )
        };
        let updates: Vec<_> = sequences.iter().map(update).collect();
        let skipped = match conflated {
            0 => String::new(),
            conflated => format!(r#","skipped":{{"conflated":{conflated},"dropped":0}}"#),
        };
        let updates = updates.join(",");
        format!(r#"{{"type":"updates","sequence":44,"time":2,"updates":[{updates}]{skipped}}}"#)
    }

    #[test]
    fn what_is_read_here_is_the_message_of_the_protocol() {
        let message: ServerMessage = serde_json::from_str(&frame(&[7, 8], 3)).unwrap();
        let ServerMessage::Updates(Updates {
            sequence: 44,
            updates,
            skipped,
            ..
        }) = message
        else {
            panic!("{message:?}")
        };
        let expected = Skipped {
            conflated: 3,
            dropped: 0,
        };
        assert_eq!((updates.len(), skipped), (2, expected));
    }

    #[test]
    fn every_update_of_a_frame_is_read() {
        for conflated_values in [0, 3] {
            let mut sequences = Vec::new();
            let read = UpdatesFrame::read(&frame(&[7, 8], conflated_values), |delivery| {
                sequences.push(delivery.sequence);
            });
            let expected = UpdatesFrame {
                sequence: 44,
                updates: 2,
                conflated_values,
            };
            assert_eq!(read, Some(expected));
            assert_eq!(sequences, [7, 8]);
        }
    }

    #[test]
    fn a_changed_frame_is_noticed() {
        let frame = frame(&[7], 0);
        for (from, to) in [("21.53", "21.54"), ("updates", "update"), ("}]}", "}]")] {
            let changed = frame.replace(from, to);
            assert_ne!(changed, frame);
            assert_eq!(UpdatesFrame::read(&changed, |_| {}), None, "{changed}");
        }
    }
}
