//! The event hub as AMQP clients see it, driven with an independent AMQP client over real sockets.

mod client;
mod faults;
mod malformed;
mod receiving;
mod security;
mod sending;
