//! The event hub as AMQP clients see it, driven with an independent AMQP client over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod faults;
mod malformed;
mod management;
mod receiving;
mod security;
mod sending;
mod websocket;
