//! The HTTP side: `/socket.io/`, where every connection begins and long-polling goes on.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{self, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::application::{Application, Relayed};
use super::driver::Driver;
use super::engine_io::decode_payload;
use super::handshake::{Query, Refusal, Request};
use super::registry::ConnectionId;
use super::transport::Transport;
use super::transport::polling::{MAILBOX_CAPACITY, Mail, Polling};
use super::transport::websocket::WebSocket;
use crate::domain::id::SessionId;
use crate::push::websocket::Handshake;
use crate::push::{Place, Push};
use crate::relay::FirstTransport;
use crate::telemetry::metrics::ConnectionRefusal;

/// What browsers take as text without a preflight.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The routes of Socket.IO. The server must support upgrades, and must not limit how long a request may take: a poll is
/// held for as long as there is nothing to say.
pub(in crate::push) fn router(push: Push) -> Router {
    routes::<Relayed>("/socket.io", push)
}

/// The routes of an application at a path, which clients write with or without a slash at its end.
pub(super) fn routes<A: Application>(path: &str, push: Push) -> Router {
    Router::new()
        .route(path, any(serve::<A>))
        .route(&format!("{path}/"), any(serve::<A>))
        .with_state(push)
}

async fn serve<A: Application>(State(push): State<Push>, request: extract::Request) -> Response {
    match push.serve::<A>(request).await {
        Ok(response) => response,
        Err(refusal) => {
            push.count_refusal(refusal);
            refusal.into_response()
        }
    }
}

/// The first packet of every connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Open<'a> {
    sid: &'a str,
    upgrades: &'static [&'static str],
    ping_interval: u128,
    ping_timeout: u128,
    max_payload: usize,
}

impl Push {
    async fn serve<A: Application>(&self, request: extract::Request) -> Result<Response, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Ok(extract::Query(mut query)) = extract::Query::<Query>::try_from_uri(&parts.uri)
        else {
            return Err(Refusal::BadRequest);
        };
        let upgrade = handshake(&mut parts).await?;
        // Read here, so that a connection without a session does not keep what a client made up.
        let session_id = query.session_id.as_deref().and_then(SessionId::parse);
        match (query.request(&parts.method, upgrade.is_some())?, upgrade) {
            (Request::OpenPolling, _) => self.open_polling::<A>(session_id),
            (Request::OpenWebSocket, Some(upgrade)) => {
                self.open_websocket::<A>(session_id, upgrade)
            }
            (Request::Poll(sid), _) => self.poll(&sid).await,
            (Request::Post(sid), _) => self.post(&sid, body).await,
            (Request::Upgrade(sid), Some(upgrade)) => self.upgrade(&sid, upgrade),
            (Request::OpenWebSocket | Request::Upgrade(_), None) => Err(Refusal::BadRequest),
        }
    }

    fn open_websocket<A: Application>(
        &self,
        session_id: Option<SessionId>,
        handshake: Handshake,
    ) -> Result<Response, Refusal> {
        let place = self.take_place().ok_or(Refusal::TooManyConnections)?;
        let open = self.open_packet(&ConnectionId::random(), &[]);
        let push = self.clone();
        let (answer, upgrading) = handshake.accept(None);
        self.0.tasks.spawn(async move {
            // A client that hangs up before the answer is no connection.
            let bytes_max = push.0.settings.payload_bytes_max;
            if let Some(socket) = upgrading.socket(bytes_max).await {
                let mut transport = Transport::WebSocket(WebSocket::new(socket));
                transport.queue(open);
                // In a task of its own, which has no room for what led to it.
                push.drive::<A>(transport, FirstTransport::Websocket, session_id, place);
            }
        });
        Ok(answer)
    }

    fn open_polling<A: Application>(
        &self,
        session_id: Option<SessionId>,
    ) -> Result<Response, Refusal> {
        let place = self.take_place().ok_or(Refusal::TooManyConnections)?;
        let id = ConnectionId::random();
        let open = self.open_packet(&id, &["websocket"]);
        let (mail, mailbox) = mpsc::channel(MAILBOX_CAPACITY);
        let entry = self.0.polling.insert(id, mail);
        let polling = Polling::new(mailbox, entry, self.0.settings.upgrade_timeout);
        let transport = Transport::Polling(Box::new(polling));
        let first = FirstTransport::Polling;
        self.clone().drive::<A>(transport, first, session_id, place);
        Ok(text(open))
    }

    fn drive<A: Application>(
        self,
        transport: Transport,
        first: FirstTransport,
        session_id: Option<SessionId>,
        place: Place,
    ) {
        let tasks = self.0.tasks.clone();
        let driver = Driver::<A>::new(self, transport, first, session_id, place);
        tasks.spawn(driver.run());
    }

    async fn poll(&self, sid: &str) -> Result<Response, Refusal> {
        let handle = self.0.polling.get(sid).ok_or(Refusal::UnknownConnection)?;
        let (answer, answered) = oneshot::channel();
        if !handle.send(Mail::Poll(answer)).await {
            return Err(Refusal::UnknownConnection);
        }
        let body = answered.await.map_err(|_| Refusal::BadRequest)?;
        Ok(text(Body::new(body)))
    }

    async fn post(&self, sid: &str, body: Body) -> Result<Response, Refusal> {
        let handle = self.0.polling.get(sid).ok_or(Refusal::UnknownConnection)?;
        let packets = match handle.start_post() {
            None => Err(Refusal::BadRequest),
            Some(guard) => match self.read(body).await {
                Ok(body) => decode_payload(&body)
                    .map(|packets| (guard, packets))
                    .map_err(|_| Refusal::BadRequest),
                Err(refusal) => Err(refusal),
            },
        };
        match packets {
            Ok((_guard, packets)) => {
                let (done, is_done) = oneshot::channel();
                if !handle.send(Mail::Post(packets, done)).await {
                    return Err(Refusal::UnknownConnection);
                }
                is_done.await.map_err(|_| Refusal::BadRequest)?;
                Ok(text("ok"))
            }
            Err(refusal) => {
                handle.send(Mail::Violation).await;
                Err(refusal)
            }
        }
    }

    /// Reads the body of a `POST`.
    async fn read(&self, body: Body) -> Result<String, Refusal> {
        let body = Limited::new(body, self.0.settings.payload_bytes_max).collect();
        let body = tokio::time::timeout(self.0.settings.ping_timeout, body)
            .await
            .map_err(|_| Refusal::BadRequest)?;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Refusal::PayloadTooLarge
            } else {
                Refusal::BadRequest
            }
        })?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| Refusal::BadRequest)
    }

    fn upgrade(&self, sid: &str, handshake: Handshake) -> Result<Response, Refusal> {
        let handle = self.0.polling.get(sid).ok_or(Refusal::UnknownConnection)?;
        let bytes_max = self.0.settings.payload_bytes_max;
        let (answer, upgrading) = handshake.accept(None);
        self.0.tasks.spawn(async move {
            if let Some(socket) = upgrading.socket(bytes_max).await {
                let websocket = Box::new(WebSocket::new(socket));
                handle.send(Mail::Probe(websocket)).await;
            }
        });
        Ok(answer)
    }

    fn open_packet(&self, id: &ConnectionId, upgrades: &'static [&'static str]) -> Bytes {
        let settings = &self.0.settings;
        let open = Open {
            sid: id.as_str(),
            upgrades,
            ping_interval: settings.ping_interval.as_millis(),
            ping_timeout: settings.ping_timeout.as_millis(),
            max_payload: settings.payload_bytes_max,
        };
        let open = serde_json::to_string(&open).expect("texts and numbers can be written as JSON");
        format!("0{open}").into()
    }

    fn count_refusal(&self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::TooManyConnections => ConnectionRefusal::ConnectionsFull,
            Refusal::UnsupportedVersion => ConnectionRefusal::ProtocolVersion,
            Refusal::UnknownTransport | Refusal::BadHandshakeMethod => {
                ConnectionRefusal::BadHandshake
            }
            // Ordinary ends of long-polling, and requests that open nothing.
            Refusal::UnknownConnection
            | Refusal::BadRequest
            | Refusal::UnsupportedWebSocketVersion
            | Refusal::PayloadTooLarge => return,
        };
        self.0.metrics.refused.inc(reason);
    }
}

/// The WebSocket handshake in a request; `None` when there is no trace of one, an error when it is not a valid one.
async fn handshake(parts: &mut Parts) -> Result<Option<Handshake>, Refusal> {
    if !parts.headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return Ok(None);
    }
    let handshake = Handshake::read(parts).await;
    let handshake = handshake.map_err(|rejection| match rejection {
        WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_) => {
            Refusal::UnsupportedWebSocketVersion
        }
        _ => Refusal::BadRequest,
    })?;
    handshake.map(Some).ok_or(Refusal::BadRequest)
}

fn text(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
