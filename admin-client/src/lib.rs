//! Typed client of the hubrelay REST API, for security backends and DevOps.
//!
//! A security backend forwards what its users may see: it grants and revokes rights of a session with the shared
//! access key. [`AdminClient`] makes these calls, and those that read last values, change the log level and ask for
//! the relay's status. It works against ux4iot as well, which publishes the same API.
//!
//! ```no_run
//! use admin_client::{AdminClient, ConnectionString};
//! use relay_protocol::{Grant, GrantRequest, SessionId};
//!
//! # async fn example(session_id: SessionId) -> Result<(), Box<dyn std::error::Error>> {
//! let connection: ConnectionString = "Endpoint=https://relay.example;SharedAccessKey=c2VjcmV0".parse()?;
//! let client = AdminClient::new(&connection)?;
//! client
//!     .grant(&GrantRequest {
//!         session_id,
//!         device_id: "thermostat-7".into(),
//!         grant: Grant::Telemetry { telemetry_key: Some("temperature".into()) },
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Every call has a time-out. An answer outside 2xx is [`Error::Status`] with the status and the relay's own message.
//! Nothing is retried: whether a call may be repeated is the caller's knowledge. Keys appear in no `Debug` output and
//! URLs in no error, because a URL can hold a session id, which is a secret.

mod client;
mod connection_string;
mod error;

pub use client::{AdminClient, LogLevel};
pub use connection_string::{ConnectionString, ConnectionStringError, SharedAccessKey};
pub use error::Error;
