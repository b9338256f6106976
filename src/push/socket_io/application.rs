//! The seam between a connection and what its client talks to.
//!
//! It is bound statically, and the relay's side of it has no size: an idle connection and the way of an update are the
//! same as without it. Its other sides are in the tests: the echoes that the public test suites of the protocols ask
//! for, so that the suites run against the transports and codecs that clients of the relay use.

use std::fmt::Debug;

use tokio::time::Instant;

use super::connection::{Connection, Step};
use super::engine_io::Packet;

/// What a client talks to.
pub(super) trait Application: Debug + Default + Send + 'static {
    /// What one packet leads to, in order.
    type Steps: IntoIterator<Item = Step, IntoIter: Send>;

    /// A packet came.
    fn on_packet(
        &mut self,
        connection: &mut Connection,
        packet: &Packet,
        now: Instant,
    ) -> Self::Steps;
}

/// The relay: clients come, listen and go, and have nothing to tell it.
#[derive(Debug, Default)]
pub(super) struct Relayed;

const _: () = assert!(size_of::<Relayed>() == 0, "every connection has one");

impl Application for Relayed {
    type Steps = Option<Step>;

    fn on_packet(
        &mut self,
        connection: &mut Connection,
        packet: &Packet,
        now: Instant,
    ) -> Option<Step> {
        Some(connection.on_packet(packet, now))
    }
}
