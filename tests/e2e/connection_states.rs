//! Online and offline.

use std::time::Duration;

use relay_protocol::DeviceId;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, Testbed, connection_state, d2c_messages, telemetry,
};

#[tokio::test]
async fn check_56_hub_events_connect_and_disconnect() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([connection_state("d1")]).await;
    testbed
        .inject(DeviceEvent::connection_state("d1", "deviceConnected"))
        .await;
    assert!(socket.next_data().await.connection_state());
    testbed
        .inject(DeviceEvent::connection_state("d1", "deviceDisconnected"))
        .await;
    let disconnected = socket.next_data().await;
    assert!(!disconnected.connection_state());

    let answer = testbed
        .rest
        .get("/connectionState/d1")
        .key(PRIMARY_KEY)
        .await
        .is(200);
    assert_eq!(
        answer.json(),
        json!({"deviceId": "d1", "data": false, "timestamp": disconnected.timestamp()})
    );
}

#[tokio::test]
async fn check_57_telemetry_connects_unless_switched_off() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([connection_state("d1")]).await;
    for _ in 0..2 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
            .await;
        assert!(socket.next_data().await.connection_state());
    }

    let mut testbed = Testbed::with(&[("CONNECTION_STATE_ON_TELEMETRY", "false")]).await;
    let (_, mut socket) = testbed
        .following([connection_state("d1"), d2c_messages("d1")])
        .await;
    for n in 0..2 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"t": n})))
            .await;
        assert_eq!(socket.next_data().await.message(), json!({"t": n}));
    }
}

#[tokio::test]
async fn check_58_a_custom_key_alone_decides() {
    let mut testbed = Testbed::with(&[("CUSTOM_CONNECTION_STATE_KEY", "online")]).await;
    let (_, mut states) = testbed.following([connection_state("d1")]).await;
    let (_, mut values) = testbed.following([telemetry("d1", "online")]).await;

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"online": false})))
        .await;
    assert!(!states.next_data().await.connection_state());
    assert_eq!(
        values.next_data().await.telemetry(),
        json!({"online": false})
    );

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"online": "true"})))
        .await;
    assert_eq!(
        values.next_data().await.telemetry(),
        json!({"online": "true"})
    );
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    testbed
        .inject(DeviceEvent::connection_state("d1", "deviceDisconnected"))
        .await;

    // The only `true` of all this is the last one, so it follows the first `false` directly.
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"online": true})))
        .await;
    assert!(states.next_data().await.connection_state());
}

#[tokio::test]
async fn check_59_a_silent_device_goes_offline_when_its_state_expires() {
    let mut testbed = Testbed::with(&[("CONNECTION_STATE_CACHE_TTL", "2")]).await;
    let (_, mut socket) = testbed.following([connection_state("d1")]).await;
    let injected = Instant::now();
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert!(socket.next_data().await.connection_state());
    assert!(!socket.next_data().await.connection_state());
    let silence = injected.elapsed();
    assert!(
        silence >= Duration::from_secs(2),
        "offline after {silence:?}"
    );
    assert!(
        silence < Duration::from_secs(5),
        "offline after {silence:?}"
    );

    // Without IoT Hub to ask, what expired is known as offline from now on.
    let state = testbed.rest.admin(PRIMARY_KEY);
    let state = state.connection_state(DeviceId::from("d1")).await;
    assert!(!state.expect("the state is known").data);
}

#[tokio::test]
async fn check_59_each_message_starts_the_time_again() {
    let mut testbed = Testbed::with(&[("CONNECTION_STATE_CACHE_TTL", "2")]).await;
    let (_, mut socket) = testbed.following([connection_state("d1")]).await;
    for n in 0..3 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"t": n})))
            .await;
        assert!(socket.next_data().await.connection_state());
        // Time itself is what is tested: shorter than the expiry, and longer in sum.
        sleep(Duration::from_secs(1)).await;
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 3})))
        .await;
    assert!(socket.next_data().await.connection_state());
}

#[tokio::test]
async fn check_59_zero_and_minus_one_never_expire() {
    let mut testbed = Testbed::with(&[("CONNECTION_STATE_CACHE_TTL", "0")]).await;
    let mut another = Testbed::with(&[("CONNECTION_STATE_CACHE_TTL", "-1")]).await;
    let (_, mut socket) = testbed.following([connection_state("d1")]).await;
    let (_, mut another_socket) = another.following([connection_state("d1")]).await;
    for (testbed, socket) in [
        (&mut testbed, &mut socket),
        (&mut another, &mut another_socket),
    ] {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
            .await;
        assert!(socket.next_data().await.connection_state());
    }
    let (first, second) = tokio::join!(
        socket.data_within(Duration::from_secs(3)),
        another_socket.data_within(Duration::from_secs(3)),
    );
    assert_eq!((first, second), (vec![], vec![]));
}

#[tokio::test]
async fn a_state_nobody_knows_is_answered_as_documented() {
    let testbed = Testbed::start().await;
    let answer = testbed
        .rest
        .get("/connectionState/never-seen")
        .key(PRIMARY_KEY)
        .await;
    answer.says(400, "IoT Hub API disabled, cannot read connection state");

    let testbed = Testbed::with(&[("CUSTOM_CONNECTION_STATE_KEY", "online")]).await;
    let answer = testbed
        .rest
        .get("/connectionState/never-seen")
        .key(PRIMARY_KEY)
        .await;
    answer.says(404, "No device found");
}

#[tokio::test]
async fn an_empty_custom_key_is_no_custom_key() {
    let mut testbed = Testbed::with(&[("CUSTOM_CONNECTION_STATE_KEY", "")]).await;
    let (_, mut socket) = testbed.following([connection_state("d1")]).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert!(socket.next_data().await.connection_state());
}
