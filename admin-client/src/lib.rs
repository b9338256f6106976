//! Typed client of the hubrelay REST API, for security backends, operators' tools and tests.
//!
//! There is one client for each credential, so that a call which the credential does not allow does not compile:
//!
//! | client | shows | does |
//! |---|---|---|
//! | [`RelayClient`] | nothing | version, status, health, metrics; creates sessions |
//! | [`AdminClient`] | the shared access key | grants, revokes, ends sessions, reads every device, sets the log level |
//! | [`SessionClient`] | a session id | subscribes, reads, calls and changes what the session was granted |
//!
//! A security backend forwards what its users may see. Its user's browser has made a session and asks for grants:
//!
//! ```no_run
//! use admin_client::{AdminClient, ConnectionString};
//! use relay_protocol::{DeviceId, Grant, GrantRequest, SessionId};
//!
//! # async fn example(session_id: SessionId) -> Result<(), Box<dyn std::error::Error>> {
//! let connection: ConnectionString = "Endpoint=https://relay.example;SharedAccessKey=c2VjcmV0".parse()?;
//! let admin = AdminClient::new(&connection)?;
//! admin
//!     .grant(&GrantRequest::new(
//!         &session_id,
//!         DeviceId::from("thermostat-7"),
//!         Grant::telemetry("temperature"),
//!     ))
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! A session's own side needs no key:
//!
//! ```no_run
//! use admin_client::RelayClient;
//! use relay_protocol::{DeviceId, Subscription};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let relay = RelayClient::new("https://relay.example".parse()?)?;
//! let session = relay.create_session().await?;
//! // … the backend grants session.id() something …
//! let device_id = DeviceId::from("thermostat-7");
//! let temperature = Subscription::Telemetry { telemetry_key: Some("temperature".into()) };
//! println!("{:?}", session.last_value(&device_id, "temperature").await?.data);
//! session.subscribe(&device_id, &temperature).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Calls take a device, or an [`Identity`](relay_protocol::Identity) that names a module of one. Grants can be narrowed to
//! parts of a twin, to places in it that may be changed, and to payloads of a direct method:
//!
//! ```no_run
//! use admin_client::{AdminClient, Error, SessionClient};
//! use relay_protocol::{Condition, Grant, GrantRequest, Identity, MethodParams};
//! use serde_json::json;
//!
//! # async fn example(admin: AdminClient, session: SessionClient) -> Result<(), Error> {
//! let api = Identity::module("gateway-1", "thingspro");
//! let reads_tags = Grant::direct_method_if(
//!     "thingspro-api-v1",
//!     [Condition::equals("/method", "GET"), Condition::matches("/path", "/tags/*")],
//! );
//! let sees_site = Grant::device_twin_at(["/tags/site", "/properties/desired/telemetryInterval"]);
//! for grant in [reads_tags, sees_site] {
//!     admin.grant(&GrantRequest::new(session.id(), &api, grant)).await?;
//! }
//!
//! let call = MethodParams::new("thingspro-api-v1")
//!     .payload(json!({"method": "GET", "path": "/tags/list"}))
//!     .response_timeout_s(10);
//! let answer = session.invoke_direct_method(&api, call).await?;
//! println!("{} {}", answer.status, answer.payload);
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
//!   lost connection, the time-out, an answer that cannot be read. Of a device, [`Error::device_failure`] tells more.
//! - Keys, session ids and tokens are in no `Debug` output and no error.

mod admin;
mod connection_string;
mod device_failure;
mod endpoint;
mod error;
mod log_level;
mod relay;
mod retry;
mod session;
mod settings;
mod transport;
mod twin_change;

pub use admin::AdminClient;
pub use connection_string::{
    ConnectionString, ConnectionStringError, InvalidSharedAccessKey, SharedAccessKey,
};
pub use device_failure::DeviceFailure;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, SetupError};
pub use log_level::LogLevel;
pub use relay::RelayClient;
pub use retry::RetryPolicy;
pub use session::SessionClient;
pub use settings::Settings;
pub use twin_change::TwinChange;
