//! Device messages in.

pub mod decode;
pub mod status;
