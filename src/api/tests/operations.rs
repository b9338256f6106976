//! What operators call.

use super::*;
use crate::ingest::Malformed;

#[tokio::test]
async fn the_version_is_three_numbers() {
    let api = Api::start();
    let answer = api.send(call("GET", "/version")).await;
    answer.is(200, env!("CARGO_PKG_VERSION"));
    assert_eq!(
        answer
            .body
            .split('.')
            .filter(|part| part.parse::<u32>().is_ok())
            .count(),
        3
    );
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
}

#[tokio::test]
async fn status_tells_how_far_the_start_has_come_and_not_what_happens_later() {
    let api = Api::start();
    api.send(call("GET", "/status"))
        .await
        .is(503, "Still initializing");
    api.send(call("GET", "/readyz"))
        .await
        .is(503, "Still initializing");
    api.send(call("GET", "/healthz")).await.is(200, "OK");

    api.status.confirm();
    for path in ["/status", "/readyz", "/healthz"] {
        api.send(call("GET", path)).await.is(200, "OK");
    }

    api.status.lose();
    api.send(call("GET", "/status")).await.is(200, "OK");
    for path in ["/readyz", "/healthz"] {
        let answer = api.send(call("GET", path)).await;
        assert_eq!(answer.status, 503, "{path}");
        assert!(
            answer
                .body
                .starts_with("No connection to the event hub for "),
            "{}",
            answer.body
        );
    }
    api.status.confirm();
    api.send(call("GET", "/healthz")).await.is(200, "OK");
}

#[tokio::test]
async fn status_names_the_connection_string_that_is_malformed() {
    for (malformed, text) in [
        (
            Malformed::EventHub,
            "EventHub connection string misformed. Please check the iotHubEventHubConnectionString environment variable in your deployment file for ux4iot",
        ),
        (
            Malformed::IotHub,
            "IoTHub connection string misformed. Please check the iotHubServiceConnectionString environment variable in your deployment file for ux4iot.",
        ),
    ] {
        let api = Api::start();
        api.status.malformed(malformed);
        api.send(call("GET", "/status")).await.is(500, text);
        api.send(call("GET", "/readyz")).await.is(500, text);
    }
}

#[tokio::test]
async fn the_log_level_is_set_by_name() {
    let api = Api::start();
    for level in ["error", "warn", "info", "verbose", "debug"] {
        for key in [PRIMARY, SECONDARY] {
            let set = call("PUT", format!("/logLevel/{level}"))
                .key(key)
                .header("Content-Type", "application/x-www-form-urlencoded");
            api.send(set).await.is(204, "");
        }
    }
    for level in ["loud", "INFO", "trace", "%20info"] {
        let set = call("PUT", format!("/logLevel/{level}")).key(PRIMARY);
        api.send(set).await.is(400, "Unknown log level");
    }
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_never_by_id() {
    let api = Api::start();
    api.send(call("GET", "/lastValue/secret-device/t").key(PRIMARY))
        .await;
    api.send(call("GET", "/secret-path")).await;
    let answer = api.send(call("GET", "/metrics")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    for line in [
        r#"hubrelay_api_requests_total{method="GET",route="/lastValue/{deviceId}",status="4xx"} 1"#,
        r#"hubrelay_api_requests_total{method="GET",route="other",status="4xx"} 1"#,
    ] {
        assert!(
            answer.body.contains(line),
            "{line} is missing from\n{}",
            answer.body
        );
    }
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"));
}
