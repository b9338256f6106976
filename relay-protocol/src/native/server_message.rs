//! What the relay sends.

use serde::{Deserialize, Deserializer, Serialize, de};

use super::device_update::DeviceUpdate;
use super::error_code::{ErrorCode, GoodbyeCode};
use super::object::object;
use super::selector::Selector;
use super::snapshot::DeviceSnapshot;
use crate::SessionId;

/// A message from the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ServerMessage {
    /// Answer to a hello.
    Hello(ServerHello),
    /// Answer to an authorize: `{"type":"authorized","id":1}`.
    Authorized {
        /// Number of the request.
        id: u64,
    },
    /// Answer to a subscribe.
    Subscribed(Subscribed),
    /// Answer to an unsubscribe: `{"type":"unsubscribed","id":3}`. Nothing of what it ended follows.
    Unsubscribed {
        /// Number of the request.
        id: u64,
    },
    /// Answer to a request for last values.
    LastValues(LastValues),
    /// Answer to a ping: `{"type":"pong","id":5,"time":1714557600200}`.
    Pong {
        /// Number of the request.
        id: u64,
        /// The relay's clock, Unix milliseconds.
        time: i64,
    },
    /// What has changed.
    Updates(Updates),
    /// Subscriptions were taken away.
    Ended(Ended),
    /// A request or message failed. The connection goes on.
    Error(ErrorMessage),
    /// The relay ends the connection; a close frame follows.
    Goodbye(Goodbye),
}

/// Answer to a hello: the session, and what the client needs to know of the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerHello {
    /// Version of the protocol.
    pub protocol: u32,
    /// The session. It is a secret: whoever knows it sees what the session sees.
    pub session_id: SessionId,
    /// Tells this run of the session's updates from others, for a later [`Resume`](super::Resume).
    pub epoch: u64,
    /// Number of the last update that was sent.
    pub sequence: u64,
    /// The relay's clock, Unix milliseconds.
    pub time: i64,
    /// Who answers.
    pub server: ServerFacts,
    /// What the client may ask for.
    pub limits: Limits,
    /// How often the relay sends a WebSocket ping.
    pub ping_interval_ms: u64,
    /// How long after the loss of its connection a session can be resumed.
    pub resume_window_ms: u64,
    /// Only after a resume: whether nothing was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// Only when something was lost and the session is still there: the last values of all that is subscribed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Vec<DeviceSnapshot>>,
}

/// Who answers: `{"name":"hubrelay","version":"0.1.0"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// Name of the program.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What one client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Longest message, in bytes.
    pub message_bytes_max: u64,
    /// Most keys, patterns and selectors without either that one message may name.
    pub keys_per_message_max: u64,
    /// Most subscriptions of the session.
    pub subscriptions_max: u64,
}

/// Answer to a subscribe. The first update after it is the first that is not in its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed {
    /// Number of the request.
    pub id: u64,
    /// The relay's clock, Unix milliseconds.
    pub time: i64,
    /// Number of the last update that was sent.
    pub sequence: u64,
    /// Last values of what was granted, by device. Devices of which nothing is known are left out.
    pub snapshot: Vec<DeviceSnapshot>,
    /// What was not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// Answer to a request for last values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastValues {
    /// Number of the request.
    pub id: u64,
    /// The relay's clock, Unix milliseconds.
    pub time: i64,
    /// Last values of what is granted, by device. Devices of which nothing is known are left out.
    pub values: Vec<DeviceSnapshot>,
    /// What is not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
}

/// A selector of a request, or a part of it, that was refused.
///
/// ```json
/// {"index":0,"telemetryKeys":["b"],"code":"notGranted","message":"no grant covers it"}
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Place of the selector in the request, from 0.
    pub index: usize,
    /// The refused keys. With neither keys nor patterns, all that the selector selects is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub telemetry_keys: Vec<String>,
    /// The refused patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub telemetry_key_patterns: Vec<String>,
    /// Why.
    pub code: ErrorCode,
    /// Why, for people.
    pub message: String,
}

/// What has changed since the message before: all that was ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Updates {
    /// Number of the last of the updates.
    pub sequence: u64,
    /// The relay's clock, Unix milliseconds.
    pub time: i64,
    /// The updates; those of one device are in the order of its messages.
    pub updates: Vec<DeviceUpdate>,
    /// What the client did not get since the message before, because it was slow.
    #[serde(skip_serializing_if = "Skipped::is_none")]
    pub skipped: Skipped,
}

/// How much a slow client did not get: `{"conflated":3,"dropped":0}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Values replaced by newer ones before they were sent.
    pub conflated: u64,
    /// Device-to-cloud messages dropped.
    pub dropped: u64,
}

impl ServerMessage {
    /// Every `type` that a message of the relay may have.
    pub const TYPES: &[&str] = &[
        "hello",
        "authorized",
        "subscribed",
        "unsubscribed",
        "lastValues",
        "pong",
        "updates",
        "ended",
        "error",
        "goodbye",
    ];
}

impl Skipped {
    /// Whether nothing was skipped.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Subscriptions that ended without the client's doing. Nothing of what they covered follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// What they covered.
    pub subscriptions: Vec<Selector>,
    /// Why they ended.
    pub reason: EndReason,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndReason {
    /// The security backend took the grant back.
    Revoked,
    /// The grant's time is over.
    Expired,
}

/// A request or message failed and changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorMessage {
    /// Number of the request, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Why.
    pub code: ErrorCode,
    /// Why, for people.
    pub message: String,
    /// The member that is wrong, for example `subscriptions[1].deviceId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Last message of a connection that the relay ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Goodbye {
    /// Why.
    pub code: GoodbyeCode,
    /// Why, for people.
    pub message: String,
    /// Whether it makes sense to connect again.
    pub reconnect: bool,
}

impl<'de> Deserialize<'de> for ServerMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members: Members = object(deserializer)?;
        members.message()
    }
}

/// The members of all messages. A tagged enum would build a tree of each message before it reads it, and values would
/// lose their digits on the way.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    #[serde(rename = "type")]
    kind: Type,
    id: Option<u64>,
    protocol: Option<u32>,
    session_id: Option<SessionId>,
    epoch: Option<u64>,
    sequence: Option<u64>,
    time: Option<i64>,
    server: Option<ServerFacts>,
    limits: Option<Limits>,
    ping_interval_ms: Option<u64>,
    resume_window_ms: Option<u64>,
    recovered: Option<bool>,
    snapshot: Option<Vec<DeviceSnapshot>>,
    values: Option<Vec<DeviceSnapshot>>,
    refused: Option<Vec<Refused>>,
    updates: Option<Vec<DeviceUpdate>>,
    skipped: Option<Skipped>,
    subscriptions: Option<Vec<Selector>>,
    reason: Option<EndReason>,
    code: Option<String>,
    message: Option<String>,
    field: Option<String>,
    reconnect: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    Hello,
    Authorized,
    Subscribed,
    Unsubscribed,
    LastValues,
    Pong,
    Updates,
    Ended,
    Error,
    Goodbye,
}

impl Members {
    fn message<E: de::Error>(self) -> Result<ServerMessage, E> {
        let id = need("id", self.id);
        let time = need("time", self.time);
        let sequence = need("sequence", self.sequence);
        Ok(match self.kind {
            Type::Hello => ServerMessage::Hello(ServerHello {
                protocol: need("protocol", self.protocol)?,
                session_id: need("sessionId", self.session_id)?,
                epoch: need("epoch", self.epoch)?,
                sequence: sequence?,
                time: time?,
                server: need("server", self.server)?,
                limits: need("limits", self.limits)?,
                ping_interval_ms: need("pingIntervalMs", self.ping_interval_ms)?,
                resume_window_ms: need("resumeWindowMs", self.resume_window_ms)?,
                recovered: self.recovered,
                snapshot: self.snapshot,
            }),
            Type::Authorized => ServerMessage::Authorized { id: id? },
            Type::Subscribed => ServerMessage::Subscribed(Subscribed {
                id: id?,
                time: time?,
                sequence: sequence?,
                snapshot: need("snapshot", self.snapshot)?,
                refused: self.refused.unwrap_or_default(),
            }),
            Type::Unsubscribed => ServerMessage::Unsubscribed { id: id? },
            Type::LastValues => ServerMessage::LastValues(LastValues {
                id: id?,
                time: time?,
                values: need("values", self.values)?,
                refused: self.refused.unwrap_or_default(),
            }),
            Type::Pong => ServerMessage::Pong {
                id: id?,
                time: time?,
            },
            Type::Updates => ServerMessage::Updates(Updates {
                sequence: sequence?,
                time: time?,
                updates: need("updates", self.updates)?,
                skipped: self.skipped.unwrap_or_default(),
            }),
            Type::Ended => ServerMessage::Ended(Ended {
                subscriptions: need("subscriptions", self.subscriptions)?,
                reason: need("reason", self.reason)?,
            }),
            Type::Error => ServerMessage::Error(ErrorMessage {
                id: self.id,
                code: need("code", self.code)?.into(),
                message: need("message", self.message)?,
                field: self.field,
            }),
            Type::Goodbye => ServerMessage::Goodbye(Goodbye {
                code: need("code", self.code)?.into(),
                message: need("message", self.message)?,
                reconnect: need("reconnect", self.reconnect)?,
            }),
        })
    }
}

fn need<T, E: de::Error>(name: &'static str, member: Option<T>) -> Result<T, E> {
    member.ok_or_else(|| E::missing_field(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_every_byte() {
        let text = r#"{"type":"subscribed","id":2,"time":1,"sequence":0,"snapshot":[{"deviceId":"d","telemetry":{"n":{"value":{ "x": 1.50, "big":9007199254740993 },"timestamp":"t","receivedAt":1}}}]}"#;
        let message: ServerMessage = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }

    #[test]
    fn a_session_id_does_not_show_in_debug_output() {
        let text = r#"{"type":"hello","protocol":1,"sessionId":"0190-secret","epoch":1,"sequence":0,"time":1,"server":{"name":"n","version":"v"},"limits":{"messageBytesMax":1,"keysPerMessageMax":1,"subscriptionsMax":1},"pingIntervalMs":1,"resumeWindowMs":1}"#;
        let message: ServerMessage = serde_json::from_str(text).unwrap();
        assert!(!format!("{message:?}").contains("secret"));
    }
}
