//! Updates out: every way in which clients hold a connection.
//!
//! What all of them guarantee:
//!
//! - Every connection is one task that owns all of its state. Nothing shared is locked while it writes, so a stuck
//!   client delays nobody.
//! - Updates are taken from the session's outbox only when the client can take them; all that are ready go out in one
//!   write. A batch counts as written when its last byte was given to the socket, and not before.
//! - What a client sends is never trusted: it can close its own connection, nothing more.

mod ended;
mod frame;
mod goodbye;
mod json_text;
mod native;
mod payload_body;
mod refused;
mod socket_io;
mod sse;
mod turns;
mod websocket;
#[cfg(test)]
mod websocket_conformance;
mod written;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Extensions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::written::write_updates;
use crate::config::{AdminKeys, Config};
use crate::grant_token::GrantTokens;
use crate::http::ClientAddress;
use crate::relay::{Relay, Takes};
use crate::session_rate::SessionRate;
use crate::telemetry::metrics::PushMetrics;

/// The routes of all transports. The server must support upgrades, and must not limit how long a request may take: a
/// connection is held for as long as its client likes.
pub fn router(push: Push) -> Router {
    socket_io::router(push.clone()).merge(native::router(push))
}

/// The route of server-sent events, for whoever has a session, a grant token or an admin key. The server must not limit
/// how long an answer may take.
pub fn events_router(push: Push, admin_keys: AdminKeys) -> Router {
    sse::router(push, admin_keys)
}

/// How much is taken of what is ready: enough to make a write worth its while, little enough for one not to take long.
const BURST: Takes = Takes::BytesMax(64 * 1024);

/// Stands for the clients of a server that does not say where they are.
const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where a request comes from.
fn client_address(extensions: &Extensions) -> IpAddr {
    let client = extensions.get::<ClientAddress>();
    client.map_or(UNKNOWN_ADDRESS, |client| client.0.ip())
}

/// How connections are kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time from one answered ping to the next (Engine.IO `pingInterval`).
    pub ping_interval: Duration,
    /// How long the answer to a ping may take (Engine.IO `pingTimeout`).
    pub ping_timeout: Duration,
    /// How long a connection may stay without a session.
    pub connect_timeout: Duration,
    /// How long a client whose session was refused may stay.
    pub refused_timeout: Duration,
    /// How long one write may take before its client counts as stuck.
    pub write_timeout: Duration,
    /// How long a WebSocket may take to replace long-polling.
    pub upgrade_timeout: Duration,
    /// How long an ended connection may take to tell its client.
    pub close_timeout: Duration,
    /// Longest message or body from a client, in bytes (Engine.IO `maxPayload`).
    pub payload_bytes_max: usize,
    /// Open connections; further ones are refused.
    pub connections_max: usize,
    /// Connections that have no session yet; further ones are refused.
    pub handshakes_max: usize,
    /// How long a native session that lost its connection can be resumed; clients are told.
    pub resume_window: Duration,
    /// Subscriptions of one session; clients are told.
    pub subscriptions_max: usize,
    /// Whether clients of ux4iot 2.x are served as well.
    pub legacy_v2: bool,
}

impl Settings {
    /// What is configured, with the defaults of Engine.IO and Socket.IO for what is not.
    pub fn from_config(config: &Config) -> Self {
        Self {
            ping_interval: config.push.ping_interval,
            ping_timeout: config.push.ping_timeout,
            connect_timeout: Duration::from_secs(45),
            refused_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            upgrade_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            payload_bytes_max: 1_000_000,
            connections_max: config.limits.connections_max,
            // Room for every client to come back at once after a restart, but not for handshakes alone to fill the
            // house.
            handshakes_max: (config.limits.connections_max / 2).max(1),
            resume_window: config.push.resume_window,
            subscriptions_max: config.limits.subscriptions_per_session_max,
            legacy_v2: config.legacy_v2,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::from_config(&Config::default())
    }
}

/// The push edge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Push(Arc<Shared>);

/// What all connections share.
#[derive(Debug)]
struct Shared {
    relay: Relay,
    grant_tokens: GrantTokens,
    session_rate: Arc<SessionRate>,
    settings: Settings,
    metrics: Arc<PushMetrics>,
    /// The connections that long-polling clients come back to.
    polling: socket_io::Registry,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    /// No new connections, and none without a session.
    drain: CancellationToken,
    /// No connections.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The place of a connection among those allowed.
#[derive(Debug)]
struct Place {
    _connection: OwnedSemaphorePermit,
    /// Given back when the connection has a session.
    handshake: Option<OwnedSemaphorePermit>,
}

impl Push {
    /// A push edge without connections, which serves what `relay` has, also to whom `grant_tokens` lets in.
    pub fn new(
        relay: Relay,
        grant_tokens: GrantTokens,
        session_rate: Arc<SessionRate>,
        settings: Settings,
        metrics: Arc<PushMetrics>,
    ) -> Self {
        let semaphore =
            |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared {
            relay,
            grant_tokens,
            session_rate,
            settings,
            metrics,
            polling: socket_io::Registry::default(),
            connections: semaphore(settings.connections_max),
            handshakes: semaphore(settings.handshakes_max),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Refuses new connections, tells every client that it is disconnected, and waits for their connections to end.
    /// Those that have not ended after `grace` are dropped.
    pub async fn shut_down(&self, grace: Duration) {
        let Shared {
            relay,
            drain,
            stop,
            tasks,
            ..
        } = &*self.0;
        drain.cancel();
        tasks.close();
        let drained = async {
            relay.shut_down();
            tasks.wait().await;
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(
                push.connections = tasks.len(),
                "dropping the connections that did not end in time"
            );
            stop.cancel();
            relay.cut_connections();
            tasks.wait().await;
        }
    }

    /// How many connections there are, those that are ending included.
    #[cfg(test)]
    pub(crate) fn connection_count(&self) -> usize {
        self.0
            .settings
            .connections_max
            .saturating_sub(self.0.connections.available_permits())
    }

    /// Takes a place for a new connection, if there is one.
    fn take_place(&self) -> Option<Place> {
        if self.0.drain.is_cancelled() {
            return None;
        }
        let connection = Arc::clone(&self.0.connections).try_acquire_owned().ok()?;
        let handshake = Arc::clone(&self.0.handshakes).try_acquire_owned().ok()?;
        Some(Place {
            _connection: connection,
            handshake: Some(handshake),
        })
    }
}
