//! The demo's stand-in for a customer's security backend: it asks the relay for grants with the admin key.
//!
//! It forwards to the relay's own `PUT` and `DELETE /grants`, in-process, so that a grant request of whatever type is
//! checked by the same code and answered with the same statuses and texts as from any other backend. Where a real one
//! decides whether its user may see the device, change its desired properties or call its methods, this one says yes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tower::ServiceExt as _;

const SHARED_ACCESS_KEY: HeaderName = HeaderName::from_static("shared-access-key");

/// Devices that are listed; of more, only how many there are.
const DEVICES_LISTED_MAX: usize = 200;

/// Longest answer with last values that is read for its keys; a device with more is listed without keys.
const LAST_VALUES_BYTES_MAX: usize = 1 << 20;

/// The backend. Clones share everything.
#[derive(Clone)]
pub(super) struct SecurityBackend {
    api: Router,
    admin_key: HeaderValue,
    device_ids: Arc<[String]>,
    own_device_id: Arc<str>,
}

impl SecurityBackend {
    /// A backend that holds `admin_key` of the relay behind `api`.
    pub(super) fn new(
        api: Router,
        mut admin_key: HeaderValue,
        device_ids: Vec<String>,
        own_device_id: String,
    ) -> Self {
        admin_key.set_sensitive(true);
        Self {
            api,
            admin_key,
            device_ids: device_ids.into(),
            own_device_id: own_device_id.into(),
        }
    }

    /// `POST` and `DELETE /demo/grants`, whose bodies are grant requests; `GET /demo/devices`.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/demo/grants", post(grant).delete(revoke))
            .route("/demo/devices", get(devices))
            .with_state(self)
    }

    /// Calls the relay's API with the admin key.
    async fn call(&self, method: Method, path: &str, body: Body) -> Response {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .expect("fixed and percent-encoded paths are URIs");
        request
            .headers_mut()
            .insert(SHARED_ACCESS_KEY, self.admin_key.clone());
        match self.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// The telemetry keys of which the relay holds a last value, in its order.
    async fn telemetry_keys(&self, device_id: &str) -> Vec<String> {
        let path = format!(
            "/lastValue/{}",
            utf8_percent_encode(device_id, NON_ALPHANUMERIC)
        );
        let response = self.call(Method::GET, &path, Body::empty()).await;
        if response.status() != StatusCode::OK {
            return Vec::new();
        }
        let body = Limited::new(response.into_body(), LAST_VALUES_BYTES_MAX);
        let Ok(body) = body.collect().await else {
            return Vec::new();
        };
        serde_json::from_slice::<LastValues>(&body.to_bytes())
            .map(|last_values| last_values.data.into_keys().collect())
            .unwrap_or_default()
    }
}

/// What `GET /demo/devices` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceList<'a> {
    device_count: usize,
    devices: Vec<ListedDevice<'a>>,
}

/// One device. Its keys are no secret of the demo, its values are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedDevice<'a> {
    device_id: &'a str,
    kind: &'a str,
    telemetry_keys: Vec<String>,
}

/// As much of the relay's last values as is read here.
#[derive(Deserialize)]
struct LastValues {
    data: indexmap::IndexMap<String, Box<RawValue>>,
}

async fn grant(State(backend): State<SecurityBackend>, request: Body) -> Response {
    backend.call(Method::PUT, "/grants", request).await
}

async fn revoke(State(backend): State<SecurityBackend>, request: Body) -> Response {
    backend.call(Method::DELETE, "/grants", request).await
}

/// The users' own device comes first, once it has sent something.
async fn devices(State(backend): State<SecurityBackend>) -> impl IntoResponse {
    let own = ListedDevice {
        device_id: &backend.own_device_id,
        kind: "your own",
        telemetry_keys: backend.telemetry_keys(&backend.own_device_id).await,
    };
    let mut devices = Vec::new();
    if !own.telemetry_keys.is_empty() {
        devices.push(own);
    }
    let device_count = backend.device_ids.len() + devices.len();
    for device_id in backend.device_ids.iter().take(DEVICES_LISTED_MAX) {
        devices.push(ListedDevice {
            device_id,
            kind: kind_of(device_id),
            telemetry_keys: backend.telemetry_keys(device_id).await,
        });
    }
    let list = DeviceList {
        device_count,
        devices,
    };
    ([(CACHE_CONTROL, "no-store")], Json(list)).into_response()
}

/// The kind of a simulated device: its id without the number at the end.
fn kind_of(device_id: &str) -> &str {
    device_id
        .trim_end_matches(|digit: char| digit.is_ascii_digit())
        .trim_end_matches('-')
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::HeaderMap;
    use axum::routing::{get, put};
    use serde_json::json;

    use super::*;

    /// An API that answers a grant request with its method, key and body, and knows keys of one simulated device.
    fn api() -> Router {
        let echo = async |method: Method, headers: HeaderMap, body: String| {
            let key = headers[SHARED_ACCESS_KEY].to_str().unwrap().to_owned();
            (StatusCode::NOT_FOUND, format!("{method} {key} {body}"))
        };
        let last_values = async |axum::extract::Path(device_id): axum::extract::Path<String>| {
            let data = match device_id.as_str() {
                "press/1" => r#"{"z":{"value":1},"a":{"value":2}}"#,
                "mine" => r#"{"level":{"value":3}}"#,
                _ => "{}",
            };
            format!(r#"{{"deviceId":"","data":{data},"timestamp":""}}"#)
        };
        Router::new()
            .route("/grants", put(echo).delete(echo))
            .route("/lastValue/{device_id}", get(last_values))
    }

    fn backend(key: &'static str, own_device_id: &str) -> SecurityBackend {
        let device_ids = vec!["press/1".to_owned(), "tank-02".to_owned()];
        let key = HeaderValue::from_static(key);
        SecurityBackend::new(api(), key, device_ids, own_device_id.to_owned())
    }

    async fn call(method: Method, path: &str, body: &'static str) -> (StatusCode, String) {
        answer(backend("k=", "silent"), method, path, body).await
    }

    async fn answer(
        backend: SecurityBackend,
        method: Method,
        path: &str,
        body: &'static str,
    ) -> (StatusCode, String) {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        let response = backend.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn grant_requests_reach_the_relay_with_the_admin_key_and_its_answer_comes_back() {
        let granted = call(Method::POST, "/demo/grants", "{\"a\":1}").await;
        assert_eq!(
            granted,
            (StatusCode::NOT_FOUND, "PUT k= {\"a\":1}".to_owned())
        );
        let revoked = call(Method::DELETE, "/demo/grants", "{}").await;
        assert_eq!(revoked, (StatusCode::NOT_FOUND, "DELETE k= {}".to_owned()));
    }

    #[tokio::test]
    async fn devices_are_listed_with_kind_and_known_keys_but_no_values() {
        let (status, body) = call(Method::GET, "/demo/devices", "").await;
        assert_eq!(status, StatusCode::OK);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expected = json!({ "deviceCount": 2, "devices": [
            { "deviceId": "press/1", "kind": "press/", "telemetryKeys": ["z", "a"] },
            { "deviceId": "tank-02", "kind": "tank", "telemetryKeys": [] },
        ]});
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn the_users_own_device_is_listed_first_once_it_has_sent_something() {
        let backend = backend("k=", "mine");
        let (_, body) = answer(backend, Method::GET, "/demo/devices", "").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["deviceCount"], 3);
        let own = json!({ "deviceId": "mine", "kind": "your own", "telemetryKeys": ["level"] });
        assert_eq!(body["devices"][0], own);
    }

    #[test]
    fn the_admin_key_is_not_printed() {
        let backend = backend("secret", "mine");
        assert!(!format!("{:?}", backend.admin_key).contains("secret"));
    }
}
