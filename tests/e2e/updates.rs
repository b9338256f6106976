//! What is pushed to whom.

use serde_json::json;

use crate::harness::{
    DeviceEvent, Testbed, connection_state, d2c_messages, device_twin, every_key, telemetry,
};

#[tokio::test]
async fn check_41_one_message_is_one_event_with_the_subscribed_keys() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed
        .following([telemetry("d1", "a"), telemetry("d1", "b")])
        .await;
    testbed
        .inject(DeviceEvent::telemetry(
            "d1",
            &json!({"a": 1, "b": 2, "c": 3}),
        ))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": "next"})))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 1, "b": 2})
    );
    assert_eq!(socket.next_data().await.telemetry(), json!({"a": "next"}));
}

#[tokio::test]
async fn check_42_a_message_without_subscribed_keys_is_no_event() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "a")]).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"c": 3})))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": "next"})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"a": "next"}));
}

#[tokio::test]
async fn check_43_a_subscription_to_every_key_brings_every_key() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([every_key("d1")]).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1, "c": 3})))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 1, "c": 3})
    );
}

#[tokio::test]
async fn check_44_every_event_names_device_and_time_and_is_of_one_kind() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed
        .following([
            every_key("d1"),
            connection_state("d1"),
            d2c_messages("d1"),
            device_twin("d1"),
        ])
        .await;
    let twin = json!({"version": 1, "properties": {"reported": {"a": 1}, "desired": {}}});
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1})))
        .await;
    testbed
        .inject(DeviceEvent::connection_state("d1", "deviceDisconnected"))
        .await;
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;

    // Each event was read through the protocol's type, which refuses none or several kinds; see the harness.
    let telemetry = socket.next_data().await;
    assert_eq!(telemetry.telemetry(), json!({"a": 1}));
    let connected = socket.next_data().await;
    assert!(connected.connection_state());
    let message = socket.next_data().await;
    assert_eq!(message.message(), json!({"a": 1}));
    let disconnected = socket.next_data().await;
    assert!(!disconnected.connection_state());
    let changed = socket.next_data().await;
    assert_eq!(
        changed.device_twin()["properties"]["reported"],
        json!({"a": 1})
    );
    for event in [telemetry, connected, message, disconnected, changed] {
        assert_eq!(event.device_id(), "d1");
        let timestamp = event.timestamp();
        assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
    }
}

#[tokio::test]
async fn check_45_falsy_values_are_delivered() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed
        .following([telemetry("d1", "a"), telemetry("d1", "b")])
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 0, "b": false})))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 0, "b": false})
    );
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": "", "b": null})))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": "", "b": null})
    );
}

#[tokio::test]
async fn check_46_a_d2c_message_is_the_whole_body() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([d2c_messages("d1")]).await;
    let body = json!({"_ts": "2024-05-01T10:00:00.000Z", "deviceId": "d1", "a": {"b": [1, 2]}});
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    let event = socket.next_data().await;
    assert_eq!(event.message(), body);
    assert_eq!(event.timestamp(), "2024-05-01T10:00:00.000Z");
}

#[tokio::test]
async fn check_47_each_session_receives_its_own_selection() {
    let mut testbed = Testbed::start().await;
    let (_, mut first) = testbed.following([telemetry("d1", "a")]).await;
    let (_, mut second) = testbed.following([telemetry("d1", "b")]).await;
    let (_, mut other_device) = testbed.following([telemetry("d2", "a")]).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1, "b": 2})))
        .await;
    assert_eq!(first.next_data().await.telemetry(), json!({"a": 1}));
    assert_eq!(second.next_data().await.telemetry(), json!({"b": 2}));

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"b": 3})))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 4})))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d2", &json!({"a": 5})))
        .await;
    assert_eq!(second.next_data().await.telemetry(), json!({"b": 3}));
    assert_eq!(first.next_data().await.telemetry(), json!({"a": 4}));
    assert_eq!(other_device.next_data().await.telemetry(), json!({"a": 5}));
}

#[tokio::test]
async fn one_key_and_every_key_together_are_still_one_event() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed
        .following([every_key("d1"), telemetry("d1", "a")])
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1, "b": 2})))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 1, "b": 2})
    );

    session.unsubscribed(&every_key("d1")).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 3, "b": 4})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"a": 3}));
}

#[tokio::test]
async fn subscribing_replays_no_last_value() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"a": "old"})).await;
    let (_, mut socket) = testbed.following([telemetry("d1", "a")]).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": "new"})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"a": "new"}));
}

#[tokio::test]
async fn values_are_passed_on_digit_by_digit() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed
        .following([every_key("d1"), d2c_messages("d1")])
        .await;
    let body = r#"{"id":12345678901234567890123,"price":1.50,"tiny":1e-400}"#;
    testbed
        .inject(DeviceEvent::telemetry_bytes("d1", body))
        .await;
    for _ in ["telemetry", "message"] {
        let event = socket.next_data().await;
        for digits in ["12345678901234567890123", "1.50", "1e-400"] {
            assert!(event.text.contains(digits), "{}", event.text);
        }
    }
}
