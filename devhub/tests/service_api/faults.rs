//! What tests of other programs ask of devhub: faults on demand, and counts of what was asked.

use std::time::{Duration, Instant};

use devhub::service_api::{Operation, ServiceFault};
use reqwest::Method;
use serde_json::json;

use crate::client::{Fixture, device, sent};

async fn switch(fixture: &Fixture, fault: serde_json::Value) {
    let request = fixture
        .bare(&Method::PUT, "/devhub/faults")
        .header("authorization", fixture.token("iothubowner"));
    assert_eq!(sent(request.json(&fault)).await.status, 204);
}

#[tokio::test]
async fn requests_are_answered_with_the_status_that_was_asked_for() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    switch(
        &fixture,
        json!({ "status": 429, "retryAfterS": 7, "requests": 2 }),
    )
    .await;
    for _ in 0..2 {
        let answer = fixture.get("/twins/d").await;
        assert_eq!(answer.refusal(), (429, "ThrottlingException"));
        assert_eq!(answer.retry_after.as_deref(), Some("7"));
    }
    assert_eq!(fixture.get("/twins/d").await.status, 200);
    for (status, code) in [
        (401, "IotHubUnauthorized"),
        (403, "IotHubQuotaExceeded"),
        (500, "ServerError"),
        (503, "ServiceUnavailable"),
    ] {
        switch(&fixture, json!({ "status": status })).await;
        for _ in 0..3 {
            assert_eq!(fixture.get("/twins/d").await.refusal(), (status, code));
        }
    }
    switch(&fixture, json!({})).await;
    assert_eq!(fixture.get("/twins/d").await.status, 200);
}

#[tokio::test]
async fn connections_are_dropped_without_an_answer() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    fixture.devhub.faults().meet_service_requests(ServiceFault {
        drop_connection: true,
        ..ServiceFault::default()
    });
    let dropped = fixture.request(&Method::GET, "/twins/d").send().await;
    assert!(dropped.is_err(), "{dropped:?}");
    fixture
        .devhub
        .faults()
        .meet_service_requests(ServiceFault::default());
    assert_eq!(fixture.get("/twins/d").await.status, 200);
}

#[tokio::test]
async fn answers_are_delayed() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    switch(&fixture, json!({ "delayMs": 100, "requests": 1 })).await;
    let started = Instant::now();
    assert_eq!(fixture.get("/twins/d").await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn every_request_counts_the_refused_ones_too() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    switch(&fixture, json!({ "status": 503, "requests": 1 })).await;
    for path in ["/twins/d", "/twins/d", "/twins/unknown", "/devices/d"] {
        fixture.get(path).await;
    }
    fixture.send(&Method::PATCH, "/twins/d", &json!({})).await;
    let counts = fixture.get("/devhub/requests").await.body;
    assert_eq!(
        counts,
        json!({
            "readRegistry": 1,
            "writeRegistry": 0,
            "readTwin": 3,
            "updateTwin": 1,
            "replaceTwin": 0,
            "query": 0,
            "invokeMethod": 0,
        })
    );
    let counts = fixture.devhub.service_requests();
    assert_eq!(counts[&Operation::ReadTwin], 3);
}

#[tokio::test]
async fn switches_ask_for_all_rights_and_take_nothing_they_do_not_know() {
    let fixture = Fixture::start().await;
    for policy in ["service", "registryReadWrite"] {
        let request = fixture
            .bare(&Method::PUT, "/devhub/faults")
            .header("authorization", fixture.token(policy));
        let answer = sent(request.json(&json!({ "status": 500 }))).await;
        assert_eq!(answer.refusal(), (401, "IotHubUnauthorized"), "{policy}");
    }
    for bad in [
        json!({ "status": 200 }),
        json!({ "stauts": 500 }),
        json!({ "delayMs": -1 }),
        json!([]),
    ] {
        let answer = fixture.send(&Method::PUT, "/devhub/faults", &bad).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{bad}");
    }
    assert_eq!(
        fixture.get("/twins/d").await.refusal(),
        (404, "DeviceNotFound")
    );
}

#[tokio::test]
async fn routes_are_switched_and_are_on_unless_they_are_named() {
    let fixture = Fixture::start().await;
    let enqueued = || -> i64 {
        let hub = fixture.devhub.event_hub();
        (0..hub.partition_count())
            .filter_map(|partition| hub.partition_properties(partition))
            .map(|partition| partition.last_enqueued_sequence_number + 1)
            .sum()
    };
    let routes = json!({ "lifecycle": false, "twinChanges": false });
    let switched = fixture.send(&Method::PUT, "/devhub/routes", &routes).await;
    assert_eq!(switched.status, 204);
    fixture.create(&device("d"));
    let tags = json!({ "tags": { "a": 1 } });
    fixture.send(&Method::PATCH, "/twins/d", &tags).await;
    assert_eq!(enqueued(), 0);
    fixture
        .send(&Method::PUT, "/devhub/routes", &json!({}))
        .await;
    fixture.send(&Method::PATCH, "/twins/d", &tags).await;
    assert_eq!(enqueued(), 1);
    let unknown = json!({ "jobs": true });
    let refused = fixture.send(&Method::PUT, "/devhub/routes", &unknown).await;
    assert_eq!(refused.refusal(), (400, "ArgumentInvalid"));
}
