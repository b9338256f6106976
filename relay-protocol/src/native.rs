//! The native protocol: what goes over the WebSocket at `/ws`, version 1.
//!
//! Each text frame is one JSON object with the member `type`: a [`ClientMessage`] one way, a [`ServerMessage`] the
//! other. `docs/protocol.md` shows every message and gives the rules; here are only the shapes.
//!
//! Members that are not known are ignored, so that either side can grow. Nothing is read through a tree of values, which
//! keeps device values byte for byte and makes a message of thousands of keys cheap to read.
//!
//! | module | what it describes |
//! |---|---|
//! | [`client_message`] | what clients send |
//! | [`server_message`] | what the relay sends |
//! | [`selector`] | which values of a device are meant |
//! | [`device_update`] | one change of one device |
//! | [`snapshot`] | the last values of a device |
//! | [`error_code`] | why a request failed, or a connection ends |

pub mod client_message;
pub mod device_update;
pub mod error_code;
mod object;
pub mod selector;
pub mod server_message;
pub mod snapshot;

pub use client_message::{ClientMessage, GrantToken, Hello, Resume};
pub use device_update::DeviceUpdate;
pub use error_code::{ErrorCode, GoodbyeCode};
pub use selector::{NewSubscription, Selector, Values};
pub use server_message::{
    EndReason, Ended, ErrorMessage, Goodbye, LastValues, Limits, Refused, ServerFacts, ServerHello,
    ServerMessage, Skipped, Subscribed, Updates,
};
pub use snapshot::{AgedValue, DeviceSnapshot};

/// The version that these types describe; the relay's hello names it.
pub const PROTOCOL_VERSION: u32 = 1;

/// The WebSocket subprotocol of the JSON encoding (RFC 6455 §1.9). Offering it is optional.
pub const SUBPROTOCOL: &str = "hubrelay.v1.json";

/// Largest request id: the integers up to here are exact in every JSON parser (RFC 8259 §6).
pub const REQUEST_ID_MAX: u64 = (1 << 53) - 1;
