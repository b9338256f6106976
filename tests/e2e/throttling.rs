//! Fewer events, never older values.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{DeviceEvent, Testbed, d2c_messages, telemetry};

#[tokio::test]
async fn check_68_a_burst_becomes_its_first_and_its_newest_value() {
    let mut testbed = Testbed::with(&[("THROTTLING_INTERVAL", "1000")]).await;
    let (_, mut socket) = testbed.following([telemetry("d1", "n")]).await;
    let started = Instant::now();
    for n in 1..=10 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"n": n})))
            .await;
    }
    testbed.rest.last_value_becomes("d1", "n", &json!(10)).await;
    let further_windows = usize::try_from(started.elapsed().as_secs()).expect("a short time");

    let events = socket
        .data_until(|event| event.telemetry() == json!({"n": 10}))
        .await;
    assert_eq!(events[0].telemetry(), json!({"n": 1}));
    assert!(events.len() <= 2 + further_windows, "{events:?}");
    assert_eq!(socket.data_within(Duration::from_secs(2)).await, []);
}

#[tokio::test]
async fn a_throttled_event_holds_the_newest_value_of_each_key() {
    let mut testbed = Testbed::with(&[("THROTTLING_INTERVAL", "1000")]).await;
    let (_, mut socket) = testbed
        .following([telemetry("d1", "a"), telemetry("d1", "b")])
        .await;
    for telemetry in [json!({"a": 1}), json!({"a": 2, "b": 1}), json!({"b": 2})] {
        testbed
            .inject(DeviceEvent::telemetry("d1", &telemetry))
            .await;
    }
    assert_eq!(socket.next_data().await.telemetry(), json!({"a": 1}));
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 2, "b": 2})
    );
}

#[tokio::test]
async fn revocation_discards_what_throttling_holds_back() {
    let mut testbed = Testbed::with(&[("THROTTLING_INTERVAL", "1000")]).await;
    let (session, mut socket) = testbed.following([telemetry("d1", "n")]).await;
    testbed.process("d1", json!({"n": 1})).await;
    testbed.process("d1", json!({"n": 2})).await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"n": 1}));
    session.revoked(&telemetry("d1", "n")).await;
    assert_eq!(socket.data_within(Duration::from_secs(2)).await, []);
}

#[tokio::test]
async fn other_kinds_are_not_throttled() {
    let mut testbed = Testbed::with(&[("THROTTLING_INTERVAL", "60000")]).await;
    let (_, mut socket) = testbed.following([d2c_messages("d1")]).await;
    for n in 0..5 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"n": n})))
            .await;
        assert_eq!(socket.next_data().await.message(), json!({"n": n}));
    }
}
