//! The IoT Hub service REST API as HTTP clients see it, over real sockets and TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod faults;
mod methods;
mod query;
mod registry;
mod security;
mod twins;
