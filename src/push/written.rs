//! What updates are on a WebSocket, for whoever wants to know without a connection.

use std::sync::Arc;

use super::websocket::Burst;
use super::{frame, socket_io};
use crate::domain::outbox::Skipped;
use crate::domain::update::{Encoding, Update};

/// Appends the frames that a connection writes when it takes these updates out of its outbox at once: over Socket.IO an
/// event for each, to a client of the root namespace; in the native protocol one `updates` message, the last update in
/// which has this sequence number.
pub fn write_updates(
    encoding: Encoding,
    updates: &[Arc<Update>],
    sequence: u64,
    frames: &mut Vec<u8>,
) {
    let mut burst = Burst::new(frames);
    match encoding {
        Encoding::SocketIo => socket_io::write_updates(updates, &mut burst),
        Encoding::Native => {
            let bytes = frame::updates_bytes(updates);
            let time_unix_ms = updates
                .last()
                .map_or(0, |update| update.stamp.received_unix_ms);
            burst.text(bytes, |text| {
                frame::push_updates(text, updates, sequence, Skipped::default(), time_unix_ms);
            });
        }
    }
}
