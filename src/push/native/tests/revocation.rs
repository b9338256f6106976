//! Nothing leaves after a revocation, and the client hears of it.

use std::time::{Duration, Instant};

use relay_protocol::native::{ClientMessage, EndReason, Ended, Selector, ServerMessage, Values};

use super::harness::{
    EVERY_KEY, PATIENCE, Server, WRITE_WAIT, device, every_key, key, keys, numbers, whole,
};
use crate::domain::grant::Grant;
use crate::relay::{Authorization, TimedGrant};

/// More than the buffers of two sockets hold.
const STUFFING: usize = 24;

fn stuffing() -> String {
    format!("\"{}\"", "x".repeat(1 << 20))
}

async fn ended(client: &mut super::harness::Client) -> Ended {
    match client.message().await {
        ServerMessage::Ended(ended) => ended,
        other => panic!("{other:?} instead of an end"),
    }
}

#[tokio::test]
async fn a_revocation_names_the_subscriptions_that_it_ends() {
    let server = Server::start().await;
    let (mut client, session) = server
        .granted([key("a"), key("b"), Grant::ConnectionState])
        .await;
    client
        .subscribe([
            keys("d1", ["a", "b"]).into(),
            whole("d1", Values::ConnectionState).into(),
        ])
        .await;
    server.revoke(session, key("a")).await;
    let first = ended(&mut client).await;
    assert_eq!(first.subscriptions, [keys("d1", ["a"])]);
    assert_eq!(first.reason, EndReason::Revoked);
    server.revoke(session, Grant::ConnectionState).await;
    let second = ended(&mut client).await;
    assert_eq!(second.subscriptions, [whole("d1", Values::ConnectionState)]);
    server.send_telemetry("d1", &[("a", "1"), ("b", "2")]).await;
    let updates = client.updates().await;
    let relay_protocol::Update::Telemetry(values) = &updates.updates[0].update else {
        panic!("{updates:?}");
    };
    assert_eq!(values.keys().collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn keys_and_patterns_of_a_device_end_in_one_selector() {
    let server = Server::start().await;
    let (mut client, session) = server.granted([EVERY_KEY]).await;
    let wanted = Selector {
        device_id: "d1".into(),
        module_id: None,
        values: Values::Telemetry {
            keys: vec!["a".to_owned(), "b".to_owned()],
            patterns: vec!["t*".to_owned()],
        },
    };
    client
        .subscribe([wanted.clone().into(), every_key("d1").into()])
        .await;
    server.revoke(session, EVERY_KEY).await;
    let mut subscriptions = ended(&mut client).await.subscriptions;
    subscriptions.sort_by_key(|selector| serde_json::to_string(selector).unwrap());
    assert_eq!(subscriptions, [wanted, every_key("d1")]);
}

#[tokio::test]
async fn what_runs_out_ends_like_what_is_revoked() {
    let server = Server::start().await;
    let (mut client, session) = server.granted([]).await;
    let authorization = Authorization {
        grants: vec![TimedGrant {
            device: device("d1"),
            grant: EVERY_KEY,
            expires_at_unix_ms: Some(server.relay.unix_ms() + 300),
        }],
        ..Authorization::default()
    };
    server
        .relay
        .authorize(session, authorization)
        .await
        .unwrap();
    let subscribed = client.subscribe([every_key("d1").into()]).await;
    assert_eq!(subscribed.refused, []);
    server.send(1).await;
    assert_eq!(client.numbers().await, [1]);
    let ended = ended(&mut client).await;
    assert_eq!(ended.reason, EndReason::Expired);
    assert_eq!(ended.subscriptions, [every_key("d1")]);
    server.send(2).await;
    client.still_answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_no_number_follows_a_revocation() {
    let server = Server::start().await;
    for _ in 0..20 {
        let (mut client, session) = server.granted([EVERY_KEY]).await;
        client.subscribe([every_key("d1").into()]).await;
        for number in 0..50 {
            server.send(number).await;
        }
        server.revoke(session, EVERY_KEY).await;
        server.send(1000).await;
        server.relay.delete_session(session).await;
        let end = client.end().await;
        assert_eq!(end.close_code, Some(4410));
        for message in &end.messages {
            if let ServerMessage::Updates(updates) = message {
                assert!(!numbers(updates).contains(&1000), "{updates:?}");
            }
        }
    }
}

/// Waits until more than `frames` were handed to the socket.
async fn writing_after(server: &Server, frames: u64) {
    let is_writing = async {
        while server.metrics.push.frames.get() == frames {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_writing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_cuts_a_client_that_does_not_read_its_updates() {
    let server = Server::start().await;
    let (mut client, session) = server.following().await;
    let frames = server.metrics.push.frames.get();
    for _ in 0..STUFFING {
        server.send_telemetry("d1", &[("n", &stuffing())]).await;
    }
    writing_after(&server, frames).await;
    let start = Instant::now();
    server.revoke(session, EVERY_KEY).await;
    let elapsed = start.elapsed();
    assert!(elapsed < WRITE_WAIT + Duration::from_secs(2), "{elapsed:?}");
    server.connections_become(0).await;
    let end = client.end().await;
    assert_eq!((end.goodbye, end.close_code), (None, None));
}

/// A snapshot holds values as updates do, so a revocation waits for it as it waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_cuts_a_client_that_does_not_read_its_snapshot() {
    let server = Server::start().await;
    let (mut client, session) = server.granted([EVERY_KEY]).await;
    for number in 0..STUFFING {
        let key = format!("key-{number}");
        server.send_telemetry("d1", &[(&*key, &stuffing())]).await;
    }
    let frames = server.metrics.push.frames.get();
    let requests = [
        ClientMessage::LastValues {
            id: client.next_id(),
            of: vec![every_key("d1")],
        },
        ClientMessage::Ping {
            id: client.next_id(),
        },
    ];
    for request in &requests {
        client.send(request).await;
    }
    writing_after(&server, frames).await;
    let start = Instant::now();
    server.revoke(session, EVERY_KEY).await;
    assert!(start.elapsed() >= WRITE_WAIT, "the snapshot did not hold");
    server.connections_become(0).await;
    assert_eq!(
        server.metrics.push.frames.get(),
        frames + 1,
        "the ping was read before the snapshot was written"
    );
    let end = client.end().await;
    assert_eq!(end.messages, []);
}
