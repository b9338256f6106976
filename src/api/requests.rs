//! What is true of every answer of the API: it is counted, and one to a `GET` is never kept by a cache.

use axum::extract::{self, Request};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::State;
use super::error::Error;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Middleware around the API's own routes.
pub(super) async fn observe(
    extract::State(state): extract::State<State>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let route = route(request.uri().path());
    let mut response = next.run(request).await;
    if matches!(method, Method::GET | Method::HEAD) {
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    }
    let metrics = &state.metrics.api;
    metrics
        .requests
        .inc(label(&method), route, response.status().as_u16());
    if let Some(rejection) = response
        .extensions()
        .get::<Error>()
        .and_then(|error| error.rejection())
    {
        metrics.rejected.inc(rejection);
    }
    response
}

/// The template of the route that a path belongs to: a label of few values, never an id.
fn route(path: &str) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match first {
        "version" => "/version",
        "status" => "/status",
        "healthz" => "/healthz",
        "readyz" => "/readyz",
        "metrics" => "/metrics",
        "logLevel" => "/logLevel/{level}",
        "session" => "/session",
        "sessions" if rest.is_empty() => "/sessions",
        "sessions" => "/sessions/{sessionId}",
        "grants" => "/grants",
        "subscription" => "/subscription",
        "subscriptions" => "/subscriptions",
        "lastValue" => "/lastValue/{deviceId}",
        "deviceTwin" => "/deviceTwin/{deviceId}",
        "connectionState" => "/connectionState/{deviceId}",
        "directMethod" => "/directMethod",
        "deviceTwinDesiredProperties" => "/deviceTwinDesiredProperties",
        "deviceTwinTags" => "/deviceTwinTags",
        _ => "other",
    }
}

fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
