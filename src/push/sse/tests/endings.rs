//! Revocation, goodbye, and clients that do not read.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::harness::{EVERY_KEY, KEY, PATIENCE, Server, key};
use crate::domain::device_message::Content;
use crate::domain::grant::Grant;
use crate::domain::id::SessionId;
use crate::push::Settings;

#[tokio::test]
async fn nothing_follows_a_revocation_but_the_word_of_it() {
    let server = Server::start().await;
    let session = server.session([key("n"), Grant::ConnectionState]).await;
    let query = format!("sessionId={session}&telemetry=d1/n&connectionState=d1");
    let mut events = server.open(server.get(&query)).await;
    events.next_of("snapshot").await;
    for number in 1..=20 {
        server.send(number).await;
    }
    server.revoke(session, key("n")).await;
    for number in 21..=40 {
        server.settle(number).await;
    }
    server
        .send_content(Content::ConnectionState {
            connected: true,
            sequence: None,
        })
        .await;
    let mut event = events.next().await.unwrap();
    while event.name == "updates" {
        for update in event.data["updates"].as_array().unwrap() {
            assert!(update["telemetry"]["n"].as_u64().unwrap() <= 20, "{update}");
        }
        event = events.next().await.unwrap();
    }
    assert_eq!(event.name, "ended");
    assert_eq!(event.id, None);
    assert_eq!(event.data["reason"], "revoked");
    let ended = json!([{"type": "telemetry", "deviceId": "d1", "telemetryKeys": ["n"]}]);
    assert_eq!(event.data["subscriptions"], ended);
    let updates = events.next_of("updates").await;
    assert_eq!(updates.data["updates"][0]["connectionState"], true);
}

#[tokio::test]
async fn a_deleted_session_says_goodbye_and_ends_in_order() {
    let server = Server::start().await;
    let (session, mut events) = server.following().await;
    server.relay.delete_session(session).await;
    let goodbye = events.next_of("goodbye").await;
    assert_eq!(goodbye.data["code"], "sessionDeleted");
    assert_eq!(goodbye.data["reconnect"], true);
    assert_eq!((goodbye.id, goodbye.retry), (None, None));
    assert_eq!(events.next().await, None);
    server.connections_become(0).await;
}

#[tokio::test]
async fn a_stream_that_is_replaced_is_asked_to_stay_away() {
    let server = Server::start().await;
    let (session, mut first) = server.following().await;
    let request = server.get(&format!("sessionId={session}&telemetry=d1"));
    let mut second = server.open(request).await;
    second.next_of("snapshot").await;
    let goodbye = first.next_of("goodbye").await;
    assert_eq!(goodbye.data["code"], "sessionReplaced");
    assert_eq!(goodbye.data["reconnect"], false);
    assert_eq!(goodbye.retry.as_deref(), Some("60000"));
    assert_eq!(first.next().await, None);
    server.send(1).await;
    assert_eq!(second.numbers_until(1).await, [1]);
}

#[tokio::test]
async fn a_drain_sends_what_waits_then_goodbye() {
    let server = Server::start().await;
    let (_, mut events) = server.following().await;
    for number in 1..=5 {
        server.settle(number).await;
    }
    let push = server.push.clone();
    let drained = tokio::spawn(async move { push.shut_down(PATIENCE).await });
    assert_eq!(events.numbers_until(5).await, [1, 2, 3, 4, 5]);
    let goodbye = events.next_of("goodbye").await;
    assert_eq!(goodbye.data["code"], "shuttingDown");
    assert_eq!(events.next().await, None);
    timeout(PATIENCE, drained).await.unwrap().unwrap();
    let request = server.get("telemetry=d1").header("Shared-Access-Key", KEY);
    assert_eq!(server.refusal(request).await.0, 503);
}

/// A client that asks, and then reads no more than the beginning.
async fn stuck(server: &Server, session: SessionId) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut client = socket.connect(server.address).await.unwrap();
    let request =
        format!("GET /events?sessionId={session}&telemetry=d1 HTTP/1.1\r\nHost: relay\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 64];
    client.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"));
    client
}

/// Sends one update that is larger than all buffers on the way, and waits until it is being written.
async fn flood(server: &Server) {
    let large = format!("\"{}\"", "x".repeat(24 << 20));
    server.send_telemetry(&[("large", &large)]).await;
    let writing = async {
        while server.metrics.push.writes.get() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, writing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_cuts_a_client_that_does_not_read() {
    let server = Server::start().await;
    let session = server.session([EVERY_KEY]).await;
    let mut client = stuck(&server, session).await;
    flood(&server).await;
    server.revoke(session, EVERY_KEY).await;
    server.connections_become(0).await;
    // What was in the buffers is all that comes, and no end in order.
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut bytes))
        .await
        .unwrap();
    assert!(
        bytes.len() < 24 << 20,
        "all was delivered, so nothing was stuck"
    );
    assert!(!bytes.ends_with(b"0\r\n\r\n"));
    let witness = server.session([key("n")]).await;
    let request = server.get(&format!("sessionId={witness}&telemetry=d1/n"));
    let mut other = server.open(request).await;
    other.next_of("snapshot").await;
    server.send(1).await;
    assert_eq!(other.numbers_until(1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_let_go_and_nobody_else_notices() {
    let settings = Settings {
        write_timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let session = server.session([EVERY_KEY]).await;
    let _client = stuck(&server, session).await;
    let witness = server.session([key("n")]).await;
    let request = server.get(&format!("sessionId={witness}&telemetry=d1/n"));
    let mut other = server.open(request).await;
    other.next_of("snapshot").await;
    flood(&server).await;
    server.send(1).await;
    assert_eq!(other.numbers_until(1).await, [1]);
    server.connections_become(1).await;
    assert_eq!(server.metrics.push.slow_closes.get(), 1);
    server.send(2).await;
    assert_eq!(other.numbers_until(2).await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_that_reads_at_all_is_kept() {
    let settings = Settings {
        write_timeout: Duration::from_secs(1),
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let session = server.session([EVERY_KEY]).await;
    let mut client = stuck(&server, session).await;
    flood(&server).await;
    let mut buffer = vec![0; 1 << 20];
    // Twice as long as it may take without any progress.
    for _ in 0..20 {
        let read = client.read_exact(&mut buffer);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.push.connection_count(), 1);
    assert_eq!(server.metrics.push.slow_closes.get(), 0);
}
