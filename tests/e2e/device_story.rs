//! From a device to a browser and back, nothing in between pretended: a device written with Microsoft's SDK, the stand-in
//! for the hubs, the relay, a real browser.

use serde_json::json;

use crate::harness::{PRIMARY_KEY, Testbed, react_client::ReactClient};

#[tokio::test]
async fn a_browser_sees_a_device_calls_it_configures_it_and_sees_it_die() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let device_id = "press-7";
    let mut device = testbed
        .devhub
        .connect_device(device_id, json!({"start": {"status": 202}}))
        .await;
    let mut page = ReactClient::in_browser(&testbed.rest.url, PRIMARY_KEY).await;
    let device_input = json!({"deviceId": device_id});
    let telemetry = json!({"deviceId": device_id, "telemetryKey": "temperature"});
    page.mount("temperature", "telemetry", telemetry).await;
    page.mount("online", "connectionState", device_input.clone())
        .await;
    page.mount("twin", "deviceTwin", device_input.clone()).await;
    let start = json!({"deviceId": device_id, "directMethodName": "start"});
    page.mount("start", "directMethod", start).await;
    page.mount("configure", "patchDesiredProperties", device_input)
        .await;

    // Telemetry, and with the first message the hub tells that the device is online.
    for temperature in [21, 22] {
        device
            .send(&json!({"send": {"body": json!({"temperature": temperature}).to_string()}}))
            .await;
        page.shows("temperature", |shown| shown["temperature"] == temperature)
            .await;
    }
    page.shows("online", |shown| *shown == true).await;

    // A method.
    let called = page
        .invoke("start", "invoke", json!([{"program": 3}]))
        .await;
    let answer = &called.answer()["value"];
    assert_eq!(answer["status"], 202, "{answer}");
    assert_eq!(answer["payload"], json!({"program": 3}));

    // A desired property reaches the device, and what the device makes of it reaches the page.
    page.invoke("configure", "patch", json!([{"telemetryInterval": 500}]))
        .await;
    page.shows("twin", |twin| {
        twin["properties"]["desired"]["telemetryInterval"] == 500
    })
    .await;
    let desired = loop {
        let line = device.next_line().await;
        if line["desired"]["telemetryInterval"].is_number() {
            break line["desired"]["telemetryInterval"].clone();
        }
    };
    device
        .send(&json!({"report": {"telemetryInterval": desired}}))
        .await;
    let twin = page
        .shows("twin", |twin| {
            twin["properties"]["reported"]["telemetryInterval"] == 500
        })
        .await;
    assert_eq!(twin["properties"]["desired"]["telemetryInterval"], 500);

    device.kill().await;
    page.shows("online", |shown| *shown == false).await;
    page.finish().await;
}
