//! What updates are on the wire, for whoever wants to know without a connection.

use std::sync::Arc;

use super::frame;
use super::socket_io::data_event;
use crate::domain::outbox::Skipped;
use crate::domain::update::{Encoding, Update};

/// Appends what a connection writes when it takes these updates out of its outbox at once: over Socket.IO an event for
/// each, to a client of the root namespace; in the native protocol one `updates` message.
pub fn write_updates(encoding: Encoding, updates: &[Arc<Update>], written: &mut Vec<u8>) {
    match encoding {
        Encoding::SocketIo => {
            for update in updates {
                written.extend_from_slice(&data_event(update));
            }
        }
        Encoding::Native => {
            let sequence = updates.len() as u64;
            let time_unix_ms = updates
                .last()
                .map_or(0, |update| update.stamp.received_unix_ms);
            let text = frame::updates(updates, sequence, Skipped::default(), time_unix_ms);
            written.extend_from_slice(&text);
        }
    }
}
