//! Why a connection ended, and with which manners.

use relay_protocol::native::{Goodbye, GoodbyeCode};

use crate::domain::disconnect::Disconnect;
use crate::push::goodbye::{code_of, goodbye};

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The client closed it.
    ClosedByClient,
    /// The socket failed, or ended without a close frame.
    SocketFailed,
    /// The client did not read what was written to it.
    WriteTimeout,
    /// A revocation could not wait any longer for a stuck write.
    Cut,
    /// The time for a graceful end is over.
    Stopped,
    /// The hello was refused. Whether the same hello may be granted later.
    HelloRefused {
        /// Whether it may.
        later: bool,
    },
    /// The client is told that the relay ends the connection.
    Goodbye(GoodbyeCode),
}

/// How a connection is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The client has closed it: its close frame is answered.
    Answer,
    /// The client is told why.
    Tell(Goodbye),
    /// Not another byte.
    Drop,
}

impl CloseReason {
    /// The reason as a word for logs.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::ClosedByClient => "closedByClient",
            Self::SocketFailed => "socketFailed",
            Self::WriteTimeout => "writeTimeout",
            Self::Cut => "cut",
            Self::Stopped => "stopped",
            Self::HelloRefused { .. } => GoodbyeCode::HelloRefused.as_str(),
            Self::Goodbye(code) => code.as_str(),
        }
    }

    /// How a connection is ended for this reason.
    pub(super) fn farewell(&self) -> Farewell {
        match self {
            Self::ClosedByClient => Farewell::Answer,
            Self::SocketFailed | Self::WriteTimeout | Self::Cut => Farewell::Drop,
            Self::Stopped => Farewell::Tell(goodbye(GoodbyeCode::ShuttingDown)),
            Self::HelloRefused { later } => Farewell::Tell(Goodbye {
                reconnect: *later,
                ..goodbye(GoodbyeCode::HelloRefused)
            }),
            Self::Goodbye(code) => Farewell::Tell(goodbye(code.clone())),
        }
    }
}

impl From<Disconnect> for CloseReason {
    fn from(disconnect: Disconnect) -> Self {
        Self::Goodbye(code_of(disconnect))
    }
}
