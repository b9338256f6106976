//! How a WebSocket begins: its handshake (RFC 6455 §4.2), and the socket that the HTTP connection leaves.

use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::WebSocket;
use crate::http::UpgradedSocket;

/// A valid handshake that is still to be answered.
#[derive(Debug)]
pub(in crate::push) struct Handshake {
    on_upgrade: OnUpgrade,
    accept: HeaderValue,
}

/// A socket that is there as soon as the answer to its handshake has left.
#[derive(Debug)]
pub(in crate::push) struct Upgrading(OnUpgrade);

impl Handshake {
    /// Checks the handshake in a request; `None` when it could not be answered.
    pub(in crate::push) async fn read(
        parts: &mut Parts,
    ) -> Result<Option<Self>, WebSocketUpgradeRejection> {
        let on_upgrade = parts.extensions.get::<OnUpgrade>().cloned();
        let _ = WebSocketUpgrade::from_request_parts(parts, &()).await?;
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
        Ok(on_upgrade.zip(key).map(|(on_upgrade, key)| {
            let accept = derive_accept_key(key.as_bytes());
            let accept = HeaderValue::from_str(&accept).expect("Base64 can stand in a header");
            Self { on_upgrade, accept }
        }))
    }

    /// Accepts it: the answer, and what gives the socket when that has left.
    pub(in crate::push) fn accept(
        self,
        subprotocol: Option<&'static str>,
    ) -> (Response, Upgrading) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(subprotocol) = subprotocol {
            let subprotocol = HeaderValue::from_static(subprotocol);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        (response, Upgrading(self.on_upgrade))
    }
}

impl Upgrading {
    /// Waits for the socket. `None` when the client has hung up before. `message_bytes_max` bounds what it may send at
    /// once.
    pub(in crate::push) async fn socket(self, message_bytes_max: usize) -> Option<WebSocket> {
        let (socket, early) = UpgradedSocket::take(self.0.await.ok()?);
        Some(WebSocket::new(socket, &early, message_bytes_max))
    }
}
