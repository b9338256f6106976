//! Device messages in.

mod status;

pub use self::status::{Misformed, State, Status};
