//! Clients that break Engine.IO or Socket.IO.

use serde_json::json;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::harness::{
    DeviceEvent, Socket, Testbed, packet::Packet, polling::Polling, socket::handshake, telemetry,
};

#[tokio::test]
async fn frames_that_are_no_packets_harm_only_their_sender() {
    let mut testbed = Testbed::start().await;
    let (_, mut witness) = testbed.following([telemetry("d1", "t")]).await;
    for message in [
        Message::binary(vec![0, 1, 2, 3]),
        Message::binary(vec![]),
        Message::text(""),
        Message::text("nonsense"),
        Message::text("4"),
        Message::text("49"),
        Message::text("42not json"),
        Message::text("42[\"data\""),
        Message::text("451-[\"data\",{\"_placeholder\":true,\"num\":0}]"),
        Message::text("4/////////"),
        Message::text("0{}"),
        Message::text(format!("42[\"data\",{}", "[".repeat(50_000))),
        Message::text("x".repeat(500_000)),
    ] {
        let (_, socket) = testbed.following([telemetry("d1", "t")]).await;
        socket.send_message(message).await;
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(witness.next_data().await.telemetry(), json!({"t": 1}));
    testbed.still_serves().await;
}

#[tokio::test]
async fn a_frame_beyond_the_announced_payload_ends_the_connection() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.connected_session().await;
    socket.send(&"x".repeat(8 << 20)).await;
    socket.ended().await;
    testbed.still_serves().await;
}

#[tokio::test]
async fn joining_twice_does_not_double_events() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "t")]).await;
    socket.join("/").await;
    for n in 0..2 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"t": n})))
            .await;
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match socket.next_packet().await {
            Packet::Data { event, .. } => seen.push(event.telemetry()["t"].clone()),
            Packet::Admitted { .. } | Packet::Ping => {}
            // Refusing the second join by ending the connection would be correct, too.
            Packet::Refused { .. }
            | Packet::Disconnect { .. }
            | Packet::Close
            | Packet::TransportEnd => return,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(seen, [json!(0), json!(1)]);
}

#[tokio::test]
async fn polling_requests_that_cannot_be_served_get_engine_io_errors() {
    let testbed = Testbed::start().await;
    let rest = &testbed.rest;
    let unknown_transport = rest.get("/socket.io/?EIO=4&transport=pigeon").await.is(400);
    assert_eq!(unknown_transport.json()["code"], 0);
    let unknown_sid = rest
        .get("/socket.io/?EIO=4&transport=polling&sid=nobody")
        .await
        .is(400);
    assert_eq!(unknown_sid.json()["code"], 1);
    let bad_handshake = rest
        .post("/socket.io/?EIO=4&transport=polling")
        .body("40")
        .await
        .is(400);
    assert_eq!(bad_handshake.json()["code"], 2);
    for answer in [unknown_transport, unknown_sid, bad_handshake] {
        assert!(!answer.header("access-control-allow-origin").is_empty());
    }
}

#[tokio::test]
async fn payloads_that_are_no_packets_harm_only_their_sender() {
    let mut testbed = Testbed::start().await;
    for payload in [
        "",
        "nonsense",
        "\u{1e}\u{1e}\u{1e}",
        "4",
        "b",
        "bAQID",
        "42[\"data\"",
    ] {
        let session = testbed.session().await;
        let polling = Polling::connect(&testbed.rest, &session.id).await;
        let answer = polling.post(payload).await;
        assert!(answer.status < 500, "{payload:?}: {answer:?}");
    }
    testbed.still_serves().await;
}

#[tokio::test]
async fn an_upgrade_needs_a_transport_that_exists_and_a_probe() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let query = format!(
        "sessionId={}&EIO=4&transport=websocket&sid=nobody",
        session.id
    );
    match handshake(&testbed.rest, &query).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status().as_u16(), 400),
        Err(other) => panic!("expected an HTTP answer, got {other}"),
        Ok(_) => panic!("a transport that does not exist was upgraded"),
    }

    let mut polling = Polling::connect(&testbed.rest, &session.id).await;
    session.follow(&telemetry("d1", "t")).await;
    let unproven = polling.open_second_transport().await;
    drop(unproven);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(polling.next_data().await.telemetry(), json!({"t": 1}));
}

#[tokio::test]
async fn a_transport_that_joins_no_namespace_gets_no_events() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let socket = Socket::open(&testbed.rest, &session.id).await;
    session.follow(&telemetry("d1", "t")).await;
    testbed.process("d1", json!({"t": 1})).await;
    assert!(!socket.has_unread_packets());
}
