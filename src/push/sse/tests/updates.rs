//! What a stream says.

use std::time::{Duration, Instant};

use super::harness::{EVERY_KEY, Server};
use crate::domain::grant::Grant;
use crate::push::Settings;
use crate::telemetry::metrics::TransportKind;

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_and_goes_on_with_every_change() {
    let server = Server::start().await;
    server.settle(1).await;
    let session = server.session([EVERY_KEY, Grant::ConnectionState]).await;
    let query = format!("sessionId={session}&telemetry=d1/n&connectionState=d1");
    let mut events = server.open(server.get(&query)).await;
    let snapshot = events.next_of("snapshot").await;
    assert_eq!(snapshot.data["sessionId"], session.to_string());
    assert_eq!(snapshot.data["snapshot"][0]["deviceId"], "d1");
    assert_eq!(snapshot.data["snapshot"][0]["telemetry"]["n"]["value"], 1);
    assert_eq!(snapshot.data.get("recovered"), None);
    assert_eq!(snapshot.data.get("refused"), None);
    assert_eq!(snapshot.retry.as_deref(), Some("2000"));
    assert!(snapshot.id().starts_with(&format!("{session}.")));
    server.send_telemetry(&[("n", "1.50"), ("m", "0")]).await;
    let updates = events.next_of("updates").await;
    let update = r#"{"deviceId":"d1","telemetry":{"n":1.50},"timestamp":"2024-05-01T10:00:00.000Z","receivedAt":"#;
    assert!(updates.text.contains(update), "{}", updates.text);
    assert_eq!(updates.retry, None);
    let sequence = updates.data["sequence"].as_u64().unwrap();
    assert!(updates.id().ends_with(&format!(".{sequence}")));
    server.send(3).await;
    let next = events.next_of("updates").await;
    assert_eq!(next.data["sequence"], sequence + 1);
}

#[tokio::test]
async fn line_ends_within_a_value_arrive_as_what_they_are() {
    let server = Server::start().await;
    let (_, mut events) = server.following().await;
    let value = "{\n \"a\": [1,\r\n2]}";
    server.send_telemetry(&[("n", value)]).await;
    let updates = events.next_of("updates").await;
    assert_eq!(updates.data["updates"][0]["telemetry"]["n"]["a"][1], 2);
}

#[tokio::test]
async fn values_that_do_not_change_can_be_left_out() {
    let server = Server::start().await;
    let session = server.session([EVERY_KEY]).await;
    let query = format!("sessionId={session}&telemetry=d1&changesOnly=true");
    let mut events = server.open(server.get(&query)).await;
    events.next_of("snapshot").await;
    for number in [1, 1, 1, 2] {
        server.send(number).await;
    }
    assert_eq!(events.numbers_until(2).await, [1, 2]);
}

#[tokio::test]
async fn values_that_come_too_fast_can_be_left_out() {
    let server = Server::start().await;
    let session = server.session([EVERY_KEY]).await;
    let query = format!("sessionId={session}&telemetry=d1&minIntervalMs=400");
    let mut events = server.open(server.get(&query)).await;
    events.next_of("snapshot").await;
    let begin = Instant::now();
    for number in 1..=100 {
        server.send(number).await;
    }
    let numbers = events.numbers_until(100).await;
    assert!(begin.elapsed() >= Duration::from_millis(400), "{numbers:?}");
    assert!(numbers.len() < 50, "{numbers:?}");
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let settings = Settings {
        ping_interval: Duration::from_millis(50),
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let (_, mut events) = server.following().await;
    for _ in 0..3 {
        events.next_comment().await;
    }
    server.send(7).await;
    assert_eq!(events.numbers_until(7).await, [7]);
}

#[tokio::test]
async fn a_client_that_is_gone_is_noticed_and_its_place_given_back() {
    let server = Server::start().await;
    let gauge = || {
        let kind = TransportKind::ServerSentEvents;
        server.metrics.push.connections.get(kind).get()
    };
    let (session, events) = server.following().await;
    assert_eq!((gauge(), server.push.connection_count()), (1, 1));
    drop(events);
    server.connections_become(0).await;
    assert_eq!(gauge(), 0);
    assert!(server.relay.has_session(session), "it may come back");
}

#[tokio::test]
async fn many_streams_get_the_same_each() {
    let server = Server::start().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(server.following().await);
    }
    for number in 1..=50 {
        server.send(number).await;
    }
    let expected: Vec<_> = (1..=50).collect();
    for (_, events) in &mut streams {
        assert_eq!(events.numbers_until(50).await, expected);
    }
}
