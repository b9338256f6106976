//! Browsers on other origins.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, PRIMARY_KEY, Testbed, UNKNOWN_SESSION};

const ORIGIN: &str = "https://app.example";

#[tokio::test]
async fn check_08_preflight_allows_the_headers_and_methods_of_clients() {
    let testbed = Testbed::start().await;
    for path in [
        "/grants",
        "/lastValue/d1/t",
        "/socket.io/",
        "/anything/else",
    ] {
        let call = testbed.rest.call(Method::OPTIONS, path);
        let answer = call
            .header("Origin", ORIGIN)
            .header("Access-Control-Request-Method", "PUT")
            .header(
                "Access-Control-Request-Headers",
                "content-type,sessionid,shared-access-key",
            )
            .await
            .is(204);
        assert_allows_origin(&answer);
        let headers = answer
            .header("access-control-allow-headers")
            .to_ascii_lowercase();
        for header in ["content-type", "sessionid", "shared-access-key"] {
            assert!(headers.contains(header), "{path}: {headers}");
        }
        let methods = answer.header("access-control-allow-methods");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            assert!(methods.contains(method), "{path}: {methods}");
        }
    }
}

#[tokio::test]
async fn check_09_error_answers_can_be_read_by_pages_of_any_origin() {
    let testbed = Testbed::start().await;
    let rest = &testbed.rest;

    let unauthorized = rest.put("/grants").header("Origin", ORIGIN).await.is(401);
    assert_allows_origin(&unauthorized);

    let path = format!("/socket.io/?sessionId={UNKNOWN_SESSION}&EIO=3&transport=polling");
    let unsupported = rest.get(&path).header("Origin", ORIGIN).await.is(400);
    assert_allows_origin(&unsupported);

    let body = json!({"sessionId": UNKNOWN_SESSION, "deviceId": "d1", "type": "deviceTwin"});
    let call = rest
        .put("/grants")
        .header("Origin", ORIGIN)
        .key(PRIMARY_KEY);
    assert_allows_origin(&call.json(&body).await.is(404));
}

#[track_caller]
fn assert_allows_origin(answer: &Answer) {
    let allowed = answer.header("access-control-allow-origin");
    assert!(matches!(allowed, "*" | ORIGIN), "{answer:?}");
}
