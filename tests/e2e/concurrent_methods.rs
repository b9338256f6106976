//! Many direct methods at once: every caller gets the answer that is his, whoever else waits.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Testbed, direct_method, node_script::NodeScript};

const DEVICES: usize = 50;
const CALLS: usize = 200;
const SILENT: &str = "silent-device";

#[tokio::test]
async fn two_hundred_calls_of_fifty_devices_answered_in_random_order_each_get_their_own() {
    let testbed = Testbed::with_iot_hub(&[("HUBRELAY_IOT_HUB_TIER", "unlimited")]).await;
    let ids: Vec<String> = (0..DEVICES)
        .map(|index| format!("worker-{index}"))
        .chain([SILENT.to_owned()])
        .collect();
    let connection_strings = testbed.devhub.register(&ids).await;
    let input = json!({
        "ca": testbed.devhub.ca_pem(),
        "connectionStrings": connection_strings,
        "calls": CALLS,
    });
    let mut devices = NodeScript::start("devices.mjs", &[&input.to_string()]);
    assert_eq!(devices.next_line().await, json!({"connected": true}));

    let session = testbed.session().await;
    for device_id in &ids {
        session.granted(&direct_method(device_id, "work")).await;
    }

    // The device that never answers is called first.
    let call = |device_id: &str, payload: Value| {
        let call = testbed
            .rest
            .post("/directMethod")
            .session(&session.id)
            .json(&json!({
                "deviceId": device_id,
                "methodParams": {"methodName": "work", "payload": payload},
            }));
        async move { call.await }
    };
    let mut silent = tokio::spawn(call(SILENT, json!({"silent": true})));
    tokio::select! {
        called = devices.next_line() => assert_eq!(called["called"]["deviceId"], SILENT),
        answer = &mut silent => panic!("{answer:?}"),
    }

    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let device_id = ids[number % DEVICES].clone();
        let call = call(&device_id, json!({"number": number}));
        calls.spawn(async move { (number, device_id, call.await) });
    }
    // All are with their devices before the first is answered.
    let mut come = BTreeMap::new();
    let answered = loop {
        let line = devices.next_line().await;
        if let Some(answered) = line.get("answered") {
            break answered.clone();
        }
        let payload = &line["called"]["payload"];
        come.insert(
            payload["number"].as_u64(),
            line["called"]["deviceId"].clone(),
        );
    };
    assert_eq!(come.len(), CALLS);
    let order: Vec<u64> = answered
        .as_array()
        .expect("a list")
        .iter()
        .map(|payload| payload["number"].as_u64().expect("a number"))
        .collect();
    assert!(!order.is_sorted(), "the devices answer in another order");

    while let Some(done) = calls.join_next().await {
        let (number, device_id, answer): (usize, String, Answer) =
            done.expect("the caller does not panic");
        let answer = answer.is(200).json();
        assert_eq!(
            answer,
            json!({"status": 200, "payload": {"deviceId": device_id, "payload": {"number": number}}}),
        );
    }
    assert!(!silent.is_finished(), "nobody has answered this one");

    // It ends with its device.
    devices.finish().await;
    let answer = (&mut silent).await.expect("the caller does not panic");
    assert_eq!(answer.status, 404, "{}", answer.body);
}
