//! The HTTP side: `GET /ws` and its handshake.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use relay_protocol::native::SUBPROTOCOL;

use super::driver::Driver;
use super::socket::Socket;
use crate::push::websocket::Handshake;
use crate::push::{Push, client_address};
use crate::telemetry::metrics::ConnectionRefusal;

/// How long a client that was refused for want of room should stay away.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// The one version of the WebSocket protocol that there is.
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");

/// The route of the native protocol. The server must support upgrades.
pub(in crate::push) fn router(push: Push) -> Router {
    Router::new().route("/ws", get(serve)).with_state(push)
}

/// Why a handshake is refused.
enum Refusal {
    /// It is no WebSocket handshake (RFC 6455 §4.2.1); the answer says what is wrong.
    BadHandshake(StatusCode, String),
    /// Subprotocols were offered, and none is known.
    UnknownSubprotocol,
    /// All connections that are allowed exist, or the relay is shutting down.
    TooManyConnections,
}

async fn serve(State(push): State<Push>, request: Request) -> Response {
    push.open_native(request).await.unwrap_or_else(|refusal| {
        push.0.metrics.refused.inc(refusal.reason());
        refusal.into_response()
    })
}

impl Push {
    async fn open_native(&self, request: Request) -> Result<Response, Refusal> {
        let (mut parts, _) = request.into_parts();
        let handshake = match Handshake::read(&mut parts).await {
            Ok(Some(handshake)) => handshake,
            Ok(None) => {
                return Err(Refusal::BadHandshake(
                    StatusCode::BAD_REQUEST,
                    String::new(),
                ));
            }
            Err(wrong) => {
                return Err(Refusal::BadHandshake(wrong.status(), wrong.body_text()));
            }
        };
        let subprotocol = subprotocol(&parts.headers)?;
        let place = self.take_place().ok_or(Refusal::TooManyConnections)?;
        let address = client_address(&parts.extensions);
        let push = self.clone();
        let (answer, upgrading) = handshake.accept(subprotocol);
        self.0.tasks.spawn(async move {
            // A client that hangs up before the answer is no connection.
            let bytes_max = push.0.settings.payload_bytes_max;
            if let Some(socket) = upgrading.socket(bytes_max).await {
                let tasks = push.0.tasks.clone();
                let driver = Driver::new(push, Socket::new(socket), address, place);
                // In a task of its own, which has no room for what led to it.
                tasks.spawn(driver.run());
            }
        });
        Ok(answer)
    }
}

/// What is spoken with a client that offers these subprotocols: without any, the same as with the known one.
fn subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>, Refusal> {
    let mut offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .peekable();
    if offered.peek().is_none() {
        Ok(None)
    } else if offered.any(|name| name == SUBPROTOCOL.as_bytes()) {
        Ok(Some(SUBPROTOCOL))
    } else {
        Err(Refusal::UnknownSubprotocol)
    }
}

impl Refusal {
    fn reason(&self) -> ConnectionRefusal {
        match self {
            Self::BadHandshake(..) => ConnectionRefusal::BadHandshake,
            Self::UnknownSubprotocol => ConnectionRefusal::ProtocolVersion,
            Self::TooManyConnections => ConnectionRefusal::ConnectionsFull,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            // Whoever asks for another version is to hear which there is (RFC 6455 §4.4).
            Self::BadHandshake(status, text) => {
                let headers = [(header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION)];
                (status, headers, text).into_response()
            }
            Self::UnknownSubprotocol => (
                StatusCode::BAD_REQUEST,
                format!("the subprotocol of this relay is {SUBPROTOCOL}"),
            )
                .into_response(),
            Self::TooManyConnections => {
                let headers = [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)];
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (status, headers, "too many connections").into_response()
            }
        }
    }
}
