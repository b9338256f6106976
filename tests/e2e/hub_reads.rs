//! Twins and connection states that the relay has to ask the IoT hub for.

use serde_json::json;

use crate::harness::{
    Devhub, PRIMARY_KEY, Session, Testbed, connection_state, device_twin, telemetry,
};

#[tokio::test]
async fn check_60_a_connection_state_is_the_known_one_or_the_hubs() {
    let mut testbed = Testbed::with_iot_hub(&[]).await;
    testbed.process("known", json!({"t": 1})).await;
    let _device = testbed.devhub.connect_device("d1", json!({})).await;
    testbed.devhub.register(&["idle".to_owned()]).await;
    let read = async |device: &str| {
        let path = format!("/connectionState/{device}");
        testbed.rest.get(&path).key(PRIMARY_KEY).await
    };
    let answer = read("known").await.is(200).json();
    assert_eq!(answer["data"], true);
    let answer = read("d1").await.is(200).json();
    assert_eq!(
        (&answer["deviceId"], &answer["data"]),
        (&json!("d1"), &json!(true))
    );
    assert!(
        answer["timestamp"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
    assert_eq!(read("idle").await.is(200).json()["data"], false);
    read("nobody").await.says(404, "No device found");
}

#[tokio::test]
async fn check_60_with_a_custom_key_the_hub_is_not_asked_for_the_connection_state() {
    let testbed = Testbed::with_iot_hub(&[("CUSTOM_CONNECTION_STATE_KEY", "online")]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let read = testbed.rest.get("/connectionState/d1").key(PRIMARY_KEY);
    read.await.says(404, "No device found");
    assert_eq!(testbed.devhub.hub_requests("readTwin").await, 0);
}

#[tokio::test]
async fn check_60_without_a_hub_an_unknown_connection_state_cannot_be_read() {
    let testbed = Testbed::start().await;
    let read = testbed.rest.get("/connectionState/d1").key(PRIMARY_KEY);
    read.await
        .says(400, "IoT Hub API disabled, cannot read connection state");
}

#[tokio::test]
async fn check_61_a_twin_is_read_from_the_hub() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let mut device = testbed.devhub.connect_device("d1", json!({})).await;
    device.send(&json!({"report": {"firmware": "1.2.0"}})).await;
    while device.next_line().await != json!({"reported": true}) {}
    let read = async |device: &str| {
        let path = format!("/deviceTwin/{device}");
        testbed.rest.get(&path).key(PRIMARY_KEY).await
    };
    let answer = read("d1").await.is(200).json();
    assert_eq!(answer["deviceId"], "d1");
    let twin = &answer["data"];
    assert!(twin["version"].is_u64(), "{twin}");
    assert_eq!(twin["properties"]["reported"]["firmware"], "1.2.0");
    assert!(twin["properties"]["desired"].is_object(), "{twin}");
    read("nobody").await.says(404, "No last devicetwin found");
}

#[tokio::test]
async fn check_61_without_a_hub_an_unknown_twin_cannot_be_read() {
    let testbed = Testbed::start().await;
    let read = testbed.rest.get("/deviceTwin/d1").key(PRIMARY_KEY);
    read.await
        .says(400, "IoT Hub API disabled, cannot read device twin");
}

#[tokio::test]
async fn check_62_a_twin_is_read_each_time_or_once_as_configured() {
    for (ttl, reads) in [("-1", 2), ("0", 1)] {
        // The event of the registration holds the twin, so it comes before the relay listens.
        let devhub = Devhub::start().await;
        devhub.register(&["d1".to_owned()]).await;
        let options = [("DEVICE_TWIN_CACHE_TTL", ttl)];
        let testbed = Testbed::around_iot_hub(devhub, &options).await;
        for _ in 0..2 {
            let read = testbed.rest.get("/deviceTwin/d1").key(PRIMARY_KEY);
            read.await.is(200);
        }
        let asked = testbed.devhub.hub_requests("readTwin").await;
        assert_eq!(asked, reads, "with a TTL of {ttl}");
    }
}

#[tokio::test]
async fn a_session_reads_what_it_was_granted_and_nothing_else() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let session = testbed.session().await;
    let forbidden = "Forbidden to read last value of device: missing grant";
    for path in ["/deviceTwin/d1", "/connectionState/d1"] {
        session.get(path).await.says(403, forbidden);
    }
    assert_eq!(testbed.devhub.hub_requests("readTwin").await, 0);
    session.granted(&device_twin("d1")).await;
    session.get("/deviceTwin/d1").await.is(200);
    session
        .get("/connectionState/d1")
        .await
        .says(403, forbidden);
    session.granted(&connection_state("d1")).await;
    session.get("/connectionState/d1").await.is(200);
}

/// Many pages are opened at the same moment; the hub is asked as often as one reader alone would.
#[tokio::test]
async fn readers_of_one_twin_at_one_time_are_one_read_of_the_hub() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let sessions = [testbed.session().await, testbed.session().await];
    for session in &sessions {
        session.granted(&device_twin("d1")).await;
        session.granted(&telemetry("d1", "t")).await;
    }
    // The hub takes so long that all readers are there before it answers.
    testbed.devhub.hub_fault(json!({"delayMs": 1000})).await;
    let read = |session: &Session| {
        let call = session.rest.get("/deviceTwin/d1").session(&session.id);
        async move { call.await.is(200).json()["data"].clone() }
    };
    let [first, second] = &sessions;
    let (a, b, c) = tokio::join!(read(first), read(second), read(first));
    assert_eq!((&a, &a), (&b, &c));
    assert_eq!(testbed.devhub.hub_requests("readTwin").await, 1);
}
