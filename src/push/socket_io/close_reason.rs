//! Why a connection ended, and with which manners.

use crate::domain::disconnect::Disconnect;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The client said goodbye in the protocol's own words.
    ClosedByClient,
    /// The transport ended without a word.
    TransportClosed,
    /// The transport failed.
    TransportFailed,
    /// The client broke the protocol.
    ProtocolViolation,
    /// A ping was not answered in time.
    PingTimeout,
    /// No session was asked for in time.
    ConnectTimeout,
    /// The session had ended before, and the refused client did not go by itself.
    Refused,
    /// Nobody ever issued the session's id.
    UnknownSession,
    /// The client did not read what was written to it.
    WriteTimeout,
    /// A revocation could not wait any longer for a stuck write.
    Cut,
    /// The relay stops before the connection got a session, or its time for a graceful end is over.
    Stopped,
    /// The relay ended the session.
    Disconnected(Disconnect),
}

/// How the transport is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Everything queued is delivered first, waiting for the client to take it.
    Deliver,
    /// Whoever listens right now is told.
    Tell,
    /// The client asked for the end itself: what is open is answered, nothing more.
    Confirm,
    /// Not another byte.
    Drop,
}

impl CloseReason {
    /// The reason as a word for logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ClosedByClient => "closed_by_client",
            Self::TransportClosed => "transport_closed",
            Self::TransportFailed => "transport_failed",
            Self::ProtocolViolation => "protocol_violation",
            Self::PingTimeout => "ping_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::Refused => "refused",
            Self::UnknownSession => "unknown_session",
            Self::WriteTimeout => "write_timeout",
            Self::Cut => "cut",
            Self::Stopped => "stopped",
            Self::Disconnected(disconnect) => disconnect.as_str(),
        }
    }

    /// How a transport is ended for this reason.
    pub(super) fn farewell(self) -> Farewell {
        match self {
            Self::Disconnected(_) | Self::UnknownSession => Farewell::Deliver,
            Self::ProtocolViolation
            | Self::PingTimeout
            | Self::ConnectTimeout
            | Self::Refused
            | Self::Stopped
            // A WebSocket's close frame wants one in return.
            | Self::TransportClosed => Farewell::Tell,
            Self::ClosedByClient => Farewell::Confirm,
            Self::TransportFailed | Self::WriteTimeout | Self::Cut => Farewell::Drop,
        }
    }
}
