//! The server that the public test suites of Engine.IO and Socket.IO ask for, on the transports of the relay.
//!
//! | path | does |
//! |---|---|
//! | `/engine.io/` | sends every Engine.IO message back |
//! | `/socket.io/` | [`EventEcho`] in the namespaces `/` and `/custom` |
//! | `/websocket` | sends every WebSocket message back |
//!
//! The relay is not asked for anything here. All below it is the same: handshake, long-polling, WebSocket and upgrade,
//! heartbeat, the codecs, and for each namespace the rules of [`Connection`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::harness::PATIENCE;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::grant_token::GrantTokens;
use crate::lifecycle::Lifecycle;
use crate::push::socket_io::application::Application;
use crate::push::socket_io::connection::{Connection, Step};
use crate::push::socket_io::engine_io::Packet as EnginePacket;
use crate::push::socket_io::packet::{self, Kind, Packet};
use crate::push::socket_io::registry::ConnectionId;
use crate::push::socket_io::router::routes;
use crate::push::socket_io::transport::websocket::WebSocket;
use crate::push::websocket::Handshake;
use crate::push::{Push, Settings};
use crate::relay::Relay;
use crate::relay::tests::SETTINGS as RELAY_SETTINGS;
use crate::session_rate::SessionRate;
use crate::telemetry::metrics::Metrics;

/// Longest message to `/websocket`, as Autobahn's suite needs it.
const WEBSOCKET_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A running fixture.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) address: SocketAddr,
    pub(super) engine_io: Push,
    pub(super) socket_io: Push,
    serving: JoinHandle<()>,
}

impl Fixture {
    /// On a port of its own, with the times and limits that the suites are written for.
    pub(super) async fn start() -> Self {
        Self::with(settings()).await
    }

    /// The same for tests of anything but time-outs, which are longer here than any busy machine pauses.
    pub(super) async fn patient() -> Self {
        Self::with(Settings {
            ping_timeout: PATIENCE,
            connect_timeout: PATIENCE,
            ..settings()
        })
        .await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        Self::listen("127.0.0.1:0", settings).await
    }

    async fn listen(address: &str, settings: Settings) -> Self {
        let metrics = Metrics::new();
        let clock = SystemClock::shared();
        let lifecycle = Lifecycle::new();
        let relay = Relay::start(RELAY_SETTINGS, clock.clone(), &metrics, &lifecycle, None);
        let tokens = GrantTokens::start(&Config::default(), clock, &metrics, &lifecycle);
        let push = |settings| {
            let metrics = Arc::clone(&metrics.push);
            let rate = Arc::new(SessionRate::new(1_000, 1_000));
            Push::new(relay.clone(), tokens.clone(), rate, settings, metrics)
        };
        // Nobody connects there in the sense of Socket.IO.
        let engine_io = push(Settings {
            connect_timeout: Duration::from_hours(1),
            ..settings
        });
        let socket_io = push(settings);
        let app = routes::<MessageEcho>("/engine.io", engine_io.clone())
            .merge(routes::<EventEcho>("/socket.io", socket_io.clone()))
            .route("/websocket", any(echo));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            engine_io,
            socket_io,
            serving,
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The times and limits that the suites are written for.
pub(super) fn settings() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(1),
        payload_bytes_max: 1_000_000,
        ..Settings::default()
    }
}

async fn echo(request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let handshake = Handshake::read(&mut parts).await.unwrap().unwrap();
    let (answer, upgrading) = handshake.accept(None);
    tokio::spawn(async move {
        if let Some(socket) = upgrading.socket(WEBSOCKET_BYTES_MAX).await {
            WebSocket::new(socket).echo().await;
        }
    });
    answer
}

/// Engine.IO with nothing above it.
#[derive(Debug, Default)]
struct MessageEcho;

impl Application for MessageEcho {
    type Steps = Option<Step>;

    fn on_packet(
        &mut self,
        connection: &mut Connection,
        packet: &EnginePacket,
        now: Instant,
    ) -> Option<Step> {
        Some(match packet {
            EnginePacket::Message(_) | EnginePacket::Binary(_) => Step::Send(packet.encode()),
            _ => connection.on_packet(packet, now),
        })
    }
}

/// Socket.IO with two namespaces. A socket is greeted with `auth` and what it connected with; `message` comes back as
/// `message-back`, and `message-with-ack` as its acknowledgement.
#[derive(Debug, Default)]
struct EventEcho {
    /// The namespace beside the one that the client connected to first.
    second: Option<Connection>,
    /// Whose attachments come next, and what they come back in.
    unfinished: Option<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    is_second: bool,
    attachments_due: u8,
    answer: Vec<Step>,
}

impl Application for EventEcho {
    type Steps = Vec<Step>;

    fn on_packet(
        &mut self,
        first: &mut Connection,
        packet: &EnginePacket,
        now: Instant,
    ) -> Vec<Step> {
        match packet {
            EnginePacket::Message(text) => match Packet::decode(text) {
                Ok(socket_packet) => self.on_socket_packet(first, packet, &socket_packet, now),
                Err(_) => vec![first.on_packet(packet, now)],
            },
            EnginePacket::Binary(_) => self.on_attachment(first, packet, now),
            _ => vec![first.on_packet(packet, now)],
        }
    }
}

impl EventEcho {
    fn on_socket_packet(
        &mut self,
        first: &mut Connection,
        engine_packet: &EnginePacket,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Vec<Step> {
        let prefix = packet.namespace.to_string();
        if packet.kind == Kind::Connect && !matches!(prefix.as_str(), "" | "/custom,") {
            return vec![Step::Send(packet::refuse_namespace(&packet.namespace))];
        }
        let is_second = !first.is_waiting() && *first.namespace() != packet.namespace;
        let connection = if is_second {
            self.second
                .get_or_insert_with(|| Connection::new(settings().timing(), now))
        } else {
            first
        };
        match connection.on_packet(engine_packet, now) {
            Step::AskForSession => {
                let auth = if packet.data.is_empty() {
                    "{}"
                } else {
                    &packet.data
                };
                let greeting = Packet {
                    kind: Kind::Event,
                    data: format!("[\"auth\",{auth}]").into(),
                    ..packet.clone()
                };
                let accepted = connection.accept(ConnectionId::random().as_str());
                vec![Step::Send(accepted), Step::Send(greeting.encode())]
            }
            // The relay's session, which nobody asked for.
            Step::LeaveSession => Vec::new(),
            Step::Nothing if packet.kind == Kind::Event => {
                let answer = answer(packet).map(Step::Send).into_iter().collect();
                if packet.attachments == 0 {
                    return answer;
                }
                self.unfinished = Some(Unfinished {
                    is_second,
                    attachments_due: packet.attachments,
                    answer,
                });
                Vec::new()
            }
            step => vec![step],
        }
    }

    fn on_attachment(
        &mut self,
        first: &mut Connection,
        packet: &EnginePacket,
        now: Instant,
    ) -> Vec<Step> {
        let Some(mut unfinished) = self.unfinished.take() else {
            return vec![first.on_packet(packet, now)];
        };
        let connection = match &mut self.second {
            Some(second) if unfinished.is_second => second,
            _ => first,
        };
        let step = connection.on_packet(packet, now);
        if step != Step::Nothing {
            return vec![step];
        }
        if !unfinished.answer.is_empty() {
            unfinished.answer.push(Step::Send(packet.encode()));
        }
        unfinished.attachments_due -= 1;
        if unfinished.attachments_due == 0 {
            return unfinished.answer;
        }
        self.unfinished = Some(unfinished);
        Vec::new()
    }
}

/// What an event is answered with, if it is one of the two.
fn answer(event: &Packet<'_>) -> Option<Bytes> {
    let elements: Vec<&RawValue> = serde_json::from_str(&event.data).unwrap();
    let arguments = elements[1..].iter().map(|argument| argument.get());
    let (kind, id, elements) = match (elements[0].get(), event.id) {
        ("\"message\"", _) => {
            let name = std::iter::once("\"message-back\"");
            (Kind::Event, None, name.chain(arguments).collect::<Vec<_>>())
        }
        ("\"message-with-ack\"", Some(id)) => (Kind::Ack, Some(id), arguments.collect()),
        _ => return None,
    };
    let answer = Packet {
        kind,
        id,
        data: format!("[{}]", elements.join(",")).into(),
        ..event.clone()
    };
    Some(answer.encode())
}

/// Serves the suites themselves, which call port 3000, until it is stopped. How to run them is told in
/// `docs/compatibility.md`.
#[tokio::test]
#[ignore = "serves until it is stopped"]
async fn serve_the_public_suites() {
    let mut fixture = Fixture::listen("127.0.0.1:3000", settings()).await;
    (&mut fixture.serving).await.unwrap();
}
