//! The push edge over real sockets, with a real relay behind it.

mod harness;
mod polling;
mod stuck_client;
mod upgrade;
mod websocket;
