//! Invariant "no leak": once a call that takes something away has answered 2xx, not one frame of it is written.
//!
//! Telemetry `n` counts up without pause. When the answer arrives, the stand-in has accepted some number of events;
//! an event with a greater number was injected later, so its arrival would be a leak. Whole messages of the same
//! device go on arriving and show that the absence is not a stalled connection.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    DeviceEvent, PATIENCE, Session, Socket, Testbed, d2c_messages, every_key,
    packet::{Event, Packet},
    polling::Polling,
    socket::handshake,
    telemetry,
};

/// How often something is taken away while events flow.
const ROUNDS: usize = 10;

#[tokio::test]
async fn no_frame_of_a_revoked_grant_follows_the_answer_over_websocket() {
    let testbed = Testbed::start().await;
    let (session, mut socket) = testbed.following([d2c_messages("d1")]).await;
    let flood = testbed.injector.flood("d1", "n");
    for _ in 0..ROUNDS {
        session.follow(&telemetry("d1", "n")).await;
        telemetry_arrives(&mut socket).await;
        session.revoked(&telemetry("d1", "n")).await;
        no_telemetry_after(&mut socket, flood.accepted()).await;
    }
    flood.stop().await;
}

#[tokio::test]
async fn no_frame_of_every_key_follows_its_revocation() {
    let testbed = Testbed::start().await;
    let (session, mut socket) = testbed.following([d2c_messages("d1")]).await;
    let flood = testbed.injector.flood("d1", "n");
    for _ in 0..ROUNDS {
        session.granted(&telemetry("d1", "n")).await;
        session.follow(&every_key("d1")).await;
        telemetry_arrives(&mut socket).await;
        session.revoked(&every_key("d1")).await;
        no_telemetry_after(&mut socket, flood.accepted()).await;
    }
    flood.stop().await;
}

#[tokio::test]
async fn no_frame_of_an_ended_subscription_follows_the_answer() {
    let testbed = Testbed::start().await;
    let (session, mut socket) = testbed.following([d2c_messages("d1")]).await;
    session.granted(&every_key("d1")).await;
    let flood = testbed.injector.flood("d1", "n");
    for _ in 0..ROUNDS {
        session.subscribed(&telemetry("d1", "n")).await;
        telemetry_arrives(&mut socket).await;
        session.unsubscribed(&telemetry("d1", "n")).await;
        no_telemetry_after(&mut socket, flood.accepted()).await;

        session.all_subscribed(&[telemetry("d1", "n")]).await;
        telemetry_arrives(&mut socket).await;
        session.all_unsubscribed(&[telemetry("d1", "n")]).await;
        no_telemetry_after(&mut socket, flood.accepted()).await;
    }
    flood.stop().await;
}

#[tokio::test]
async fn no_frame_of_a_revoked_grant_follows_the_answer_over_polling() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let mut polling = Polling::connect(&testbed.rest, &session.id).await;
    session.follow(&d2c_messages("d1")).await;
    let flood = testbed.injector.flood("d1", "n");
    for _ in 0..ROUNDS {
        session.follow(&telemetry("d1", "n")).await;
        while !is_telemetry(&polling.next_data().await) {}
        session.revoked(&telemetry("d1", "n")).await;
        let accepted = flood.accepted();
        loop {
            let event = polling.next_data().await;
            assert_not_leaked(&event, accepted);
            if number(&event) > accepted {
                break;
            }
        }
    }
    flood.stop().await;
}

#[tokio::test]
async fn no_frame_follows_the_deletion_of_a_session() {
    let testbed = Testbed::start().await;
    let rest = testbed.rest.clone();
    let flood = testbed.injector.flood("d1", "n");
    for _ in 0..ROUNDS {
        let session = Session::create(&rest).await;
        let mut socket = session.connect().await;
        session.follow(&telemetry("d1", "n")).await;
        telemetry_arrives(&mut socket).await;
        session.deleted().await;
        let accepted = flood.accepted();
        loop {
            match socket.next_packet().await {
                Packet::Data { event, .. } => assert_not_leaked(&event, accepted),
                Packet::Disconnect { .. } => break,
                Packet::Ping => {}
                other => panic!("expected data or the end, got {other:?}"),
            }
        }
        assert!(!socket.ends_with_disconnect().await, "a second disconnect");
    }
    flood.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_poll_is_withdrawn_with_the_right_to_it() {
    let mut testbed = Testbed::start().await;
    let n = telemetry("d1", "n");
    for way in ["revoke", "unsubscribe", "unsubscribe in bulk"] {
        let session = testbed.session().await;
        let mut polling = Polling::connect(&testbed.rest, &session.id).await;
        session.follow(&d2c_messages("d2")).await;
        session.granted(&every_key("d1")).await;
        session.follow(&n).await;
        // Nobody polls, so these wait in the outbox.
        testbed.process("d1", json!({"n": 1, "way": way})).await;
        testbed.process("d1", json!({"n": 2, "now": way})).await;

        match way {
            "revoke" => session.revoked(&every_key("d1")).await,
            "unsubscribe" => session.unsubscribed(&n).await,
            _ => session.all_unsubscribed(std::slice::from_ref(&n)).await,
        }
        testbed
            .inject(DeviceEvent::telemetry("d2", &json!(way)))
            .await;
        assert_eq!(polling.next_data().await.message(), json!(way));
    }
}

#[tokio::test]
async fn what_waits_for_a_poll_is_withdrawn_with_the_session() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let mut polling = Polling::connect(&testbed.rest, &session.id).await;
    session.follow(&telemetry("d1", "n")).await;
    testbed.process("d1", json!({"n": 1})).await;
    session.deleted().await;
    let next = polling.next_packet().await;
    assert!(matches!(next, Packet::Disconnect { .. }), "{next:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_revocation_up_and_gets_nothing_of_it() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let query = format!("sessionId={}&EIO=4&transport=websocket", session.id);
    let mut stuck = handshake(&testbed.rest, &query).await.expect("upgraded");
    stuck.send(Message::text("40")).await.expect("sent");
    session.follow(&every_key("d1")).await;

    // More than the socket buffers of both sides take, so that a write does not end and the last ones are queued.
    let blob = "x".repeat(500_000);
    let last = 60;
    for n in 1..=last {
        let telemetry = json!({ "blob": blob, "n": n });
        testbed
            .inject(DeviceEvent::telemetry("d1", &telemetry))
            .await;
    }
    testbed
        .rest
        .last_value_becomes("d1", "n", &json!(last))
        .await;
    let asked = Instant::now();
    session.revoked(&every_key("d1")).await;
    assert!(
        asked.elapsed() < PATIENCE,
        "answered after {:?}",
        asked.elapsed()
    );

    // A write of it was under way and could not end, so the connection was cut.
    let read_on = async {
        while let Some(Ok(Message::Text(text))) = stuck.next().await {
            if let Packet::Data { event, .. } = Packet::parse(&text) {
                assert_ne!(number(&event), last, "a queued value was sent");
            }
        }
    };
    timeout(PATIENCE, read_on)
        .await
        .expect("the connection ends");
}

async fn telemetry_arrives(socket: &mut Socket) {
    socket.data_until(is_telemetry).await;
}

/// Reads on until whole messages show that the relay has gone past what it had when the answer came.
async fn no_telemetry_after(socket: &mut Socket, accepted: u64) {
    let events = socket.data_until(|event| number(event) > accepted).await;
    for event in &events {
        assert_not_leaked(event, accepted);
    }
}

#[track_caller]
fn assert_not_leaked(event: &Event, accepted: u64) {
    let leaked = is_telemetry(event) && number(event) > accepted;
    assert!(
        !leaked,
        "{} arrived though {accepted} were injected before",
        event.text
    );
}

fn is_telemetry(event: &Event) -> bool {
    event.text.contains("\"telemetry\"")
}

fn number(event: &Event) -> u64 {
    let body = if is_telemetry(event) {
        event.telemetry()
    } else {
        event.message()
    };
    body["n"].as_u64().expect("n is a count")
}
