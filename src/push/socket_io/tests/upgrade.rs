//! From long-polling to a WebSocket.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::harness::{Client, PATIENCE, PollingClient, Server, number};
use crate::domain::id::SessionId;
use crate::push::Settings;
use crate::telemetry::metrics::TransportKind;

async fn probe(server: &Server, client: &PollingClient, session: SessionId) -> Client {
    let mut websocket = server
        .websocket(&format!("sid={}&sessionId={session}", client.sid))
        .await;
    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    websocket
}

#[tokio::test]
async fn nothing_is_lost_doubled_or_reordered_by_an_upgrade() {
    const UPDATES: usize = 3000;
    let server = Server::start(Settings::default()).await;
    for round in 0..5 {
        let session = server.subscribed_session().await;
        let client = server.connected_polling(session).await;
        let sending = async {
            for number in 0..UPDATES {
                server.send(number).await;
                if number % 50 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let receiving = async {
            let mut numbers = Vec::new();
            let mut take = |packets: Vec<String>| {
                numbers.extend(
                    packets
                        .iter()
                        .filter(|packet| *packet != "6")
                        .map(|packet| number(packet)),
                );
            };
            for _ in 0..round {
                take(client.packets().await);
            }
            // As clients do: the last poll goes on while the WebSocket is probed, and `5` follows only after its end.
            let (websocket, packets) =
                tokio::join!(probe(&server, &client, session), client.packets());
            take(packets);
            let mut websocket = websocket;
            websocket.send("5").await;
            while numbers.len() < UPDATES {
                numbers.push(websocket.number().await);
            }
            numbers
        };
        let ((), numbers) = timeout(PATIENCE, async { tokio::join!(sending, receiving) })
            .await
            .unwrap();
        assert_eq!(numbers, (0..UPDATES).collect::<Vec<_>>(), "round {round}");
        assert_eq!(client.poll().await.0, 400, "the connection is still polled");
        server.relay.delete_session(session).await;
    }
    server.all_gone().await;
}

#[tokio::test]
async fn the_open_poll_is_released_by_the_probe() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;
    let (mut websocket, released) = tokio::join!(probe(&server, &client, session), client.poll());
    assert_eq!(released, (200, "6".to_owned()));
    assert_eq!(
        client.poll().await,
        (200, "6".to_owned()),
        "a later poll must not be held either"
    );
    websocket.send("5").await;
    server.send(1).await;
    assert_eq!(websocket.number().await, 1);
}

#[tokio::test]
async fn a_connect_may_come_before_or_after_the_upgrade() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let client = server.polling(session).await;
    let mut websocket = probe(&server, &client, session).await;
    websocket.send("5").await;
    websocket.send("40").await;
    assert!(websocket.text().await.starts_with("40{"));
    server.send(1).await;
    assert_eq!(websocket.number().await, 1);
    let connections = &server.metrics.push.connections;
    assert_eq!(connections.get(TransportKind::SocketIoPolling).get(), 0);
    assert_eq!(connections.get(TransportKind::SocketIoWebSocket).get(), 1);
    server.relay.delete_session(session).await;
    assert_eq!(websocket.rest().await, ["41"]);
    server.all_gone().await;
}

#[tokio::test]
async fn a_failed_upgrade_leaves_polling_as_it_was() {
    let settings = Settings {
        upgrade_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;

    let mut nonsense = server.websocket(&format!("sid={}", client.sid)).await;
    nonsense.send("4hello").await;
    assert!(
        !matches!(nonsense.0.next().await, Some(Ok(_))),
        "it was not closed"
    );
    server.send(1).await;
    assert_eq!(number(&client.packets().await[0]), 1);

    let mut forgotten = probe(&server, &client, session).await;
    assert!(
        forgotten.rest().await.is_empty(),
        "it was not closed in time"
    );
    server.send(2).await;
    assert_eq!(number(&client.packets().await[0]), 2);

    let mut upgraded = probe(&server, &client, session).await;
    upgraded.send("5").await;
    server.send(3).await;
    assert_eq!(upgraded.number().await, 3);
}

#[tokio::test]
async fn a_second_websocket_is_closed() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;
    let mut first = probe(&server, &client, session).await;
    let mut second = server.websocket(&format!("sid={}", client.sid)).await;
    assert!(second.rest().await.is_empty());
    first.send("5").await;
    server.send(1).await;
    assert_eq!(first.number().await, 1);
    let mut late = server.websocket(&format!("sid={}", client.sid)).await;
    assert!(late.rest().await.is_empty());
    server.send(2).await;
    assert_eq!(first.number().await, 2);
}
