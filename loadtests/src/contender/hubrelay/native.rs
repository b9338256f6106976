//! A client of hubrelay over the native protocol: a hello with a grant token, one message for all subscriptions.
//!
//! The frame that carries updates comes thousands of times a second; it is read in place and as strictly as the events
//! of Socket.IO. What the messages of the protocol mean is in `relay_protocol::native`.

use anyhow::ensure;
use relay_protocol::native::{Hello, Selector};

use super::update;
use crate::contender::{Deliver, Subscriber, Wish};
use crate::grant_token;
use crate::message::{device_id, key_name};
use crate::native_client::NativeClient;
use crate::websocket_client::{Link, WebSocketClient};

/// Unwraps frames of updates.
#[derive(Debug, Default)]
pub(crate) struct NativeDelivery {
    /// Number of the last update.
    sequence: u64,
}

impl NativeDelivery {
    /// Connects, and sets up a session with grants and subscriptions on the way.
    pub(crate) async fn connect(
        authority: &str,
        wishes: &[Wish],
        link: Link,
    ) -> anyhow::Result<Subscriber> {
        let token = Some(grant_token::for_wishes(wishes)?);
        let hello = Hello {
            token,
            ..Hello::default()
        };
        let mut client = NativeClient::connect(authority, link).await?;
        client.say_hello(hello).await?;
        client.hear_hello().await?;
        let subscribed = client.subscribe(selectors(wishes).collect()).await?;
        let WebSocketClient {
            stream, read_ahead, ..
        } = client.socket;
        let protocol = Box::new(Self {
            sequence: subscribed.sequence,
        });
        Ok(Subscriber {
            stream,
            read_ahead,
            protocol,
        })
    }

    fn read(&mut self, frame: &[u8], payload: &mut dyn FnMut(&[u8])) -> Option<()> {
        let rest = frame.strip_prefix(br#"{"type":"updates","sequence":"#)?;
        let (sequence, rest) = number(rest)?;
        let (_, rest) = number(rest.strip_prefix(br#","time":"#)?)?;
        let mut rest = rest.strip_prefix(br#","updates":["#)?;
        let mut updates = 0;
        loop {
            let (object, after) = update::read(rest)?;
            payload(object);
            updates += 1;
            let (_, after) = number(after.strip_prefix(br#","receivedAt":"#)?)?;
            let after = after.strip_prefix(b"}")?;
            let Some(next) = after.strip_prefix(b",") else {
                rest = after.strip_prefix(b"]")?;
                break;
            };
            rest = next;
        }
        if let Some(skipped) = rest.strip_prefix(br#","skipped":{"conflated":"#) {
            // Where nothing may be skipped, the numbers of the messages show it.
            let (_, after) = number(skipped)?;
            rest = after.strip_prefix(br#","dropped":0}"#)?;
        }
        // The number is that of the last update: none is missing between two frames.
        let is_next = sequence == self.sequence + updates;
        self.sequence = sequence;
        (rest == b"}" && is_next).then_some(())
    }
}

fn selectors(wishes: &[Wish]) -> impl Iterator<Item = Selector> + '_ {
    wishes
        .iter()
        .map(|wish| Selector::telemetry(device_id(wish.device), wish.key.map(key_name)))
}

impl Deliver for NativeDelivery {
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        _reply: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        ensure!(
            self.read(message, payload).is_some(),
            "the relay sent what was not expected: {}",
            String::from_utf8_lossy(message)
        );
        Ok(())
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    (1..=19).contains(&end).then_some(())?;
    let number = digits.iter().fold(0, |number, digit| {
        number * 10 + u64::from(digit.wrapping_sub(b'0'))
    });
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use relay_protocol::native::{ServerMessage, Skipped, Updates};

    use super::*;
    use crate::message::Body;

    /// A frame of updates of device 42 with these numbers, of which the last is the 44th of the client.
    fn frame(sequences: &[u64], conflated: u64) -> String {
        let mut body = Body::new();
        let updates: Vec<_> = sequences
            .iter()
            .map(|&sequence| {
                let body = str::from_utf8(body.set(42, sequence)).unwrap();
                format!(
                    r#"{{"deviceId":"device-00042","telemetry":{body},"timestamp":"2026-05-01T10:00:00.000Z","receivedAt":1}}"#
                )
            })
            .collect();
        let skipped = match conflated {
            0 => String::new(),
            conflated => format!(r#","skipped":{{"conflated":{conflated},"dropped":0}}"#),
        };
        let updates = updates.join(",");
        format!(r#"{{"type":"updates","sequence":44,"time":2,"updates":[{updates}]{skipped}}}"#)
    }

    fn unwrap(delivery: &mut NativeDelivery, frame: &str) -> anyhow::Result<usize> {
        let mut objects = 0;
        let mut count = |_: &[u8]| objects += 1;
        delivery.on_message(frame.as_bytes(), &mut count, &mut Vec::new())?;
        Ok(objects)
    }

    fn after(sequence: u64) -> NativeDelivery {
        NativeDelivery { sequence }
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
    fn every_update_of_a_frame_is_handed_over() {
        for conflated in [0, 3] {
            let mut delivery = after(42);
            let objects = unwrap(&mut delivery, &frame(&[7, 8], conflated)).unwrap();
            assert_eq!(objects, 2);
        }
    }

    #[test]
    fn a_number_that_does_not_follow_is_refused() {
        assert!(unwrap(&mut after(43), &frame(&[7], 0)).is_ok());
        assert!(unwrap(&mut after(42), &frame(&[7], 0)).is_err());
        assert!(unwrap(&mut after(44), &frame(&[7], 0)).is_err());
    }

    #[test]
    fn a_changed_frame_is_refused() {
        let frame = frame(&[7], 0);
        for (from, to) in [
            ("updates", "update"),
            ("}]}", "}]"),
            ("device-00042", "device-00041"),
            ("receivedAt", "received"),
        ] {
            let changed = frame.replace(from, to);
            assert_ne!(changed, frame);
            assert!(unwrap(&mut after(43), &changed).is_err(), "{changed}");
        }
    }
}
