//! What a request to `/socket.io/` asks for, and the answers to requests that ask for nothing possible.
//!
//! The order of the checks and the error codes are those of the Engine.IO reference server.

use axum::Json;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::engine_io::PROTOCOL_VERSION;

/// The query of a request. Unknown parameters are ignored.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    #[serde(rename = "EIO")]
    version: Option<String>,
    transport: Option<String>,
    sid: Option<String>,
    /// The ux4iot session, which the CONNECT will be judged by.
    #[serde(rename = "sessionId")]
    pub(super) session_id: Option<String>,
}

/// What a valid request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A new long-polling connection.
    OpenPolling,
    /// A new WebSocket connection.
    OpenWebSocket,
    /// What the connection of this id has to say.
    Poll(String),
    /// To hand packets to the connection of this id.
    Post(String),
    /// A WebSocket for the connection of this id.
    Upgrade(String),
}

/// Why a request is refused. The codes are Engine.IO's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Neither `polling` nor `websocket`.
    UnknownTransport,
    /// No connection has that id, or none any more.
    UnknownConnection,
    /// A connection is opened by GET.
    BadHandshakeMethod,
    /// Anything else that cannot be.
    BadRequest,
    /// Another protocol version than 4.
    UnsupportedVersion,
    /// Another version of the WebSocket protocol than 13. The answer names that one, as RFC 6455 §4.4 demands.
    UnsupportedWebSocketVersion,
    /// A body beyond the limit that the handshake announced.
    PayloadTooLarge,
    /// All connections that are allowed exist, or the relay is shutting down.
    TooManyConnections,
}

/// Engine.IO's way of telling an error.
#[derive(Debug, Serialize)]
struct ErrorBody {
    code: u8,
    message: &'static str,
}

/// The one version of the WebSocket protocol that was not a draft.
const WEBSOCKET_VERSION: &str = "13";

/// How long a client that was refused for want of room should stay away.
const RETRY_AFTER_SECONDS: &str = "5";

impl Query {
    /// Tells what is asked for. `wants_websocket` is whether the request carries a valid WebSocket handshake.
    pub(super) fn request(
        &mut self,
        method: &Method,
        wants_websocket: bool,
    ) -> Result<Request, Refusal> {
        let is_polling = match self.transport.as_deref() {
            Some("polling") => true,
            Some("websocket") => false,
            Some(_) | None => return Err(Refusal::UnknownTransport),
        };
        if is_polling == wants_websocket {
            return Err(Refusal::BadRequest);
        }
        if let Some(sid) = self.sid.take() {
            return match (is_polling, method.as_str()) {
                (false, "GET") => Ok(Request::Upgrade(sid)),
                (true, "GET") => Ok(Request::Poll(sid)),
                (true, "POST") => Ok(Request::Post(sid)),
                _ => Err(Refusal::BadRequest),
            };
        }
        if method != Method::GET {
            return Err(Refusal::BadHandshakeMethod);
        }
        if self.version.as_deref() != Some(PROTOCOL_VERSION) {
            return Err(Refusal::UnsupportedVersion);
        }
        Ok(if is_polling {
            Request::OpenPolling
        } else {
            Request::OpenWebSocket
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::UnknownTransport => (StatusCode::BAD_REQUEST, 0, "Transport unknown"),
            Self::UnknownConnection => (StatusCode::BAD_REQUEST, 1, "Session ID unknown"),
            Self::BadHandshakeMethod => (StatusCode::BAD_REQUEST, 2, "Bad handshake method"),
            Self::BadRequest | Self::UnsupportedWebSocketVersion => {
                (StatusCode::BAD_REQUEST, 3, "Bad request")
            }
            Self::UnsupportedVersion => {
                (StatusCode::BAD_REQUEST, 5, "Unsupported protocol version")
            }
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 3, "Payload too large"),
            Self::TooManyConnections => {
                (StatusCode::SERVICE_UNAVAILABLE, 4, "Too many connections")
            }
        };
        let mut response = (status, Json(ErrorBody { code, message })).into_response();
        let header = match self {
            Self::TooManyConnections => Some((header::RETRY_AFTER, RETRY_AFTER_SECONDS)),
            Self::UnsupportedWebSocketVersion => {
                Some((header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION))
            }
            _ => None,
        };
        if let Some((name, value)) = header {
            let value = header::HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &Method, query: &str, wants_websocket: bool) -> Result<Request, Refusal> {
        let uri = format!("http://relay/socket.io/?{query}").parse().unwrap();
        let axum::extract::Query(mut query) =
            axum::extract::Query::<Query>::try_from_uri(&uri).unwrap();
        query.request(method, wants_websocket)
    }

    #[test]
    fn requests_are_told_apart() {
        let sid = || "abc".to_owned();
        for (method, query, wants_websocket, request) in [
            (
                Method::GET,
                "EIO=4&transport=polling&t=1",
                false,
                Request::OpenPolling,
            ),
            (
                Method::GET,
                "sessionId=s&EIO=4&transport=websocket",
                true,
                Request::OpenWebSocket,
            ),
            (
                Method::GET,
                "transport=polling&EIO=4&sid=abc",
                false,
                Request::Poll(sid()),
            ),
            (
                Method::POST,
                "EIO=4&transport=polling&sid=abc",
                false,
                Request::Post(sid()),
            ),
            (
                Method::GET,
                "EIO=4&transport=websocket&sid=abc",
                true,
                Request::Upgrade(sid()),
            ),
        ] {
            assert_eq!(
                ask(&method, query, wants_websocket),
                Ok(request),
                "{method} {query}"
            );
        }
    }

    #[test]
    fn impossible_requests_have_the_codes_of_engine_io() {
        for (method, query, wants_websocket, refusal) in [
            (Method::GET, "EIO=4", false, Refusal::UnknownTransport),
            (
                Method::GET,
                "EIO=4&transport=abc",
                false,
                Refusal::UnknownTransport,
            ),
            (
                Method::GET,
                "EIO=4&transport=websocket",
                false,
                Refusal::BadRequest,
            ),
            (
                Method::GET,
                "EIO=4&transport=polling",
                true,
                Refusal::BadRequest,
            ),
            (
                Method::POST,
                "EIO=4&transport=polling",
                false,
                Refusal::BadHandshakeMethod,
            ),
            (
                Method::PUT,
                "EIO=4&transport=polling",
                false,
                Refusal::BadHandshakeMethod,
            ),
            (
                Method::DELETE,
                "EIO=4&transport=polling&sid=abc",
                false,
                Refusal::BadRequest,
            ),
            (
                Method::GET,
                "transport=polling",
                false,
                Refusal::UnsupportedVersion,
            ),
            (
                Method::GET,
                "EIO=3&transport=polling",
                false,
                Refusal::UnsupportedVersion,
            ),
            (
                Method::GET,
                "EIO=3&transport=websocket",
                true,
                Refusal::UnsupportedVersion,
            ),
        ] {
            assert_eq!(
                ask(&method, query, wants_websocket),
                Err(refusal),
                "{method} {query}"
            );
        }
    }
}
