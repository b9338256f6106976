//! Device messages in.
pub mod status;
