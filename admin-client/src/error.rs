//! What can go wrong in a call.

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay answered outside 2xx; `message` is its body, cut after a few thousand characters.
    #[error("the relay answered {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What the relay said.
        message: String,
    },
    /// No complete answer came in time. The relay may or may not have acted on the call.
    #[error("the relay did not answer in time")]
    TimedOut,
    /// The call could not be sent or its answer not received.
    #[error("the relay could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// A 2xx answer did not have the documented shape.
    #[error("the answer of the relay has an unexpected shape")]
    UnexpectedAnswer(#[source] serde_json::Error),
    /// An id that cannot stand in a path: empty, `.` or `..`.
    #[error("`{0}` cannot be used as part of a path")]
    PathSegment(String),
    /// The shared access key holds characters that no HTTP header can carry.
    #[error("the shared access key cannot be sent in an HTTP header")]
    UnusableKey,
    /// The HTTP client could not be set up.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Unreachable(error.without_url())
        }
    }
}
