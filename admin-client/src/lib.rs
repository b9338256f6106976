//! Typed client of the hubrelay REST API, for security backends, operators' tools and tests.
//!
//! There is one client for each credential, so that a call which the credential does not allow does not compile:
//!
//! | client | shows | does |
//! |---|---|---|
//! | [`RelayClient`] | nothing | version, status, health, metrics; creates sessions |
//! | [`AdminClient`] | the shared access key | grants, revokes, ends sessions, reads every device, sets the log level |
//! | [`SessionClient`] | a session id | subscribes, reads and calls what the session was granted |
//!
//! A security backend forwards what its users may see. Its user's browser has made a session and asks for grants:
//!
//! ```no_run
//! use admin_client::{AdminClient, ConnectionString};
//! use relay_protocol::{Grant, GrantRequest, SessionId};
//!
//! # async fn example(session_id: SessionId) -> Result<(), Box<dyn std::error::Error>> {
//! let connection: ConnectionString = "Endpoint=https://relay.example;SharedAccessKey=c2VjcmV0".parse()?;
//! let admin = AdminClient::new(&connection)?;
//! admin
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
//! A session's own side needs no key:
//!
//! ```no_run
//! use admin_client::RelayClient;
//! use relay_protocol::Subscription;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let relay = RelayClient::new("https://relay.example".parse()?)?;
//! let session = relay.create_session().await?;
//! // … the backend grants session.id() something …
//! let device_id = "thermostat-7".into();
//! let temperature = Subscription::Telemetry { telemetry_key: Some("temperature".into()) };
//! println!("{:?}", session.last_value(&device_id, "temperature").await?.data);
//! session.subscribe(&device_id, &temperature).await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/session_tour.rs` is a whole program; the tests of hubrelay run it. The shapes on the wire are those that
//! ux4iot documents; only hubrelay was tried.
//!
//! # What every call promises
//!
//! - It ends within its time-out ([`Settings::request_timeout`]), repetitions included.
//! - It is made again only where that is safe: [`RetryPolicy`] has the rule.
//! - What it failed of is told apart in [`Error`]: an answer outside 2xx with status and message, no connection, a
//!   lost connection, the time-out, an answer that cannot be read.
//! - Keys, session ids and tokens are in no `Debug` output and no error.

mod admin;
mod connection_string;
mod endpoint;
mod error;
mod log_level;
mod relay;
mod retry;
mod session;
mod settings;
mod transport;

pub use admin::AdminClient;
pub use connection_string::{
    ConnectionString, ConnectionStringError, InvalidSharedAccessKey, SharedAccessKey,
};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, SetupError};
pub use log_level::LogLevel;
pub use relay::RelayClient;
pub use retry::RetryPolicy;
pub use session::SessionClient;
pub use settings::Settings;
