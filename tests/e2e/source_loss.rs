//! The event hub goes away and comes back.

use relay_protocol::DeviceId;
use serde_json::json;

use crate::harness::{DeviceEvent, Injector, Testbed, telemetry};

#[tokio::test]
async fn events_flow_again_after_the_event_hub_restarted_empty() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "n")]).await;
    for n in 1..=20 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"n": n})))
            .await;
    }
    for n in 1..=20 {
        assert_eq!(socket.next_data().await.telemetry(), json!({"n": n}));
    }

    // The new one counts its sequence numbers from zero, far below those the relay has seen.
    testbed.devhub.restart().await;
    testbed.injector = Injector::connect(&testbed.devhub.event_hub_connection_string).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"n": 21})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"n": 21}));
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"n": 22})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"n": 22}));
}

#[tokio::test]
async fn without_its_event_hub_the_relay_still_answers_what_it_knows() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 1})).await;
    let (session, _socket) = testbed.following([telemetry("d1", "t")]).await;
    testbed.devhub.kill().await;
    let device_id = DeviceId::from("d1");
    let for_all = session.admin().last_value(&device_id, "t").await;
    let for_one = session.client().last_value(&device_id, "t").await;
    assert_eq!(for_all.expect("a value"), for_one.expect("a value"));
    // A loss after start-up does not change the published status.
    testbed.rest.get("/status").await.says(200, "OK");
}
