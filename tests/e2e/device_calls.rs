//! Calls to devices while no IoT Hub is configured.

use serde_json::json;

use crate::harness::{PRIMARY_KEY, Testbed, UNKNOWN_SESSION};

const DISABLED: &str = "IoT Hub API disabled, cannot invoke direct method";

#[tokio::test]
async fn calls_to_devices_say_that_the_hub_is_disabled() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let rest = &testbed.rest;
    let method = json!({"deviceId": "d1", "methodParams": {"methodName": "reboot"}});
    let patch = json!({"deviceId": "d1", "desiredPropertyPatch": {"interval": 5}});

    let call = rest.post("/directMethod").session(&session.id);
    call.json(&method).await.says(400, DISABLED);
    let call = rest
        .patch("/deviceTwinDesiredProperties")
        .session(&session.id);
    call.json(&patch).await.says(400, DISABLED);
}

#[tokio::test]
async fn calls_to_devices_need_a_session_which_a_key_does_not_replace() {
    let testbed = Testbed::start().await;
    let rest = &testbed.rest;
    let method = json!({"deviceId": "d1", "methodParams": {"methodName": "reboot"}});

    let call = rest.post("/directMethod").key(PRIMARY_KEY);
    call.json(&method).await.says(404, "No such sessionId");
    let call = rest.post("/directMethod").session(UNKNOWN_SESSION);
    call.json(&method).await.says(404, "No such sessionId");
    let call = rest.patch("/deviceTwinDesiredProperties").key(PRIMARY_KEY);
    call.json(&json!({"deviceId": "d1", "desiredPropertyPatch": {}}))
        .await
        .says(404, "No such sessionId");
}
