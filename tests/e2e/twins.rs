//! Device twins without IoT Hub: what twin events alone allow.

use serde_json::json;

use crate::harness::{DeviceEvent, PRIMARY_KEY, Testbed, device_twin};

#[tokio::test]
async fn a_replaced_twin_is_pushed_whole() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([device_twin("d1")]).await;
    let properties = json!({
        "desired": {"interval": 55, "$version": 2},
        "reported": {"firmware": "1.2.0", "$version": 7},
    });
    let body = json!({"deviceId": "d1", "version": 9, "tags": {}, "properties": properties});
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &body))
        .await;
    let twin = socket.next_data().await.device_twin();
    assert_eq!(twin["version"], 9);
    assert_eq!(twin["properties"], properties);
}

#[tokio::test]
async fn a_patch_of_an_unknown_twin_is_pushed_with_empty_missing_sections() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([device_twin("d1")]).await;
    let patch =
        json!({"version": 3, "properties": {"reported": {"firmware": "1.2.0", "$version": 2}}});
    testbed
        .inject(DeviceEvent::twin_change("d1", "updateTwin", &patch))
        .await;
    let twin = socket.next_data().await.device_twin();
    assert_eq!(twin["version"], 3);
    assert_eq!(twin["properties"]["reported"]["firmware"], "1.2.0");
    assert_eq!(twin["properties"]["desired"], json!({}));
}

#[tokio::test]
async fn a_twin_nobody_knows_is_answered_as_documented() {
    let testbed = Testbed::start().await;
    let answer = testbed
        .rest
        .get("/deviceTwin/d1")
        .key(PRIMARY_KEY)
        .await
        .is(400);
    assert!(
        answer.body.starts_with("IoT Hub API disabled"),
        "{}",
        answer.body
    );
}
