//! What can go wrong in a call, and when a client is set up.

use std::time::Duration;

use crate::DeviceFailure;

/// Why a call failed. What the relay is known to have done differs, so each case is one of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The relay, or a proxy before it, answered outside 2xx.
    #[error("the relay answered {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What the relay said: the body, cut after a few thousand characters.
        message: String,
        /// When the relay wants to be asked again, where it said so in seconds (`Retry-After`, RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// The call did not end in time. The relay may or may not have acted on it.
    #[error("the relay did not answer in time")]
    TimedOut,
    /// No connection could be made, so the relay has seen nothing of the call.
    #[error("the relay could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The connection was lost before the answer was complete. The relay may or may not have acted on the call.
    #[error("the connection to the relay was lost")]
    Interrupted(#[source] reqwest::Error),
    /// An answer within 2xx does not have the documented shape.
    #[error("the answer of the relay has an unexpected shape")]
    UnreadableAnswer(#[source] serde_json::Error),
    /// An answer is longer than [`Settings::answer_bytes_max`](crate::Settings::answer_bytes_max).
    #[error("the answer of the relay is longer than {bytes_max} bytes")]
    AnswerTooLong {
        /// Longest answer that is read.
        bytes_max: usize,
    },
    /// A name that cannot stand in a path: empty, `.` or `..`. Nothing was sent.
    #[error("`{0}` cannot be used as part of a path")]
    PathSegment(String),
    /// A session id or grant token that no HTTP header can carry. Nothing was sent.
    #[error("the {0} cannot be sent in an HTTP header")]
    HeaderValue(&'static str),
}

impl Error {
    /// The HTTP status, if the relay gave one outside 2xx.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Why a call towards a device failed, if that is what the relay's answer is about. A read tells an unknown device,
    /// one that is offline, one that did not answer and too many calls apart:
    ///
    /// ```no_run
    /// use admin_client::{DeviceFailure, SessionClient};
    /// use relay_protocol::{DeviceId, MethodParams};
    ///
    /// # async fn example(session: SessionClient) {
    /// let press = DeviceId::from("press-01");
    /// let called = session.invoke_direct_method(&press, MethodParams::new("reboot")).await;
    /// match called.as_ref().map_err(|error| error.device_failure()) {
    ///     Ok(answer) => println!("{}: {}", answer.status, answer.payload),
    ///     Err(Some(DeviceFailure::Offline)) => println!("switched off"),
    ///     Err(Some(DeviceFailure::Throttled { retry_after })) => println!("wait {retry_after:?}"),
    ///     Err(_) => println!("{called:?}"),
    /// }
    /// # }
    /// ```
    pub fn device_failure(&self) -> Option<DeviceFailure> {
        match self {
            Self::Status {
                status,
                message,
                retry_after,
            } => DeviceFailure::from_answer(*status, message, *retry_after),
            _ => None,
        }
    }

    /// Sorts a failure of the HTTP client. Its URL is dropped: it may hold a session id, which is a secret.
    pub(crate) fn from_http(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_connect() {
            Self::Unreachable(error)
        } else if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Interrupted(error)
        }
    }
}

/// Why a client could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The text is no certificate in PEM.
    #[error("the certificate authorities cannot be read")]
    Certificates(#[source] reqwest::Error),
    /// There is no certificate in the text.
    #[error("the file of certificate authorities holds none")]
    NoCertificate,
    /// The user agent cannot stand in an HTTP header.
    #[error("the user agent cannot be sent in an HTTP header")]
    UserAgent,
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be set up")]
    HttpClient(#[source] reqwest::Error),
}
