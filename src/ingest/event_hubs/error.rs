//! What can go wrong between the relay and an event hub.

use std::io;
use std::time::Duration;

use fe2o3_amqp::connection::{ConnectionStopReason, OpenError};
use fe2o3_amqp::link::{
    DetachError, LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError,
    SessionStopReason,
};
use fe2o3_amqp::session::BeginError;
use fe2o3_amqp_types::definitions::{self, ErrorCondition, LinkError};
use fe2o3_amqp_types::primitives::Symbol;

/// Why the event hub cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The socket, TLS or WebSocket did not come about.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The hub answered with an error condition.
    #[error("{doing} was refused with {condition}: {description}")]
    Refused {
        doing: &'static str,
        condition: String,
        description: String,
    },
    /// The connection, a session or a link is gone, or the peer broke the protocol.
    #[error("{doing} failed: {detail}")]
    Failed { doing: &'static str, detail: String },
    /// The hub did not answer.
    #[error("{doing} took longer than {} ms", limit.as_millis())]
    TimedOut {
        doing: &'static str,
        limit: Duration,
    },
    /// A partition moved on while its link stayed silent.
    #[error(
        "partition {partition} holds events up to {last_enqueued} but its link is silent since {position}"
    )]
    Silent {
        partition: String,
        last_enqueued: i64,
        position: i64,
    },
    /// The next event of a partition is larger than the relay takes.
    #[error("the event is too large")]
    EventTooLarge,
    /// Code on the thread of the connection panicked.
    #[error("the connection's task panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// A refusal by the peer.
    pub(super) fn refused(doing: &'static str, error: &definitions::Error) -> Self {
        Self::Refused {
            doing,
            condition: condition_name(&error.condition),
            description: error.description.clone().unwrap_or_default(),
        }
    }

    pub(super) fn failed(doing: &'static str, detail: &impl ToString) -> Self {
        Self::Failed {
            doing,
            detail: detail.to_string(),
        }
    }

    /// What the operator should look at, if that is known.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Connect { .. } => {
                "check host and port in the Event Hub connection string, the network, and for TLS the trusted certificates"
            }
            Self::Refused { condition, .. } => match condition.as_str() {
                "amqp:unauthorized-access" | "com.microsoft:auth-failed" => {
                    "check SharedAccessKeyName and SharedAccessKey, that the policy has the right Listen, and this machine's clock; a given SharedAccessSignature may have lapsed"
                }
                "amqp:not-found" => "check EntityPath and the consumer group",
                "amqp:link:stolen" => {
                    "another reader with an owner level took the partition; give this relay a consumer group of its own"
                }
                "amqp:resource-limit-exceeded" => {
                    "Event Hubs admits five readers to a partition in one consumer group; give this relay a consumer group of its own"
                }
                "com.microsoft:server-busy" => {
                    "the event hub is throttling; check its throughput units"
                }
                _ => "it will be tried again",
            },
            Self::EventTooLarge => "it is passed over",
            Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Silent { .. }
            | Self::Panicked(_) => "it will be tried again",
        }
    }

    /// Whether only one link is affected, so that the others can go on. A lapsed token or a vanished entity concerns
    /// them all.
    pub(super) fn concerns_link_only(&self) -> bool {
        matches!(
            self,
            Self::Refused { doing, condition, .. }
                if *doing == READING
                    && condition != "amqp:unauthorized-access"
                    && condition != "amqp:not-found"
        )
    }
}

/// What a reader does, for its errors.
pub(super) const READING: &str = "reading a partition";

pub(super) fn open(error: OpenError) -> Error {
    const DOING: &str = "opening the AMQP connection";
    match error {
        OpenError::RemoteClosedWithError(error) => Error::refused(DOING, &error),
        error => Error::failed(DOING, &error),
    }
}

pub(super) fn begin(error: BeginError) -> Error {
    const DOING: &str = "beginning an AMQP session";
    match error {
        BeginError::RemoteEndedWithError(error)
        | BeginError::ConnectionStopped(ConnectionStopReason::RemoteClosedWithError(error)) => {
            Error::refused(DOING, &error)
        }
        error => Error::failed(DOING, &error),
    }
}

pub(super) fn attach_receiver(doing: &'static str, error: ReceiverAttachError) -> Error {
    match error {
        ReceiverAttachError::RemoteClosedWithError(error) => Error::refused(doing, &error),
        ReceiverAttachError::SessionStopped(reason) => session_stopped(&reason),
        error => Error::failed(doing, &error),
    }
}

pub(super) fn attach_sender(doing: &'static str, error: SenderAttachError) -> Error {
    match error {
        SenderAttachError::RemoteClosedWithError(error) => Error::refused(doing, &error),
        SenderAttachError::SessionStopped(reason) => session_stopped(&reason),
        error => Error::failed(doing, &error),
    }
}

pub(super) fn receive(doing: &'static str, error: RecvError) -> Error {
    match error {
        RecvError::MessageSizeExceeded(_) => Error::EventTooLarge,
        RecvError::LinkStateError(error) => link_state(doing, error),
        error => Error::failed(doing, &error),
    }
}

pub(super) fn send(doing: &'static str, error: SendError) -> Error {
    match error {
        SendError::LinkStateError(error) => link_state(doing, error),
        SendError::Detached(
            DetachError::RemoteClosedWithError(error) | DetachError::RemoteDetachedWithError(error),
        ) => Error::refused(doing, &error),
        error => Error::failed(doing, &error),
    }
}

fn link_state(doing: &'static str, error: LinkStateError) -> Error {
    match error {
        LinkStateError::RemoteClosedWithError(error)
        | LinkStateError::RemoteDetachedWithError(error)
            if error.condition == LinkError::MessageSizeExceeded.into() =>
        {
            Error::EventTooLarge
        }
        LinkStateError::RemoteClosedWithError(error)
        | LinkStateError::RemoteDetachedWithError(error) => Error::refused(doing, &error),
        LinkStateError::SessionStopped(reason) => session_stopped(&reason),
        error @ (LinkStateError::RemoteClosed | LinkStateError::RemoteDetached) => Error::Refused {
            doing,
            condition: "amqp:link:detach-forced".to_owned(),
            description: error.to_string(),
        },
        error => Error::failed(doing, &error),
    }
}

fn session_stopped(reason: &SessionStopReason) -> Error {
    const DOING: &str = "keeping the AMQP connection";
    match reason {
        SessionStopReason::RemoteEndedWithError(error)
        | SessionStopReason::ConnectionStopped(ConnectionStopReason::RemoteClosedWithError(
            error,
        )) => Error::refused(DOING, error),
        reason => Error::failed(DOING, &format!("{reason:?}")),
    }
}

fn condition_name(condition: &ErrorCondition) -> String {
    let symbol = match condition {
        ErrorCondition::AmqpError(condition) => Symbol::from(condition),
        ErrorCondition::ConnectionError(condition) => Symbol::from(condition),
        ErrorCondition::SessionError(condition) => Symbol::from(condition),
        ErrorCondition::LinkError(condition) => Symbol::from(condition),
        ErrorCondition::Custom(condition) => condition.clone(),
    };
    symbol.0
}
