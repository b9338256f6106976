//! How much a relay logs.

/// How much the relay logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what may become one.
    Warn,
    /// And the relay's ordinary life.
    Info,
    /// And the life of each session.
    Verbose,
    /// And each message.
    Debug,
}

impl LogLevel {
    /// The level's name in `PUT /logLevel/:level`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Verbose => "verbose",
            Self::Debug => "debug",
        }
    }
}
