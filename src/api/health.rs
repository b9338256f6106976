//! What operators and their probes ask: version, state, health, metrics. None of it needs a credential.

use axum::extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::State;
use crate::ingest::{Malformed, State as Source};
use crate::telemetry::metrics::OPENMETRICS_CONTENT_TYPE;

const EVENT_HUB_MALFORMED: &str = "EventHub connection string misformed. Please check the iotHubEventHubConnectionString environment variable in your deployment file for ux4iot";
const IOT_HUB_MALFORMED: &str = "IoTHub connection string misformed. Please check the iotHubServiceConnectionString environment variable in your deployment file for ux4iot.";

/// `GET /version`. Three numbers, so that no client takes it for a JSON number.
pub(super) async fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// `GET /status`, as ux4iot has it. Losing the source for a while after the start does not change it; `/healthz` and
/// `/readyz` tell that.
pub(super) async fn status(extract::State(state): extract::State<State>) -> Response {
    match state.status.state() {
        Source::Running => (StatusCode::OK, "OK"),
        Source::Initializing => (StatusCode::SERVICE_UNAVAILABLE, "Still initializing"),
        Source::Malformed(Malformed::EventHub) => {
            (StatusCode::INTERNAL_SERVER_ERROR, EVENT_HUB_MALFORMED)
        }
        Source::Malformed(Malformed::IotHub) => {
            (StatusCode::INTERNAL_SERVER_ERROR, IOT_HUB_MALFORMED)
        }
    }
    .into_response()
}

/// `GET /healthz`: the process serves, and device messages can reach it or soon will.
pub(super) async fn healthz(extract::State(state): extract::State<State>) -> Response {
    source_lost(&state).unwrap_or_else(|| "OK".into_response())
}

/// `GET /readyz`: device messages reach this process, so clients may be sent to it.
pub(super) async fn readyz(extract::State(state): extract::State<State>) -> Response {
    match state.status.state() {
        Source::Running => healthz(extract::State(state)).await,
        Source::Initializing | Source::Malformed(_) => status(extract::State(state)).await,
    }
}

/// `GET /metrics`, as text for a scraper.
pub(super) async fn metrics(extract::State(state): extract::State<State>) -> Response {
    (
        [(CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE)],
        state.metrics.render(),
    )
        .into_response()
}

fn source_lost(state: &State) -> Option<Response> {
    let lost_since = state.status.source_lost_since()?;
    let lost_for = state
        .clock
        .monotonic()
        .saturating_duration_since(lost_since);
    let reason = format!(
        "No connection to the event hub for {} s",
        lost_for.as_secs()
    );
    Some((StatusCode::SERVICE_UNAVAILABLE, reason).into_response())
}
