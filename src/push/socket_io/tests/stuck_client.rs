//! Clients that do not read: nobody waits for them for long, and nothing leaves after a revocation.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{Client, PATIENCE, Server, WRITE_WAIT, device};
use crate::domain::grant::Grant;
use crate::domain::id::SessionId;
use crate::push::Settings;

/// More than the buffers of two sockets hold.
const STUFFING: usize = 24;
const STUFFING_BYTES: usize = 1 << 20;

/// Sends until the client's sockets are full.
async fn stuff(server: &Server) {
    let value = format!("\"{}\"", "x".repeat(STUFFING_BYTES));
    for _ in 0..STUFFING {
        server.send_value(&value).await;
    }
}

async fn revoke(server: &Server, session: SessionId) -> Duration {
    let start = Instant::now();
    timeout(
        PATIENCE,
        server
            .relay
            .revoke(session, device(), Grant::Telemetry(None)),
    )
    .await
    .unwrap()
    .unwrap();
    start.elapsed()
}

/// Waits until something was handed to the socket.
async fn writing(server: &Server, frames: u64) {
    let writing = async {
        while server.metrics.push.frames.get() < frames {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, writing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_cuts_a_stuck_websocket_and_nothing_follows() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut client: Client = server.connected(session).await;
    stuff(&server).await;
    writing(&server, 1).await;
    let elapsed = revoke(&server, session).await;
    assert!(
        elapsed < WRITE_WAIT + Duration::from_secs(2),
        "the revocation took {elapsed:?}"
    );
    server.all_gone().await;
    let received = client.rest().await.len();
    assert!(
        received < STUFFING,
        "all was delivered, so nothing was stuck"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_waits_for_a_client_that_reads() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut client = server.connected(session).await;
    for number in 0..200 {
        server.send(number).await;
    }
    let elapsed = revoke(&server, session).await;
    assert!(
        elapsed < WRITE_WAIT,
        "the revocation waited {elapsed:?} for a write that was not stuck"
    );
    server.send(1000).await;
    server.relay.delete_session(session).await;
    let rest = client.rest().await;
    assert_eq!(rest.last().map(String::as_str), Some("41"));
    assert!(
        rest.iter().all(|text| !text.contains("1000")),
        "an update left after its revocation"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_client_is_closed_in_time_and_delays_nobody() {
    let settings = Settings {
        write_timeout: Duration::from_secs(2),
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let stuck = server.subscribed_session().await;
    let _stuck = server.connected(stuck).await;
    let reading = server.subscribed_session().await;
    let mut client = server.connected(reading).await;
    let read = async {
        for _ in 0..STUFFING {
            assert!(client.text().await.len() > STUFFING_BYTES);
        }
    };
    tokio::join!(stuff(&server), read);
    let gone = async {
        while server.push.connection_count() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(server.metrics.push.slow_closes.get(), 1);
    server.send(7).await;
    assert_eq!(client.number().await, 7);
}

/// A poll by hand, on a socket that is not read.
async fn unread_poll(server: &Server, session: SessionId) -> TcpStream {
    let client = server.connected_polling(session).await;
    let path = client
        .url
        .split_once(&server.address.to_string())
        .unwrap()
        .1;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_cuts_a_stuck_poll_and_nothing_follows() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut socket = unread_poll(&server, session).await;
    // One payload that no socket buffer holds.
    server
        .send_value(&format!("\"{}\"", "x".repeat(STUFFING * STUFFING_BYTES)))
        .await;
    writing(&server, 1).await;
    let elapsed = revoke(&server, session).await;
    assert!(
        elapsed >= WRITE_WAIT,
        "the revocation did not wait for the write: {elapsed:?}"
    );
    assert!(
        elapsed < WRITE_WAIT + Duration::from_secs(2),
        "the revocation took {elapsed:?}"
    );
    server.all_gone().await;
    let mut received = Vec::new();
    // A reset ends it as well.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut received))
        .await
        .unwrap();
    assert!(
        received.len() < STUFFING * STUFFING_BYTES,
        "all was delivered, so nothing was stuck"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_poll_is_closed_in_time() {
    let settings = Settings {
        write_timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let session = server.subscribed_session().await;
    let _socket = unread_poll(&server, session).await;
    server
        .send_value(&format!("\"{}\"", "x".repeat(STUFFING * STUFFING_BYTES)))
        .await;
    server.all_gone().await;
    assert_eq!(server.metrics.push.slow_closes.get(), 1);
    assert!(!server.relay.has_session(session));
}
