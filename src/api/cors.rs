//! Cross-origin access for browser clients, which never send cookies.
//!
//! Every response may be read by any origin, refusals included: otherwise a client cannot tell 401 from a broken
//! network. Preflights are answered for every path, without looking at credentials. (Own code because the usual layer
//! answers a preflight with 200, while clients of this API are promised 204.)

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

const ANY: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static("content-type, sessionid, shared-access-key");
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("retry-after");
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Headers");
const ONE_DAY_S: HeaderValue = HeaderValue::from_static("86400");

/// Middleware for the whole router, outside of everything else.
pub(super) async fn allow_any_origin(request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight(&request);
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RETRY_AFTER);
    response
}

/// Allows whatever headers the browser asks for: instrumented applications add tracing headers of their own.
fn preflight(request: &Request) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let requested = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS);
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        requested.cloned().unwrap_or(HEADERS),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, ONE_DAY_S);
    headers.insert(VARY, REQUEST_HEADERS);
    response
}
