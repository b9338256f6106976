//! The two ways to the relay that a client of a scenario can take.

use clap::ValueEnum;

/// How the clients of a scenario connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Socket.IO over WebSocket; sessions, grants and subscriptions by REST.
    SocketIo,
    /// The native protocol over WebSocket; grants by token, one message for all subscriptions.
    Native,
}

impl Transport {
    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SocketIo => "socket-io",
            Self::Native => "native",
        }
    }
}
