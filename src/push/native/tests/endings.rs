//! How connections end: by the client, by the relay, by time.

use std::time::Duration;

use futures_util::StreamExt as _;
use relay_protocol::native::Hello;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::harness::{PATIENCE, Server, roomy};
use crate::domain::session::SessionConstraints;
use crate::push::Settings;
use crate::relay::Authorization;

/// Times short enough to wait for.
fn quick() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(200),
        ping_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        close_timeout: Duration::from_millis(500),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_deleted_session_says_goodbye() {
    let server = Server::start().await;
    let (mut client, session) = server.following().await;
    server.relay.delete_session(session).await;
    let end = client.end().await;
    assert_eq!(end.close_code, Some(4410));
    let goodbye = end.goodbye.unwrap();
    assert_eq!(goodbye.code.as_str(), "sessionDeleted");
    assert!(goodbye.reconnect);
    server.connections_become(0).await;
}

#[tokio::test]
async fn a_session_whose_time_is_over_says_goodbye() {
    let server = Server::start().await;
    let (mut client, session) = server.following().await;
    let authorization = Authorization {
        constraints: SessionConstraints {
            expires_at_unix_ms: Some(server.relay.unix_ms() + 200),
            ..SessionConstraints::default()
        },
        ..Authorization::default()
    };
    server
        .relay
        .authorize(session, authorization)
        .await
        .unwrap();
    let end = client.end().await;
    assert_eq!(end.goodbye.unwrap().code.as_str(), "sessionExpired");
    assert_eq!(end.close_code, Some(4410));
}

#[tokio::test]
async fn a_drain_says_goodbye_after_what_was_sent_before() {
    let server = Server::start().await;
    let (mut client, _) = server.following().await;
    let mut silent = server.client().await;
    server.send(1).await;
    let shut_down = server.push.shut_down(PATIENCE);
    let ((), first, second) = tokio::join!(shut_down, client.end(), silent.end());
    for end in [first, second] {
        assert_eq!(end.close_code, Some(1001));
        assert_eq!(end.goodbye.unwrap().code.as_str(), "shuttingDown");
    }
    server.connections_become(0).await;
}

#[tokio::test]
async fn a_client_that_says_no_hello_is_closed() {
    let server = Server::with(quick(), roomy()).await;
    let mut client = server.client().await;
    let end = client.end().await;
    assert_eq!(end.close_code, Some(4408));
    assert_eq!(end.goodbye.unwrap().code.as_str(), "helloTimeout");
    server.connections_become(0).await;
}

#[tokio::test]
async fn a_client_that_answers_pings_stays() {
    let server = Server::with(quick(), roomy()).await;
    let mut client = server.client().await;
    client.hello(Hello::default()).await;
    for _ in 0..4 {
        let message = timeout(PATIENCE, client.socket.next()).await.unwrap();
        assert!(matches!(message, Some(Ok(Message::Ping(_)))), "{message:?}");
    }
    client.still_answers().await;
}

#[tokio::test]
async fn a_client_that_is_silent_is_closed_and_its_session_kept() {
    let server = Server::with(quick(), roomy()).await;
    let (mut client, session) = server.following().await;
    // Nothing is answered while nothing is read.
    server.connections_become(0).await;
    assert_eq!(server.metrics.push.ping_timeouts.get(), 1);
    let end = client.end().await;
    assert_eq!(end.goodbye.unwrap().code.as_str(), "pingTimeout");
    assert!(server.relay.has_session(session));
}

#[tokio::test]
async fn a_close_of_the_client_is_answered_in_kind() {
    let server = Server::start().await;
    let (mut client, _) = server.following().await;
    let frame = CloseFrame {
        code: 4000.into(),
        reason: "enough".into(),
    };
    client.socket.close(Some(frame)).await.unwrap();
    let end = client.end().await;
    assert_eq!((end.goodbye, end.close_code), (None, Some(4000)));
    server.connections_become(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_in_time_and_delays_nobody() {
    const STUFFING: usize = 24;
    let settings = Settings {
        write_timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    let server = Server::with(settings, roomy()).await;
    let (_stuck, _) = server.following().await;
    let (mut client, _) = server.following().await;
    let stuffing = format!("\"{}\"", "x".repeat(1 << 20));
    for _ in 0..STUFFING {
        server.send_telemetry("d1", &[("n", &stuffing)]).await;
    }
    let mut got = 0;
    while got < STUFFING {
        got += client.updates().await.updates.len();
    }
    server.connections_become(1).await;
    assert_eq!(server.metrics.push.slow_closes.get(), 1);
    server.send(7).await;
    assert_eq!(client.numbers().await, [7]);
}

/// A client that takes its time is not stuck: as long as it takes something, it has as long again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_is_not_stuck() {
    let settings = Settings {
        write_timeout: Duration::from_millis(300),
        ..quick()
    };
    let server = Server::with(settings, roomy()).await;
    let (mut client, _) = server.following().await;
    let stuffing = format!("\"{}\"", "x".repeat(24 << 20));
    server.send_telemetry("d1", &[("n", &stuffing)]).await;
    let tokio_tungstenite::MaybeTlsStream::Plain(stream) = client.socket.get_mut() else {
        panic!("it is a plain socket");
    };
    let start = std::time::Instant::now();
    let mut bytes = 0;
    let mut buffer = vec![0; 2 << 20];
    while bytes < 24 << 20 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let read = timeout(PATIENCE, tokio::io::AsyncReadExt::read(stream, &mut buffer));
        let read = read.await.unwrap().unwrap();
        assert!(read > 0, "the connection ended after {bytes} bytes");
        bytes += read;
    }
    assert!(
        start.elapsed() > Duration::from_millis(600),
        "nothing was slow"
    );
    assert_eq!(server.metrics.push.slow_closes.get(), 0);
}

#[tokio::test]
async fn a_session_can_be_deleted_while_its_client_is_away() {
    let server = Server::start().await;
    let (client, session) = server.following().await;
    drop(client);
    server.connections_become(0).await;
    server.relay.delete_session(session).await;
    assert!(!server.relay.has_session(session));
    server.still_serves().await;
}
