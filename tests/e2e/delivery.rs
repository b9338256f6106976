//! Order, completeness, and clients that are slow.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    DeviceEvent, PATIENCE, Testbed, every_key,
    packet::{Event, Packet},
    socket::handshake,
    telemetry,
};

#[tokio::test]
async fn updates_of_one_device_keep_their_order_and_none_is_missing() {
    let testbed = Testbed::start().await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(testbed.following([telemetry("d1", "n")]).await);
    }
    let flood = testbed.injector.flood("d1", "n");
    for (_, socket) in &mut sockets {
        for n in 1..=500 {
            assert_eq!(count(&socket.next_data().await), n);
        }
    }
    flood.stop().await;
}

#[tokio::test]
async fn devices_on_different_partitions_each_keep_their_order() {
    let mut testbed = Testbed::start().await;
    let devices = ["d1", "d2", "d3", "d4", "d5"];
    let (_, mut socket) = testbed.following(devices.map(every_key)).await;
    for n in 1..=50 {
        for device in devices {
            testbed
                .inject(DeviceEvent::telemetry(device, &json!({ "n": n })))
                .await;
        }
    }
    let mut last_by_device = std::collections::HashMap::new();
    for _ in 0..50 * devices.len() {
        let event = socket.next_data().await;
        let last = last_by_device
            .entry(event.device_id().to_owned())
            .or_insert(0);
        *last += 1;
        assert_eq!(count(&event), *last, "{}", event.device_id());
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_gets_the_newest_value_when_it_goes_on() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let (_, mut witness) = testbed.following([telemetry("d1", "n")]).await;
    let query = format!("sessionId={}&EIO=4&transport=websocket", session.id);
    let mut slow = handshake(&testbed.rest, &query).await.expect("upgraded");
    slow.send(Message::text("40")).await.expect("sent");
    session.follow(&every_key("d1")).await;

    // Far more than the outbox and the socket buffers hold together.
    let blob = "x".repeat(500_000);
    let last = 80;
    for n in 1..=last {
        testbed
            .inject(DeviceEvent::telemetry(
                "d1",
                &json!({ "n": n, "blob": blob }),
            ))
            .await;
        // The slow one delays nobody.
        assert_eq!(count(&witness.next_data().await), n);
    }

    let mut previous = 0;
    let mut received = 0;
    while previous < last {
        let message = timeout(PATIENCE, slow.next()).await.expect("more arrives");
        let text = message
            .expect("the connection lives")
            .expect("a frame")
            .into_text()
            .expect("text");
        if let Packet::Data { event, .. } = Packet::parse(&text) {
            let n = count(&event);
            assert!(n > previous, "{n} after {previous}");
            previous = n;
            received += 1;
        }
    }
    assert!(
        received < last,
        "nothing was conflated, so the test proves nothing"
    );
}

fn count(event: &Event) -> u64 {
    let Value::Number(n) = &event.telemetry()["n"] else {
        panic!("no n in {}", event.text);
    };
    n.as_u64().expect("n is a count")
}
