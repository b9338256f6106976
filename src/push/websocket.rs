//! The server's side of a WebSocket (RFC 6455), as cheap as an idle client and a burst of updates can be.
//!
//! It is our own because it is the path that everything takes that goes out, and because of what it guarantees:
//!
//! - A connection on which nothing happens holds no buffer. What is read goes through memory that a thread lends, and a
//!   connection keeps only what is not a whole message yet; what is written is put together in such memory, and a
//!   connection keeps only what its socket did not take.
//! - All frames of a [`Burst`] leave in one write, tried at once.
//! - [`WebSocket::is_written`] is true only when the operating system has every byte, also behind TLS.
//! - Whatever a client sends, at most two messages of the greatest length are kept of it, and one answer to its pings.
//!
//! Extensions are not offered, so none is spoken. The tests in [`websocket_conformance`](super::websocket_conformance)
//! hold every endpoint against the standard.

mod burst;
mod frame_header;
mod handshake;
mod incoming;
mod socket;

pub(super) use self::burst::{Burst, texts};
pub(super) use self::handshake::Handshake;
pub(super) use self::incoming::{Message, Violation};
pub(super) use self::socket::{ReadError, WebSocket};
