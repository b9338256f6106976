//! Decides everything: who may see what, what the last values are, which update goes to which session.
//!
//! Nothing in here does I/O, awaits, locks, reads a clock or draws a random number; time and randomness come
//! in as arguments and what is to happen goes out as values. The edges (`ingest`, `push`, `api`) act on them, and
//! [`relay`](crate::relay) joins them up. A test guards this by looking for forbidden imports.
//!
//! - A [`Shard`](shard::Shard) owns a share of the devices: their last values, connection states and twins,
//!   and the views of the sessions subscribed to them.
//! - A [`Session`](session::Session) owns what one client may see (grants) and wants to see (subscriptions).
//! - An [`Outbox`](outbox::Outbox) owns what is still to be sent to one client, within a bound.

pub mod connection_state;
pub mod device_message;
pub mod disconnect;
pub mod grant;
pub mod hub_twin;
pub mod id;
pub mod json_pointer;
pub mod last_value;
pub mod limits;
pub mod outbox;
pub mod payload_policy;
pub mod raw_json;
pub mod session;
pub mod shape;
pub mod shard;
pub mod small_map;
pub mod snapshot;
pub mod subscription;
pub mod telemetry;
pub mod time;
pub mod tombstones;
pub mod twin;
pub mod twin_view;
pub mod update;

#[cfg(test)]
mod invariants;
