//! The AMQP 1.0 server that stands in for Event Hubs.
//!
//! [`server`] accepts and owns connections, [`transport`] moves bytes, [`connection`], [`session`] and
//! [`link`] are the state machines of AMQP 1.0 §2, [`attach`] decides who is let in. The codec is its
//! own because Microsoft's SDKs need forms that general encoders do not write (see [`performative`]),
//! and because events stay encoded from the sender to the receiver.

mod attach;
pub(crate) mod codec;
mod connection;
pub(crate) mod error;
mod frame;
mod handshake;
mod link;
pub(crate) mod mailbox;
pub(crate) mod message;
mod performative;
pub(crate) mod server;
mod session;
mod transport;
mod websocket;
