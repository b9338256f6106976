//! Device events that are too large, too deep or of the wrong types.

use serde_json::{Value, json};

use crate::harness::{DeviceEvent, Testbed, d2c_messages, every_key, telemetry};

#[tokio::test]
async fn json_nested_without_end_is_dropped() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([every_key("d1")]).await;
    for depth in [1_000, 100_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = format!(r#"{{"t":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
            testbed
                .inject(DeviceEvent::telemetry_bytes("d1", nested))
                .await;
            let unclosed = format!(r#"{{"t":{}"#, open.repeat(depth));
            testbed
                .inject(DeviceEvent::telemetry_bytes("d1", unclosed))
                .await;
        }
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
}

#[tokio::test]
async fn a_large_event_is_delivered_whole() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "blob")]).await;
    let blob = "x".repeat(200_000);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({ "blob": blob })))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({ "blob": blob })
    );
}

#[tokio::test]
async fn an_event_of_very_many_keys_disturbs_nothing() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "last")]).await;
    let mut members: serde_json::Map<String, Value> = (0..30_000)
        .map(|n| (format!("key-{n:05}"), json!(n)))
        .collect();
    members.insert("last".to_owned(), json!(true));
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"last": 1})))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &Value::Object(members)))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"last": 1}));
    assert_eq!(socket.next_data().await.telemetry(), json!({"last": true}));
}

#[tokio::test]
async fn properties_of_the_wrong_type_are_as_if_absent() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([every_key("d1")]).await;
    let nameless = DeviceEvent::bare("d1", r#"{"t":"nameless"}"#)
        .property("iothub-message-schema", "Telemetry");
    for event in [
        nameless
            .clone()
            .property("iothub-connection-device-id", 17_i64),
        nameless.clone().property("iothub-connection-device-id", ""),
        nameless
            .clone()
            .property("iothub-connection-device-id", true),
        nameless.annotation(
            "iothub-connection-device-id",
            vec![fe2o3_amqp_types::primitives::Value::Null],
        ),
        DeviceEvent::bare("d1", r#"{"deviceId":17,"t":"number"}"#),
        DeviceEvent::bare("d1", r#"{"deviceId":{"a":1},"t":"object"}"#),
    ] {
        testbed.inject(event).await;
    }
    let strange_times = DeviceEvent::telemetry("d1", &json!({"t": 1, "_ts": {"not": "a time"}}))
        .property("iothub-creation-time-utc", "yesterday")
        .annotation("iothub-enqueuedtime", "never");
    testbed.inject(strange_times).await;
    let event = socket.next_data().await;
    assert_eq!(event.telemetry()["t"], 1);
    assert!(
        event.timestamp().parse::<jiff::Timestamp>().is_ok(),
        "{}",
        event.timestamp()
    );
}

#[tokio::test]
async fn a_body_that_is_no_json_is_a_message_but_no_telemetry() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed
        .following([every_key("d1"), d2c_messages("d1")])
        .await;
    testbed
        .inject(DeviceEvent::telemetry_bytes("d1", "plain text"))
        .await;
    assert_eq!(socket.next_data().await.message(), json!("plain text"));
    testbed
        .inject(DeviceEvent::telemetry_bytes("d1", [0xff, 0x00]))
        .await;
    assert_eq!(socket.next_data().await.message(), json!("/wA="));
    testbed
        .inject(DeviceEvent::telemetry_bytes("d1", "17"))
        .await;
    assert_eq!(socket.next_data().await.message(), json!(17));
}

#[tokio::test]
async fn hub_events_with_strange_bodies_disturb_nothing() {
    let mut testbed = Testbed::start().await;
    let strange = [
        json!(null),
        json!([]),
        json!("text"),
        json!({"properties": 7}),
        json!({"version": "x"}),
    ];
    for body in &strange {
        for operation in ["updateTwin", "replaceTwin", "somethingElse"] {
            testbed
                .inject(DeviceEvent::twin_change("d1", operation, body))
                .await;
        }
    }
    testbed
        .inject(DeviceEvent::connection_state("d1", "deviceExploded"))
        .await;
    testbed.still_serves().await;
}

#[tokio::test]
async fn member_names_that_mean_something_elsewhere_are_ordinary_keys() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([every_key("d1")]).await;
    let names = json!({
        "": 1, "__proto__": 2, "constructor": 3, "null": 4, "a\u{0}b": 5, "\u{1e}": 6, "\"},{\"": 7, "ключ": 8,
    });
    testbed.inject(DeviceEvent::telemetry("d1", &names)).await;
    assert_eq!(socket.next_data().await.telemetry(), names);
}
