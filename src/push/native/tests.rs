//! The native protocol over real sockets, with a real relay behind it.

mod bad_input;
mod conformance;
mod conversation;
mod endings;
mod handshake;
mod harness;
mod resuming;
mod revocation;
mod seam;
mod tokens;
mod updates;
