//! Why a request for events is refused. The statuses and texts are those of the REST API where there is the same.

use std::borrow::Cow;

use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::query::QueryError;
use crate::grant_token::TokenError;
use crate::relay::{GrantError, NoSuchSession, SnapshotError, TooManySessions};
use crate::session_rate;
use crate::telemetry::metrics::ConnectionRefusal;

/// How long a client that was refused for want of room should stay away.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

/// How a refused bearer token is answered (RFC 6750 §3.1).
const INVALID_TOKEN: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");

/// Why a request for events is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The query makes no sense.
    Query(QueryError),
    /// Nothing is asked for.
    NothingWanted,
    /// Events are read with `GET`.
    Method,
    /// There is neither a session nor a token nor a key.
    CredentialMissing,
    /// The key is wrong.
    KeyWrong,
    /// The token is refused.
    Token(TokenError),
    /// The session does not exist, or no longer.
    NoSuchSession,
    /// Nothing of what is asked for is granted.
    NotGranted,
    /// The session would have too many grants.
    TooManyGrants,
    /// The session would have too many subscriptions.
    TooManySubscriptions,
    /// The current values of all that is asked for are too much for one event.
    SnapshotTooLarge,
    /// There are too many sessions.
    TooManySessions,
    /// The client's address creates sessions too fast.
    TooManySessionRequests {
        /// When the next one may be created.
        retry_after_s: u64,
    },
    /// There are too many connections, or the relay is shutting down.
    TooManyConnections,
}

impl Refusal {
    /// As what it counts.
    pub(super) fn reason(self) -> ConnectionRefusal {
        match self {
            Self::Query(_) | Self::NothingWanted | Self::Method => ConnectionRefusal::BadHandshake,
            Self::CredentialMissing
            | Self::KeyWrong
            | Self::Token(_)
            | Self::NoSuchSession
            | Self::NotGranted
            | Self::TooManyGrants
            | Self::TooManySubscriptions
            | Self::SnapshotTooLarge
            | Self::TooManySessions
            | Self::TooManySessionRequests { .. } => ConnectionRefusal::Session,
            Self::TooManyConnections => ConnectionRefusal::ConnectionsFull,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Query(_) | Self::NothingWanted => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Token(TokenError::KeysUnavailable)
            | Self::TooManySessions
            | Self::TooManyConnections => StatusCode::SERVICE_UNAVAILABLE,
            Self::CredentialMissing | Self::KeyWrong | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::NoSuchSession => StatusCode::NOT_FOUND,
            Self::NotGranted => StatusCode::FORBIDDEN,
            Self::TooManyGrants
            | Self::TooManySubscriptions
            | Self::SnapshotTooLarge
            | Self::TooManySessionRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn text(self) -> Cow<'static, str> {
        match self {
            Self::Query(error) => error.to_string().into(),
            Self::NothingWanted => {
                "The query asks for nothing: name what is wanted, such as telemetry=deviceId/telemetryKey"
                    .into()
            }
            Self::Method => "Method not allowed".into(),
            Self::CredentialMissing => {
                "Provide a sessionId, a grant token or a Shared-Access-Key".into()
            }
            Self::KeyWrong => "Unauthorized: invalid shared-access-key".into(),
            Self::Token(error @ TokenError::KeysUnavailable) => error.to_string().into(),
            Self::Token(error) => format!("Unauthorized: {error}").into(),
            Self::NoSuchSession => "No such sessionId".into(),
            Self::NotGranted => "subscription request not granted".into(),
            Self::TooManyGrants => "Too many grants in this session".into(),
            Self::TooManySubscriptions => "Too many subscriptions in this session".into(),
            Self::SnapshotTooLarge => {
                "The current values are too much for one event, ask for fewer devices".into()
            }
            Self::TooManySessions => "Too many sessions".into(),
            Self::TooManySessionRequests { .. } => "Too many sessions created, try again later".into(),
            Self::TooManyConnections => "Too many connections".into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.text()).into_response();
        let headers = response.headers_mut();
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_S);
        }
        if let Self::TooManySessionRequests { retry_after_s } = self {
            headers.insert(RETRY_AFTER, retry_after_s.into());
        }
        if self == Self::Method {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        if matches!(self, Self::Token(_)) && self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, INVALID_TOKEN);
        }
        response
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<NoSuchSession> for Refusal {
    fn from(NoSuchSession: NoSuchSession) -> Self {
        Self::NoSuchSession
    }
}

impl From<TooManySessions> for Refusal {
    fn from(TooManySessions: TooManySessions) -> Self {
        Self::TooManySessions
    }
}

impl From<session_rate::Refused> for Refusal {
    fn from(refused: session_rate::Refused) -> Self {
        Self::TooManySessionRequests {
            retry_after_s: refused.retry_after_s,
        }
    }
}

impl From<GrantError> for Refusal {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::NoSuchSession(NoSuchSession) => Self::NoSuchSession,
            GrantError::TooMany => Self::TooManyGrants,
        }
    }
}

impl From<SnapshotError> for Refusal {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::NoSuchSession(NoSuchSession) => Self::NoSuchSession,
            SnapshotError::TooManySubscriptions => Self::TooManySubscriptions,
            SnapshotError::TooLarge => Self::SnapshotTooLarge,
        }
    }
}
