//! The push edge over real sockets, with a real relay behind it.

mod bad_input;
mod endpoint;
mod engine_io_suite;
mod fixture;
mod harness;
mod polling;
mod socket_io_suite;
mod stuck_client;
mod upgrade;
mod websocket;
mod websocket_conformance;
