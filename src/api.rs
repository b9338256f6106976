//! The REST API: what ux4iot's clients call, and what operators ask.
//!
//! It translates between HTTP and the [`Relay`] and decides nothing itself. Paths, statuses and texts are those of
//! ux4iot, whose clients depend on them to the letter; the order in which a request is checked is part of that.
//! Guarantees:
//! - a refused request changes nothing;
//! - values and request elements are passed on as they were written, every digit of them;
//! - every answer may be read by any origin, refusals included.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, patch, post, put};

use self::auth::Reader;
use self::error::Error;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::domain::grant::Access;
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::time::Timestamp;
use crate::grant_token::GrantTokens;
use crate::ingest::Status;
use crate::iot_hub::IotHub;
use crate::relay::Relay;
use crate::session_rate::SessionRate;
use crate::telemetry::{LogFilter, Metrics};

mod auth;
mod body;
mod cors;
mod device_calls;
mod devices;
mod error;
mod grants;
mod health;
mod hub_failure;
mod last_values;
mod log_level;
mod path;
mod requests;
mod sessions;
mod subscriptions;

#[cfg(test)]
mod tests;

/// What the handlers work on. Clones share everything.
#[derive(Clone)]
pub struct State {
    relay: Relay,
    iot_hub: Option<IotHub>,
    grant_tokens: GrantTokens,
    config: Arc<Config>,
    metrics: Metrics,
    log_filter: LogFilter,
    status: Status,
    clock: SharedClock,
    session_rate: Arc<SessionRate>,
}

impl State {
    /// Puts the parts together. Without a client of the hub, calls that need it say that it is disabled.
    #[expect(
        clippy::too_many_arguments,
        reason = "each part is handed over once, here"
    )]
    pub fn new(
        relay: Relay,
        iot_hub: Option<IotHub>,
        grant_tokens: GrantTokens,
        config: Arc<Config>,
        metrics: Metrics,
        log_filter: LogFilter,
        status: Status,
        clock: SharedClock,
    ) -> Self {
        let session_rate = Arc::new(SessionRate::new(
            config.limits.session_rate_per_address_per_s,
            config.limits.session_burst_per_address,
        ));
        Self {
            relay,
            iot_hub,
            grant_tokens,
            config,
            metrics,
            log_filter,
            status,
            clock,
            session_rate,
        }
    }

    /// How fast sessions may be created, for those who do so in other ways.
    pub fn session_rate(&self) -> Arc<SessionRate> {
        self.session_rate.clone()
    }

    fn hub_api_enabled(&self) -> bool {
        self.iot_hub.is_some()
    }

    fn now(&self) -> Timestamp {
        Timestamp::UnixMs(self.relay.unix_ms())
    }

    fn check_session(&self, session: SessionId) -> Result<(), Error> {
        if self.relay.has_session(session) {
            Ok(())
        } else {
            Err(Error::NoSuchSession)
        }
    }

    /// Whether the reader may see something of a device.
    async fn check_read(
        &self,
        reader: &Reader,
        device: &DeviceId,
        access: &Access<'_>,
    ) -> Result<(), Error> {
        match reader {
            Reader::Admin => Ok(()),
            Reader::Session(session) if self.relay.is_granted(*session, device, access).await? => {
                Ok(())
            }
            Reader::Session(_) => Err(Error::ReadNotGranted),
        }
    }
}

/// The whole API. `beside` holds further routes of the same server, such as the push transports and the demo's page;
/// browsers of any origin may read their answers as well.
pub fn router(state: State, beside: Router) -> Router {
    let last_values = get(last_values::get).delete(last_values::delete);
    let routes = Router::new()
        // Operators
        .route("/version", get(health::version))
        .route("/status", get(health::status))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/logLevel/{level}", put(log_level::set))
        // Sessions and what they may see
        .route("/session", post(sessions::create))
        .route("/sessions", delete(sessions::delete_all))
        .route("/sessions/{session_id}", delete(sessions::delete))
        .route("/grants", put(grants::add).delete(grants::remove))
        // What sessions want to see
        .route(
            "/subscription",
            put(subscriptions::add).delete(subscriptions::remove),
        )
        .route(
            "/subscriptions",
            put(subscriptions::add_all).delete(subscriptions::remove_all),
        )
        // What is known of devices; telemetry keys may contain slashes
        .route("/lastValue/{device_id}", last_values.clone())
        .route("/lastValue/{device_id}/", last_values.clone())
        .route("/lastValue/{device_id}/{*key}", last_values)
        .route(
            "/connectionState/{device_id}",
            get(devices::connection_state),
        )
        .route("/deviceTwin/{device_id}", get(devices::device_twin))
        // Calls to devices
        .route("/directMethod", post(device_calls::direct_method))
        .route(
            "/deviceTwinDesiredProperties",
            patch(device_calls::patch_desired_properties),
        )
        .route("/deviceTwinTags", patch(device_calls::patch_tags))
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(from_fn_with_state(state.clone(), requests::observe))
        .with_state(state);
    routes.merge(beside).layer(from_fn(cors::allow_any_origin))
}

fn json_response(json: String) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], json).into_response()
}
