//! The Socket.IO 5 packet codec: what travels inside Engine.IO message packets.
//!
//! Reading is pure and total, and what was read can be written again. Writing gives whole Engine.IO text packets, the
//! leading `4` included, so that transports only pass bytes on. Source: the Socket.IO protocol document, version 5.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;
use thiserror::Error;

/// Longest name of a namespace in bytes.
const NAMESPACE_BYTES_MAX: usize = 256;

/// Most binary attachments of one packet.
const ATTACHMENTS_MAX: u8 = 16;

/// What a client is told about a namespace beyond the one it is connected to.
const INVALID_NAMESPACE: &str = "Invalid namespace";

/// A namespace that a client connected to. Every one of them means the same here; its name only comes back in each
/// packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespace(Option<Box<str>>);

impl Namespace {
    /// Takes the name as a client wrote it; a query part is not part of it.
    fn parse(written: &str) -> Result<Self, Malformed> {
        let name = written
            .split_once('?')
            .map_or(written, |(name, _query)| name);
        if written.len() > NAMESPACE_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(Malformed);
        }
        Ok(Self((name != "/").then(|| name.into())))
    }

    /// Whether it is the root namespace, whose packets carry no name.
    pub(super) fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// Appends the prefix of packets in this namespace: nothing, or the name and a comma.
    pub(super) fn push_prefix(&self, text: &mut Vec<u8>) {
        if let Some(name) = &self.0 {
            text.extend_from_slice(name.as_bytes());
            text.push(b',');
        }
    }
}

/// The prefix of packets in this namespace: nothing, or the name and a comma.
impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => Ok(()),
            Some(name) => write!(formatter, "{name},"),
        }
    }
}

/// One packet, from either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// The namespace it is for.
    pub(super) namespace: Namespace,
    /// How many binary packets follow it.
    pub(super) attachments: u8,
    /// The number that an event and its acknowledgement share, if the event asks for one.
    pub(super) id: Option<u64>,
    /// JSON, in the shape that the kind demands; empty where there is none.
    pub(super) data: Cow<'a, str>,
}

/// The kinds of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asks for a namespace.
    Connect,
    /// Leaves a namespace.
    Disconnect,
    /// An event, possibly with attachments.
    Event,
    /// The acknowledgement of an event, possibly with attachments.
    Ack,
    /// The refusal of a namespace. Only servers send it.
    ConnectError,
}

/// What is not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed socket.io packet")]
pub(super) struct Malformed;

impl<'a> Packet<'a> {
    /// Reads the text of an Engine.IO message packet: `<type>[<attachments>-][<namespace>,][<acknowledgement
    /// id>][<JSON>]`.
    pub(super) fn decode(text: &'a str) -> Result<Self, Malformed> {
        let mut characters = text.chars();
        let kind = characters.next().ok_or(Malformed)?;
        let rest = characters.as_str();
        let (kind, has_attachments) = match kind {
            '0' => (Kind::Connect, false),
            '1' => (Kind::Disconnect, false),
            '2' => (Kind::Event, false),
            '3' => (Kind::Ack, false),
            '4' => (Kind::ConnectError, false),
            '5' => (Kind::Event, true),
            '6' => (Kind::Ack, true),
            _ => return Err(Malformed),
        };
        let (attachments, rest) = if has_attachments {
            split_attachments(rest)?
        } else {
            (0, rest)
        };
        let (namespace, rest) = split_namespace(rest)?;
        let (id, data) = split_id(rest)?;
        if is_valid_data(kind, id.is_some(), data) {
            Ok(Self {
                kind,
                namespace,
                attachments,
                id,
                data: Cow::Borrowed(data),
            })
        } else {
            Err(Malformed)
        }
    }

    /// The whole Engine.IO text packet.
    pub(super) fn encode(&self) -> Bytes {
        let kind = match (self.kind, self.attachments) {
            (Kind::Connect, _) => '0',
            (Kind::Disconnect, _) => '1',
            (Kind::Event, 0) => '2',
            (Kind::Ack, 0) => '3',
            (Kind::ConnectError, _) => '4',
            (Kind::Event, _) => '5',
            (Kind::Ack, _) => '6',
        };
        let attachments = Written((self.attachments > 0).then_some(self.attachments), "-");
        let Self {
            namespace, data, ..
        } = self;
        let id = Written(self.id, "");
        format!("4{kind}{attachments}{namespace}{id}{data}").into()
    }
}

/// A number and what follows it, or nothing.
struct Written<T>(Option<T>, &'static str);

impl<T: fmt::Display> fmt::Display for Written<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(number) => write!(formatter, "{number}{}", self.1),
            None => Ok(()),
        }
    }
}

/// Reads `<attachments>-`.
fn split_attachments(text: &str) -> Result<(u8, &str), Malformed> {
    let (count, rest) = text.split_once('-').ok_or(Malformed)?;
    if !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    let count: u8 = count.parse().map_err(|_| Malformed)?;
    if count <= ATTACHMENTS_MAX {
        Ok((count, rest))
    } else {
        Err(Malformed)
    }
}

/// Reads `/<name>,`, whose comma may be missing at the end of the packet.
fn split_namespace(text: &str) -> Result<(Namespace, &str), Malformed> {
    if !text.starts_with('/') {
        return Ok((Namespace::default(), text));
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    Ok((Namespace::parse(name)?, rest))
}

/// Reads the digits of an acknowledgement id.
fn split_id(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (id, rest) = text.split_at(digits);
    if id.is_empty() {
        return Ok((None, rest));
    }
    id.parse().map(|id| (Some(id), rest)).map_err(|_| Malformed)
}

fn is_valid_data(kind: Kind, has_id: bool, data: &str) -> bool {
    match kind {
        Kind::Connect => !has_id && (data.is_empty() || is_object(data)),
        Kind::Disconnect => !has_id && data.is_empty(),
        Kind::Event => elements(data)
            .is_some_and(|elements| elements.first().is_some_and(|name| is_event_name(name))),
        Kind::Ack => has_id && elements(data).is_some(),
        Kind::ConnectError => !has_id && serde_json::from_str::<&RawValue>(data).is_ok(),
    }
}

fn is_object(json: &str) -> bool {
    json.starts_with('{') && serde_json::from_str::<&RawValue>(json).is_ok()
}

fn elements(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

/// Event names are texts or numbers.
fn is_event_name(json: &RawValue) -> bool {
    json.get()
        .starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
}

/// Accepts a namespace; `socket_id` is the name of the new socket, url-safe.
pub(super) fn accept(namespace: &Namespace, socket_id: &str) -> Bytes {
    written(
        Kind::Connect,
        namespace,
        format!("{{\"sid\":\"{socket_id}\"}}"),
    )
}

/// Refuses a namespace because of the session; the message is part of the contract with ux4iot's clients.
pub(super) fn refuse_session(namespace: &Namespace) -> Bytes {
    connect_error(namespace, "No such sessionId")
}

/// Refuses a second namespace on one connection.
pub(super) fn refuse_namespace(namespace: &Namespace) -> Bytes {
    connect_error(namespace, INVALID_NAMESPACE)
}

fn connect_error(namespace: &Namespace, message: &str) -> Bytes {
    written(
        Kind::ConnectError,
        namespace,
        format!("{{\"message\":\"{message}\"}}"),
    )
}

/// Tells the client that the server disconnects it.
pub(super) fn disconnect(namespace: &Namespace) -> Bytes {
    written(Kind::Disconnect, namespace, String::new())
}

fn written(kind: Kind, namespace: &Namespace, data: String) -> Bytes {
    Packet {
        kind,
        namespace: namespace.clone(),
        attachments: 0,
        id: None,
        data: data.into(),
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn namespace(name: &str) -> Namespace {
        Namespace::parse(name).unwrap()
    }

    fn packet(kind: Kind, name: &str, id: Option<u64>, data: &'static str) -> Packet<'static> {
        Packet {
            kind,
            namespace: namespace(name),
            attachments: 0,
            id,
            data: data.into(),
        }
    }

    fn with_attachments(attachments: u8, packet: Packet<'static>) -> Packet<'static> {
        Packet {
            attachments,
            ..packet
        }
    }

    #[test]
    fn packets_of_the_protocol_document_are_read_and_written() {
        use Kind::{Ack, Connect, ConnectError, Disconnect, Event};
        const PLACE: &str = "[{\"_placeholder\":true,\"num\":0}]";
        for (text, expected) in [
            ("0", packet(Connect, "/", None, "")),
            (
                "0{\"token\":\"123\"}",
                packet(Connect, "/", None, "{\"token\":\"123\"}"),
            ),
            ("0/admin,", packet(Connect, "/admin", None, "")),
            (
                "0/a/b,{\"t\":\"1,2\"}",
                packet(Connect, "/a/b", None, "{\"t\":\"1,2\"}"),
            ),
            ("1", packet(Disconnect, "/", None, "")),
            ("1/admin,", packet(Disconnect, "/admin", None, "")),
            ("2[\"foo\"]", packet(Event, "/", None, "[\"foo\"]")),
            (
                "2/admin,12[\"foo\",{\"a\":[1]}]",
                packet(Event, "/admin", Some(12), "[\"foo\",{\"a\":[1]}]"),
            ),
            (
                "3/admin,13[\"bar\"]",
                packet(Ack, "/admin", Some(13), "[\"bar\"]"),
            ),
            ("313[]", packet(Ack, "/", Some(13), "[]")),
            (
                "4{\"message\":\"no\"}",
                packet(ConnectError, "/", None, "{\"message\":\"no\"}"),
            ),
            (
                "51-[\"baz\",{\"_placeholder\":true,\"num\":0}]",
                with_attachments(
                    1,
                    packet(
                        Event,
                        "/",
                        None,
                        "[\"baz\",{\"_placeholder\":true,\"num\":0}]",
                    ),
                ),
            ),
            (
                "61-/admin,15[{\"_placeholder\":true,\"num\":0}]",
                with_attachments(1, packet(Ack, "/admin", Some(15), PLACE)),
            ),
        ] {
            assert_eq!(expected.encode(), format!("4{text}"));
            assert_eq!(Packet::decode(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_means_the_same_is_read_as_the_same() {
        for (text, same) in [
            ("0/admin", "0/admin,"),
            ("0/,", "0"),
            ("0/admin?token=1234&uid=abcd,", "0/admin,"),
            ("50-[\"a\"]", "2[\"a\"]"),
            ("2007[\"a\"]", "27[\"a\"]"),
        ] {
            assert_eq!(Packet::decode(text), Packet::decode(same), "{text}");
        }
    }

    #[test]
    fn other_texts_are_malformed() {
        for text in [
            "",
            "abc",
            "7",
            "0[]",
            "0\"text\"",
            "0{",
            "01{}",
            "1{}",
            "2",
            "2{}",
            "2[]",
            "2[{}]",
            "2abc[\"a\"]",
            "2[\"a\"",
            "2[\"a\"]x",
            "299999999999999999999999[\"a\"]",
            "3[]",
            "31{}",
            "5[\"a\"]",
            "5-[\"a\"]",
            "5x-[\"a\"]",
            "5+1-[\"a\"]",
            "5999-[\"a\"]",
            "517-[\"a\"]",
            "0/a\u{7}b,",
            "4",
            "4/,/a",
            "47{}",
            "4{\"message\"",
        ] {
            assert_eq!(Packet::decode(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn the_name_of_a_namespace_is_bounded() {
        let most = format!("/{}", "n".repeat(NAMESPACE_BYTES_MAX - 1));
        assert!(Packet::decode(&format!("0{most},")).is_ok());
        assert_eq!(Packet::decode(&format!("0{most}n,")), Err(Malformed));
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        let deep = format!("2[\"a\",{}{}]", "[".repeat(200_000), "]".repeat(200_000));
        let _ = Packet::decode(&deep);
    }

    #[test]
    fn written_packets_carry_the_namespace() {
        let (root, named) = (Namespace::default(), namespace("/a/b"));
        assert_eq!(accept(&root, "s1"), "40{\"sid\":\"s1\"}");
        assert_eq!(accept(&named, "s1"), "40/a/b,{\"sid\":\"s1\"}");
        assert_eq!(
            refuse_session(&root),
            "44{\"message\":\"No such sessionId\"}"
        );
        assert_eq!(
            refuse_namespace(&named),
            "44/a/b,{\"message\":\"Invalid namespace\"}"
        );
        assert_eq!(disconnect(&root), "41");
        assert_eq!(disconnect(&named), "41/a/b,");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in any::<String>()) {
            let _ = Packet::decode(&text);
        }

        #[test]
        fn reading_what_is_nearly_a_packet_never_panics(
            text in "[0-7][0-9]{0,3}-?(/[a-zé?,]{0,6})?,?[0-9]{0,22}[\\[\\]{}\"a,:0é]{0,12}"
        ) {
            let _ = Packet::decode(&text);
        }

        #[test]
        fn what_was_read_is_written_so_that_it_reads_the_same(
            text in "[0-6]([0-9]{1,2}-)?(/[a-z/?]{0,6},)?[0-9]{0,3}(\\[(\"e\"|1)?(,\\{\\})?\\]|\\{\\})?"
        ) {
            if let Ok(packet) = Packet::decode(&text) {
                let written = packet.encode();
                let written = std::str::from_utf8(&written).unwrap().strip_prefix('4').unwrap();
                prop_assert_eq!(Packet::decode(written), Ok(packet), "{}", written);
            }
        }

        #[test]
        fn whatever_is_written_reads_back(
            is_ack in any::<bool>(),
            name in "/[a-zé/]{0,40}",
            attachments in 0..=ATTACHMENTS_MAX,
            id in any::<u64>(),
            text in any::<String>(),
        ) {
            let data = serde_json::to_string(&[text]).unwrap().into();
            let kind = if is_ack { Kind::Ack } else { Kind::Event };
            let packet = Packet { kind, namespace: namespace(&name), attachments, id: Some(id), data };
            let written = packet.encode();
            let written = std::str::from_utf8(&written).unwrap().strip_prefix('4').unwrap();
            prop_assert_eq!(Packet::decode(written), Ok(packet));
        }
    }
}
