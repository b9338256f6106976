//! From an event in the event hub to a device message: whose, when, and what.

use jiff::{SignedDuration, Timestamp};
use relay_protocol::DeviceId;
use serde_json::{Value, json};

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, Socket, Testbed, connection_state, d2c_messages, every_key, telemetry,
};

const IN_BODY: &str = "2024-05-01T10:00:00.000Z";
const IN_PROPERTY: &str = "2024-05-01T11:00:00.000Z";
const ENQUEUED: &str = "2024-05-01T12:00:00.000Z";

#[tokio::test]
async fn check_54_the_time_closest_to_the_measurement_wins() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "t")]).await;
    let enqueued_ms = ENQUEUED
        .parse::<Timestamp>()
        .expect("ISO 8601")
        .as_millisecond();

    let event = |body: Value| DeviceEvent::telemetry("d1", &body).enqueued_at_ms(enqueued_ms);
    testbed
        .inject(
            event(json!({"t": 1, "_ts": IN_BODY}))
                .property("iothub-creation-time-utc", IN_PROPERTY),
        )
        .await;
    assert_eq!(next_timestamp(&mut socket).await, IN_BODY);

    testbed
        .inject(event(json!({"t": 1})).property("iothub-creation-time-utc", IN_PROPERTY))
        .await;
    assert_eq!(next_timestamp(&mut socket).await, IN_PROPERTY);

    testbed
        .inject(event(json!({"t": 1})).property("iothub-app-iothub-creation-time-utc", IN_PROPERTY))
        .await;
    assert_eq!(next_timestamp(&mut socket).await, IN_PROPERTY);

    testbed.inject(event(json!({"t": 1}))).await;
    assert_eq!(next_timestamp(&mut socket).await, ENQUEUED);

    testbed
        .inject(DeviceEvent::telemetry(
            "d1",
            &json!({"t": 1, "_ts": 1_714_557_600_000_i64}),
        ))
        .await;
    assert_eq!(next_timestamp(&mut socket).await, IN_BODY);

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    let consumed: Timestamp = next_timestamp(&mut socket).await.parse().expect("ISO 8601");
    let age = Timestamp::now().duration_since(consumed).abs();
    assert!(
        age < SignedDuration::from_secs(5),
        "{consumed} is {age:?} from now"
    );
}

async fn next_timestamp(socket: &mut Socket) -> String {
    let event = socket.next_data().await;
    assert_eq!(event.telemetry(), json!({"t": 1}));
    event.timestamp().to_owned()
}

#[tokio::test]
async fn a_custom_timestamp_key_replaces_the_default_one() {
    let mut testbed = Testbed::with(&[("CUSTOM_TIMESTAMP_KEY", "measuredAt")]).await;
    let (_, mut socket) = testbed.following([every_key("d1")]).await;
    let body = json!({"measuredAt": IN_BODY, "_ts": IN_PROPERTY, "t": 1});
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    let event = socket.next_data().await;
    assert_eq!(event.timestamp(), IN_BODY);
    assert_eq!(event.telemetry(), json!({"_ts": IN_PROPERTY, "t": 1}));
}

#[tokio::test]
async fn check_55_the_device_id_may_stand_in_the_body() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([every_key("d1")]).await;
    let body = json!({"deviceId": "d1", "t": 1});
    testbed
        .inject(DeviceEvent::bare("d1", body.to_string()))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));

    let mut testbed = Testbed::with(&[("CUSTOM_DEVICE_ID_KEY", "sensor")]).await;
    let (_, mut socket) = testbed.following([every_key("d1"), every_key("d2")]).await;
    let body = json!({"sensor": "d1", "deviceId": "d2", "t": 2});
    testbed
        .inject(DeviceEvent::bare("d1", body.to_string()))
        .await;
    let event = socket.next_data().await;
    assert_eq!(event.device_id(), "d1");
    assert_eq!(event.telemetry(), json!({"deviceId": "d2", "t": 2}));
}

#[tokio::test]
async fn with_an_empty_device_id_key_a_device_cannot_speak_for_another() {
    let mut testbed = Testbed::with(&[("CUSTOM_DEVICE_ID_KEY", "")]).await;
    let (_, mut socket) = testbed.following([every_key("d1"), every_key("d2")]).await;
    let forged = json!({"deviceId": "d2", "t": 1});
    testbed.inject(DeviceEvent::telemetry("d1", &forged)).await;
    let event = socket.next_data().await;
    assert_eq!(event.device_id(), "d1");
    assert_eq!(event.telemetry(), forged);
}

#[tokio::test]
async fn a_device_message_stamped_by_iot_hub_is_telemetry() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "t")]).await;
    testbed
        .inject(DeviceEvent::stamped_by_iot_hub("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
}

#[tokio::test]
async fn events_of_other_classes_are_not_telemetry() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed
        .following([every_key("d1"), d2c_messages("d1"), connection_state("d1")])
        .await;
    let body = json!({"t": 0}).to_string();
    for source in [
        "deviceLifecycleEvents",
        "digitalTwinChangeEvents",
        "somethingNew",
    ] {
        let event = DeviceEvent::bare("d1", body.clone())
            .annotation("iothub-connection-device-id", "d1")
            .annotation("iothub-message-source", source);
        testbed.inject(event).await;
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
}

#[tokio::test]
async fn events_of_every_partition_arrive() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "partition")]).await;
    for partition in 0..2_u32 {
        let event = DeviceEvent::telemetry("d1", &json!({ "partition": partition }));
        testbed
            .injector
            .inject_into_partition(partition, event)
            .await;
        assert_eq!(
            socket.next_data().await.telemetry(),
            json!({ "partition": partition })
        );
    }
}

#[tokio::test]
async fn an_array_is_several_telemetry_messages_and_one_d2c_message() {
    let mut testbed = Testbed::start().await;
    let (_, mut telemetry_socket) = testbed.following([every_key("d1")]).await;
    let (_, mut message_socket) = testbed.following([d2c_messages("d1")]).await;
    let body = json!([{"t": 1}, "not an object", {"t": 2}]);
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    assert_eq!(
        telemetry_socket.next_data().await.telemetry(),
        json!({"t": 1})
    );
    assert_eq!(
        telemetry_socket.next_data().await.telemetry(),
        json!({"t": 2})
    );
    assert_eq!(message_socket.next_data().await.message(), body);
}

#[tokio::test]
async fn check_69_events_that_cannot_be_used_disturb_nothing() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([every_key("d1")]).await;
    testbed
        .inject(DeviceEvent::telemetry_bytes("d1", [0xff, 0xfe, 0x00]))
        .await;
    testbed
        .inject(DeviceEvent::telemetry_bytes("d1", "{\"t\":"))
        .await;
    testbed.inject(DeviceEvent::telemetry_bytes("d1", "")).await;
    testbed
        .inject(DeviceEvent::bare("d1", json!({"t": "whose?"}).to_string()))
        .await;

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
    testbed.rest.get("/status").await.says(200, "OK");
    let admin = testbed.rest.admin(PRIMARY_KEY);
    let last = admin.last_value(DeviceId::from("d1"), "t").await;
    assert_eq!(last.expect("a value").data["t"].as_str(), "1");
}
