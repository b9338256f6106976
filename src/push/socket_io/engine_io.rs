//! The Engine.IO 4 packet codec: text packets, and the payloads of long-polling that join several of them.
//!
//! Pure and total: any input gives a packet or [`Malformed`]. Source: the Engine.IO protocol document, version 4.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;

/// The only protocol version spoken, as the query parameter `EIO` has it.
pub(super) const PROTOCOL_VERSION: &str = "4";

/// The server's heartbeat.
pub(super) const PING: Bytes = Bytes::from_static(b"2");
/// Tells a long-polling client that the connection is closed.
pub(super) const CLOSE: Bytes = Bytes::from_static(b"1");
/// Releases an open poll without saying anything.
pub(super) const NOOP: Bytes = Bytes::from_static(b"6");
/// Answers the first packet on a WebSocket that a long-polling client wants to upgrade to.
pub(super) const PROBE_PONG: Bytes = Bytes::from_static(b"3probe");
/// What a client sends in that first packet.
pub(super) const PROBE: &str = "probe";

/// Stands between the packets of a payload. It cannot occur within one: JSON text holds no unescaped control character.
const SEPARATOR: u8 = 0x1e;

/// What a binary packet begins with, in payloads and in the queues of transports. No text packet begins with it.
pub(super) const BINARY_MARK: u8 = b'b';

/// Most packets in one payload from a client; a longer one is malformed.
pub(super) const PAYLOAD_PACKETS_MAX: usize = 1024;

/// One packet from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// Starts a connection; only servers send it.
    Open,
    /// The client gives the connection up.
    Close,
    /// A heartbeat or a probe.
    Ping(String),
    /// The answer to a heartbeat.
    Pong(String),
    /// A Socket.IO packet.
    Message(String),
    /// The client moves to the transport on which it sends this.
    Upgrade,
    /// Nothing.
    Noop,
    /// A binary message: an attachment of a Socket.IO packet.
    Binary(Bytes),
}

/// What is not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed engine.io packet")]
pub(super) struct Malformed;

impl Packet {
    /// Reads a text packet.
    pub(super) fn decode(text: &str) -> Result<Self, Malformed> {
        let mut characters = text.chars();
        let kind = characters.next().ok_or(Malformed)?;
        let data = || characters.as_str().to_owned();
        match kind {
            '0' => Ok(Self::Open),
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(data())),
            '3' => Ok(Self::Pong(data())),
            '4' => Ok(Self::Message(data())),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            _ => Err(Malformed),
        }
    }

    /// Reads one packet of a payload, where binary ones are base64 after a `b`.
    fn decode_in_payload(text: &str) -> Result<Self, Malformed> {
        match text.strip_prefix(char::from(BINARY_MARK)) {
            Some(base64) => {
                let binary = STANDARD.decode(base64).map_err(|_| Malformed)?;
                Ok(Self::Binary(binary.into()))
            }
            None => Self::decode(text),
        }
    }

    /// The packet as transports queue it: text as it is sent, binary after its mark and not yet in base64. The relay
    /// itself says only what is constant, or a message that is already written.
    #[cfg(test)]
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Self::Open => Bytes::from_static(b"0"),
            Self::Close => CLOSE,
            Self::Ping(data) => format!("2{data}").into(),
            Self::Pong(data) => format!("3{data}").into(),
            Self::Message(data) => format!("4{data}").into(),
            Self::Upgrade => Bytes::from_static(b"5"),
            Self::Noop => NOOP,
            Self::Binary(data) => [&[BINARY_MARK], data.as_ref()].concat().into(),
        }
    }
}

/// Reads the body of a `POST`: one packet or several.
pub(super) fn decode_payload(body: &str) -> Result<Vec<Packet>, Malformed> {
    let mut packets = Vec::new();
    for text in body.split(char::from(SEPARATOR)) {
        if packets.len() == PAYLOAD_PACKETS_MAX {
            return Err(Malformed);
        }
        packets.push(Packet::decode_in_payload(text)?);
    }
    Ok(packets)
}

/// Joins encoded packets into the body of an answer to a poll.
pub(super) fn encode_payload(packets: impl IntoIterator<Item = Bytes>) -> Bytes {
    let mut packets = packets.into_iter().map(in_payload);
    let Some(first) = packets.next() else {
        return Bytes::new();
    };
    let Some(second) = packets.next() else {
        return first;
    };
    let mut payload = BytesMut::from(first);
    for packet in std::iter::once(second).chain(packets) {
        payload.reserve(1 + packet.len());
        payload.put_u8(SEPARATOR);
        payload.put(packet);
    }
    payload.freeze()
}

/// An encoded packet in the form that payloads have it.
fn in_payload(packet: Bytes) -> Bytes {
    match packet.split_first() {
        Some((&BINARY_MARK, binary)) => {
            let mut text = String::from(char::from(BINARY_MARK));
            STANDARD.encode_string(binary, &mut text);
            text.into()
        }
        _ => packet,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_packet_type_is_read() {
        let message = |text: &str| Packet::Message(text.to_owned());
        for (text, packet) in [
            ("0{}", Packet::Open),
            ("1", Packet::Close),
            ("2probe", Packet::Ping("probe".to_owned())),
            ("3", Packet::Pong(String::new())),
            ("40", message("0")),
            ("4", message("")),
            ("4é", message("é")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
        ] {
            assert_eq!(Packet::decode(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn what_has_no_known_type_is_malformed() {
        for text in ["", "7", "abc", "é4", "\u{1e}", "-1", "bAQID"] {
            assert_eq!(Packet::decode(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn a_payload_holds_text_and_binary_packets() {
        let packets = decode_payload("4hello\u{1e}2\u{1e}bAQIDBA==").unwrap();
        let binary = Bytes::from_static(&[1, 2, 3, 4]);
        assert_eq!(
            packets,
            [
                Packet::Message("hello".to_owned()),
                Packet::Ping(String::new()),
                Packet::Binary(binary)
            ]
        );
    }

    #[test]
    fn one_bad_packet_spoils_the_payload() {
        for body in [
            "",
            "4a\u{1e}",
            "\u{1e}4a",
            "4a\u{1e}\u{1e}4b",
            "4a\u{1e}x",
            "b*",
        ] {
            assert_eq!(decode_payload(body), Err(Malformed), "{body:?}");
        }
    }

    #[test]
    fn a_payload_is_bounded_in_packets() {
        let most = vec!["6"; PAYLOAD_PACKETS_MAX].join("\u{1e}");
        assert_eq!(decode_payload(&most).unwrap().len(), PAYLOAD_PACKETS_MAX);
        assert_eq!(decode_payload(&format!("{most}\u{1e}6")), Err(Malformed));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in any::<String>()) {
            let _ = Packet::decode(&text);
            let _ = decode_payload(&text);
        }

        #[test]
        fn what_was_read_is_written_as_it_came(text in "[0-6][^\u{1e}]{0,40}") {
            let packet = Packet::decode(&text).unwrap();
            // What stands after a type that has no data means nothing and is not kept.
            let has_data = matches!(packet, Packet::Ping(_) | Packet::Pong(_) | Packet::Message(_));
            let kept = if has_data { text.as_str() } else { &text[..1] };
            prop_assert_eq!(packet.encode(), kept);
        }

        #[test]
        fn a_written_payload_reads_back(packets in prop::collection::vec(any_packet(), 1..20)) {
            let payload = encode_payload(packets.iter().map(Packet::encode));
            let read = decode_payload(std::str::from_utf8(&payload).unwrap()).unwrap();
            prop_assert_eq!(read, packets);
        }
    }

    fn any_packet() -> impl Strategy<Value = Packet> {
        let text = || "[^\u{1e}]{0,12}";
        prop_oneof![
            Just(Packet::Open),
            Just(Packet::Close),
            text().prop_map(Packet::Ping),
            text().prop_map(Packet::Pong),
            text().prop_map(Packet::Message),
            Just(Packet::Upgrade),
            Just(Packet::Noop),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|data| Packet::Binary(data.into())),
        ]
    }
}
