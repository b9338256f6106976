//! Device messages in.
pub mod decode;
