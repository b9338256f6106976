//! Every answer but the good ones.

use admin_client::Error;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

/// Why a request gets nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    Unauthenticated,
    Forbidden,
    NoGrantRequest,
    NoGrantTokens,
    NotFound,
    TooSlow,
    Relay(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Relay(error)
    }
}

impl IntoResponse for Refusal {
    #[expect(clippy::print_stderr, reason = "an example logs as plainly as it can")]
    fn into_response(self) -> Response {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "Log in first").into_response(),
            Self::Forbidden => {
                (StatusCode::FORBIDDEN, "You may not see this device").into_response()
            }
            Self::NoGrantRequest => {
                (StatusCode::BAD_REQUEST, "The body is no grant request").into_response()
            }
            Self::NoGrantTokens => {
                (StatusCode::NOT_FOUND, "Grant tokens are not configured").into_response()
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "Not found").into_response(),
            Self::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "The request took too long").into_response()
            }
            // What the request did wrong is the browser's to know.
            Self::Relay(Error::Status {
                status: status @ (400 | 404 | 413 | 429),
                message,
                ..
            }) => {
                let status = StatusCode::from_u16(status).expect("these four are statuses");
                (status, message).into_response()
            }
            // A refused key or a failure is this backend's own business.
            Self::Relay(error) => {
                eprintln!("{error}");
                match error {
                    Error::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "The relay is late"),
                    Error::Status { .. } => {
                        (StatusCode::BAD_GATEWAY, "The relay did not accept the call")
                    }
                    _ => (StatusCode::BAD_GATEWAY, "The relay is away"),
                }
                .into_response()
            }
        }
    }
}
