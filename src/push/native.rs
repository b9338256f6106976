//! Native clients: JSON messages of [`relay_protocol::native`] over a WebSocket at `/ws`.
//!
//! Beside what every transport guarantees, the requests of a client are carried out one after the other, in the order in
//! which they came, and each is answered before the next is read: a client that does not read its answers is not read
//! either. The answer to a subscription is written before the first update that is not in its snapshot. A client that is
//! silent, or never says hello, is closed in bounded time. `docs/protocol.md` is what clients are told.
//!
//! ```text
//!   router: the handshake
//!     ▼
//!   driver, one task each
//!     ├─ conversation: decides     (request: reads and checks what clients send)
//!     ├─ socket: frames            (frame, beside this module: the texts with device values)
//!     └─ relay: sessions, grants, subscriptions, updates
//! ```

mod answer;
mod close_reason;
mod conversation;
mod driver;
mod request;
mod router;
mod socket;

#[cfg(test)]
mod tests;

use self::conversation::Timing;
pub(super) use self::router::router;
use super::Settings;

impl Settings {
    fn conversation_timing(&self) -> Timing {
        Timing {
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            hello_timeout: self.connect_timeout,
        }
    }
}
