//! Device messages in: from a source to the relay.
//!
//! A source hands over whole batches and waits until they are taken, so a relay that is behind slows the source and
//! nothing piles up here. Order is that of the source, for each of its partitions. A message is handed over once while
//! the process lives, across reconnects; a panic of the AMQP library can repeat one batch. Nothing is remembered across
//! restarts yet.

pub mod decode;
pub mod event_hubs;
mod status;

use std::future::Future;

pub use self::status::{Malformed, State, Status};
use crate::domain::device_message::DeviceMessage;
use crate::relay::Relay;

/// Where device messages go.
pub trait Sink: Clone + Send + Sync + 'static {
    /// Takes a batch in order; returns when there is room for more.
    fn ingest(&self, messages: Vec<DeviceMessage>) -> impl Future<Output = ()> + Send;
}

impl Sink for Relay {
    async fn ingest(&self, messages: Vec<DeviceMessage>) {
        Relay::ingest(self, messages).await;
    }
}
