//! Server-sent events: `GET /events`, a stream of updates for whoever only reads (WHATWG HTML, "Server-sent events").
//!
//! What is wanted stands in the query; there is nothing to say afterwards. A browser's `EventSource` comes back by itself
//! after a loss and tells the id of the last event that it got, with which the stream goes on where it was, or begins
//! with a new snapshot. What holds of the other transports holds here too: a batch counts as written when the socket has
//! its last byte, what was revoked is not written after the answer to the revocation, and whoever does not read is let
//! go.

mod driver;
mod event;
mod query;
mod refusal;
mod router;
mod stream;

#[cfg(test)]
mod tests;

pub(super) use self::router::router;
