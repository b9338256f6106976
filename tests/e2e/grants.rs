//! What a session may see.

use serde_json::{Value, json};

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, SECONDARY_KEY, Testbed, UNKNOWN_SESSION, connection_state,
    d2c_messages, desired_properties, device_twin, direct_method, every_key, telemetry,
};

/// Parsable, which is all that enables the IoT Hub side; nothing calls it here.
const SERVICE_CONNECTION_STRING: &str =
    "HostName=127.0.0.1:9;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0";

#[tokio::test]
async fn check_10_granting_needs_one_of_the_keys() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let body = session.request(&telemetry("d1", "t"));

    let without_key = testbed.rest.put("/grants").json(&body).await.is(401);
    assert!(
        without_key.body.starts_with("Unauthorized"),
        "{}",
        without_key.body
    );
    testbed
        .rest
        .put("/grants")
        .key("wrong")
        .json(&body)
        .await
        .is(401);
    testbed
        .rest
        .put("/grants")
        .key("")
        .json(&body)
        .await
        .is(401);
    testbed
        .rest
        .put("/grants")
        .key(SECONDARY_KEY)
        .json(&body)
        .await
        .is(204);
    testbed
        .rest
        .put("/grants")
        .key(PRIMARY_KEY)
        .json(&body)
        .await
        .is(204);
}

#[tokio::test]
async fn check_11_each_of_the_six_types_can_be_granted() {
    let options = [(
        "IOT_HUB_SERVICE_CONNECTION_STRING",
        SERVICE_CONNECTION_STRING,
    )];
    let testbed = Testbed::with(&options).await;
    let session = testbed.session().await;
    for what in [
        telemetry("d1", "t"),
        device_twin("d1"),
        connection_state("d1"),
        d2c_messages("d1"),
        desired_properties("d1"),
        direct_method("d1", "reboot"),
    ] {
        let answer = session.grant(&what).await.is(204);
        assert_eq!(answer.body, "", "{what}");
    }
}

#[tokio::test]
async fn check_12_a_grant_of_unknown_shape_is_refused() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    for what in [
        json!({"deviceId": "d1", "type": "foo"}),
        json!({"type": "telemetry"}),
        json!({"deviceId": "d1"}),
        json!({"deviceId": "d1", "grantType": "subscribeToTelemetry"}),
    ] {
        session.grant(&what).await.says(400, "unknown grant type");
    }
}

#[tokio::test]
async fn check_13_granting_to_an_unknown_session_is_refused() {
    let testbed = Testbed::start().await;
    let body = json!({"sessionId": UNKNOWN_SESSION, "deviceId": "d1", "type": "deviceTwin"});
    let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
    call.json(&body).await.says(404, "No such sessionId");
}

#[tokio::test]
async fn check_14_calls_to_devices_cannot_be_granted_while_the_hub_is_disabled() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    for what in [direct_method("d1", "reboot"), desired_properties("d1")] {
        session.grant(&what).await.says(400, "Grant unavailable");
    }
}

#[tokio::test]
async fn check_15_granting_and_revoking_are_idempotent() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 1})).await;
    let session = testbed.session().await;
    let what = telemetry("d1", "t");
    session.grant(&what).await.is(204);
    session.grant(&what).await.is(204);
    session.get("/lastValue/d1/t").await.is(200);

    session.revoke(&what).await.is(204);
    session.get("/lastValue/d1/t").await.is(403);
    session.subscribe(&what).await.is(403);
    session.revoke(&what).await.is(204);
}

#[tokio::test]
async fn check_16_revoking_is_checked_like_granting() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let unknown = json!({"sessionId": UNKNOWN_SESSION, "deviceId": "d1", "type": "deviceTwin"});
    let call = testbed.rest.delete("/grants").key(PRIMARY_KEY);
    call.json(&unknown).await.says(404, "No such sessionId");

    let foreign_type = json!({"deviceId": "d1", "type": "foo"});
    session
        .revoke(&foreign_type)
        .await
        .says(400, "unknown grant type");

    let without_key = testbed
        .rest
        .delete("/grants")
        .json(&session.request(&device_twin("d1")));
    without_key.await.is(401);
}

#[tokio::test]
async fn check_22_a_grant_reaches_no_other_device_and_no_other_kind() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.grant(&every_key("d1")).await.is(204);

    for what in [
        every_key("d2"),
        telemetry("d2", "t"),
        every_key("D1"),
        device_twin("d1"),
        connection_state("d1"),
        d2c_messages("d1"),
    ] {
        assert_not_granted(&session.subscribe(&what).await.body, &what);
    }
    for path in [
        "/lastValue/d2",
        "/lastValue/d2/t",
        "/deviceTwin/d1",
        "/connectionState/d1",
    ] {
        session.get(path).await.is(403);
    }
}

#[tokio::test]
async fn check_48_revocation_ends_delivery_but_not_the_connection() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed
        .following([telemetry("d1", "t"), d2c_messages("d1")])
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
    assert_eq!(socket.next_data().await.message(), json!({"t": 1}));

    session.revoke(&telemetry("d1", "t")).await.is(204);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2})))
        .await;
    assert_eq!(socket.next_data().await.message(), json!({"t": 2}));

    session.grant(&telemetry("d1", "t")).await.is(204);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 3})))
        .await;
    assert_eq!(socket.next_data().await.message(), json!({"t": 3}));

    session.subscribe(&telemetry("d1", "t")).await.is(204);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 4})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 4}));
}

#[tokio::test]
async fn revoking_every_key_takes_the_single_keys_too() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.grant(&telemetry("d1", "t")).await.is(204);
    session.grant(&telemetry("d2", "t")).await.is(204);
    session.revoke(&every_key("d1")).await.is(204);
    session.subscribe(&telemetry("d1", "t")).await.is(403);
    session.subscribe(&telemetry("d2", "t")).await.is(204);
}

#[tokio::test]
async fn revoking_one_key_leaves_what_another_grant_covers() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.grant(&every_key("d1")).await.is(204);
    session.grant(&telemetry("d1", "t")).await.is(204);
    session.revoke(&telemetry("d1", "t")).await.is(204);
    session.subscribe(&telemetry("d1", "t")).await.is(204);
}

#[track_caller]
fn assert_not_granted(body: &str, what: &Value) {
    assert_eq!(body, "subscription request not granted", "{what}");
}
