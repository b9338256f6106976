//! Why the relay ends a connection.

/// Why the relay ends a connection by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// An administrator deleted the session.
    SessionDeleted,
    /// The security backend gave the session an end, and it has come.
    SessionExpired,
    /// A newer connection took the session over.
    Replaced,
    /// The session's id came back on another connection although it had subscriptions, and is now retired.
    Retired,
    /// The client reads too slowly for what cannot be conflated, or not at all.
    SlowConsumer,
    /// The relay is shutting down.
    ShuttingDown,
}

impl Disconnect {
    /// The reason as a word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionDeleted => "session_deleted",
            Self::SessionExpired => "session_expired",
            Self::Replaced => "replaced",
            Self::Retired => "retired",
            Self::SlowConsumer => "slow_consumer",
            Self::ShuttingDown => "shutting_down",
        }
    }
}
