//! Event streams over real sockets.

mod access;
mod endings;
mod harness;
mod resuming;
mod updates;
