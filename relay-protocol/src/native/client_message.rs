//! What clients send.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::object::object;
use super::selector::{NewSubscription, Selector};
use crate::SessionId;

/// A message from a client. Every one but [`Hello`] is a request: it has an `id`, greater than that of the request
/// before it, and gets one answer with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ClientMessage {
    /// Opens the conversation: the first message, sent once.
    Hello(Hello),
    /// Adds the grants of a further token: `{"type":"authorize","id":1,"token":"…"}`.
    Authorize {
        /// Number of the request.
        id: u64,
        /// The token.
        token: GrantToken,
    },
    /// Asks for values and their changes: `{"type":"subscribe","id":2,"subscriptions":[…]}`.
    Subscribe {
        /// Number of the request.
        id: u64,
        /// What is wanted.
        subscriptions: Vec<NewSubscription>,
    },
    /// Ends subscriptions: `{"type":"unsubscribe","id":3,"subscriptions":[…]}`.
    Unsubscribe {
        /// Number of the request.
        id: u64,
        /// What is wanted no more.
        subscriptions: Vec<Selector>,
    },
    /// Asks for last values once: `{"type":"lastValues","id":4,"of":[…]}`.
    LastValues {
        /// Number of the request.
        id: u64,
        /// What is asked for.
        of: Vec<Selector>,
    },
    /// Asks for a sign of life: `{"type":"ping","id":5}`.
    Ping {
        /// Number of the request.
        id: u64,
    },
}

/// First message of a client: `{"type":"hello","token":"…"}`. Without a member it asks for a session without grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// Grants for the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<GrantToken>,
    /// A session that exists; without it a new one is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Goes on where an earlier connection of the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// Where an earlier connection ended: `{"epoch":1,"sequence":42}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// `epoch` of that connection's hello.
    pub epoch: u64,
    /// `sequence` of the last message that had one.
    pub sequence: u64,
}

/// A grant token: a JWT signed by the security backend. It is a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantToken(String);

impl GrantToken {
    /// The token in its compact form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for GrantToken {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for GrantToken {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Shows nothing: the token is a secret.
impl fmt::Debug for GrantToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantToken(masked)")
    }
}

impl ClientMessage {
    /// Every `type` that a client's message may have.
    pub const TYPES: &[&str] = &[
        "hello",
        "authorize",
        "subscribe",
        "unsubscribe",
        "lastValues",
        "ping",
    ];

    /// Number of the request; a hello has none.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Hello(_) => None,
            Self::Authorize { id, .. }
            | Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::LastValues { id, .. }
            | Self::Ping { id } => Some(*id),
        }
    }
}

impl<'de> Deserialize<'de> for ClientMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Members {
            kind,
            id,
            token,
            session_id,
            resume,
            subscriptions,
            of,
        } = object(deserializer)?;
        let id = || id.ok_or_else(|| de::Error::missing_field("id"));
        let subscriptions =
            || subscriptions.ok_or_else(|| de::Error::missing_field("subscriptions"));
        Ok(match kind {
            Type::Hello => Self::Hello(Hello {
                token,
                session_id,
                resume,
            }),
            Type::Authorize => Self::Authorize {
                id: id()?,
                token: token.ok_or_else(|| de::Error::missing_field("token"))?,
            },
            Type::Subscribe => Self::Subscribe {
                id: id()?,
                subscriptions: subscriptions()?,
            },
            Type::Unsubscribe => Self::Unsubscribe {
                id: id()?,
                subscriptions: subscriptions()?
                    .into_iter()
                    .map(|subscription| subscription.selector)
                    .collect(),
            },
            Type::LastValues => Self::LastValues {
                id: id()?,
                of: of.ok_or_else(|| de::Error::missing_field("of"))?,
            },
            Type::Ping => Self::Ping { id: id()? },
        })
    }
}

/// The members of all messages. A tagged enum would build a tree of each message before it reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    #[serde(rename = "type")]
    kind: Type,
    id: Option<u64>,
    token: Option<GrantToken>,
    session_id: Option<SessionId>,
    #[serde(default, deserialize_with = "optional_object")]
    resume: Option<Resume>,
    subscriptions: Option<Vec<NewSubscription>>,
    of: Option<Vec<Selector>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    Hello,
    Authorize,
    Subscribe,
    Unsubscribe,
    LastValues,
    Ping,
}

fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct AsObject<T>(T);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for AsObject<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            object(deserializer).map(Self)
        }
    }
    let object = Option::<AsObject<T>>::deserialize(deserializer)?;
    Ok(object.map(|AsObject(object)| object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_may_come_in_any_order_and_unknown_ones_are_ignored() {
        let message: ClientMessage = serde_json::from_str(
            r#"{"subscriptions":[{"deviceId":"d","x":[{}],"type":"deviceTwin"}],"new":{"a":[1]},"id":7,"type":"subscribe"}"#,
        )
        .unwrap();
        assert_eq!(message.id(), Some(7));
    }

    #[test]
    fn a_message_is_an_object_all_the_way_down() {
        for text in [
            r#"["ping",1]"#,
            r#"{"type":"hello","resume":[1,2]}"#,
            r#"{"type":"unsubscribe","id":1,"subscriptions":[["deviceTwin","d"]]}"#,
            r#"{"type":"lastValues","id":1,"of":{}}"#,
        ] {
            assert!(
                serde_json::from_str::<ClientMessage>(text).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_request_needs_is_asked_for_by_name() {
        for (text, member) in [
            (r#"{"id":1}"#, "type"),
            (r#"{"type":"ping"}"#, "id"),
            (r#"{"type":"authorize","id":1}"#, "token"),
            (r#"{"type":"subscribe","id":1}"#, "subscriptions"),
            (r#"{"type":"unsubscribe","id":1}"#, "subscriptions"),
            (r#"{"type":"lastValues","id":1}"#, "of"),
        ] {
            let error = serde_json::from_str::<ClientMessage>(text).unwrap_err();
            assert!(
                error.to_string().contains(&format!("`{member}`")),
                "{error}"
            );
        }
    }

    #[test]
    fn every_type_is_listed() {
        for name in ClientMessage::TYPES {
            let text =
                format!(r#"{{"type":"{name}","id":1,"token":"t","subscriptions":[],"of":[]}}"#);
            serde_json::from_str::<ClientMessage>(&text).unwrap();
        }
        let error = serde_json::from_str::<ClientMessage>(r#"{"type":"x"}"#).unwrap_err();
        for name in ClientMessage::TYPES {
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
        assert_eq!(
            error.to_string().matches('`').count(),
            2 * (ClientMessage::TYPES.len() + 1)
        );
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let hello = ClientMessage::Hello(Hello {
            token: Some("header.payload.signature".into()),
            session_id: Some("0190-secret".into()),
            resume: None,
        });
        let shown = format!("{hello:?}");
        assert!(
            !shown.contains("payload") && !shown.contains("0190"),
            "{shown}"
        );
    }
}
