//! Socket.IO clients, over WebSocket and HTTP long-polling.
//!
//! Our own small server for Engine.IO 4 and Socket.IO 5, since all of it that clients of ux4iot use is one event in one
//! direction, and since a revocation must know when the last byte of what it covers has left. Beside what every
//! transport guarantees, a client that does not read, does not answer pings or never asks for a session is closed in
//! bounded time.
//!
//! ```text
//!   router ──► handshake: what is asked for
//!     │ new connection                │ later request of a long-polling client
//!     ▼                               ▼
//!   driver, one task each ◄──────── registry
//!     ├─ application: the relay, or an echo in tests
//!     ├─ connection: decides          (engine_io, packet: codecs)
//!     ├─ transport: WebSocket or long-polling
//!     └─ relay: admission, updates    (data_event: their form on the wire)
//! ```

mod application;
mod close_reason;
mod connection;
mod data_event;
mod driver;
mod engine_io;
mod handshake;
mod packet;
mod registry;
mod router;
mod transport;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::connection::Timing;
use self::packet::Namespace;
pub(super) use self::registry::Registry;
pub(super) use self::router::router;
use super::Settings;
use super::websocket::Burst;
use crate::domain::update::Update;

/// Adds what a connection to the root namespace writes for these updates.
pub(super) fn write_updates(updates: &[Arc<Update>], burst: &mut Burst<'_>) {
    data_event::write_events_v3(updates, &Namespace::default(), burst);
}

impl Settings {
    fn timing(&self) -> Timing {
        Timing {
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            connect_timeout: self.connect_timeout,
            refused_timeout: self.refused_timeout,
        }
    }
}
