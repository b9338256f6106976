//! One of the fixture's endpoints with the clients of its suite, and the cases that the suites of Engine.IO and
//! Socket.IO share.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};

use super::fixture::Fixture;
use super::harness::{Client, PATIENCE, PollingClient, answer};
use crate::push::Push;

/// An endpoint of a fixture of its own.
#[derive(Debug)]
pub(super) struct Endpoint {
    fixture: Fixture,
    path: &'static str,
    http: reqwest::Client,
}

impl Endpoint {
    /// `/engine.io/`, where every message comes back.
    pub(super) fn engine_io(fixture: Fixture) -> Self {
        Self::new(fixture, "/engine.io/")
    }

    /// `/socket.io/`, where some events are answered.
    pub(super) fn socket_io(fixture: Fixture) -> Self {
        Self::new(fixture, "/socket.io/")
    }

    fn new(fixture: Fixture, path: &'static str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            fixture,
            path,
            http,
        }
    }

    fn push(&self) -> &Push {
        if self.path == "/engine.io/" {
            &self.fixture.engine_io
        } else {
            &self.fixture.socket_io
        }
    }

    /// The status of a request and its body.
    async fn request(&self, method: Method, query: &str) -> (u16, String) {
        let url = format!("http://{}{}?{query}", self.fixture.address, self.path);
        answer(self.http.request(method, url).send().await.unwrap()).await
    }

    /// A client whose long-polling has begun.
    pub(super) async fn polling(&self) -> PollingClient {
        let (status, open) = self.request(Method::GET, "EIO=4&transport=polling").await;
        assert_eq!(status, 200, "{open}");
        let sid = open_packet(&open)["sid"].as_str().unwrap().to_owned();
        let url = format!(
            "http://{}{}?EIO=4&transport=polling&sid={sid}",
            self.fixture.address, self.path
        );
        PollingClient {
            url,
            sid,
            http: self.http.clone(),
        }
    }

    /// A request for a WebSocket.
    pub(super) async fn try_websocket(&self, query: &str) -> Result<Client, tungstenite::Error> {
        let url = format!("ws://{}{}?{query}", self.fixture.address, self.path);
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        Ok(Client(socket))
    }

    /// A client with a WebSocket, and the packet that opened it.
    pub(super) async fn websocket(&self) -> (Client, String) {
        let client = self.try_websocket("EIO=4&transport=websocket").await;
        let mut client = client.unwrap();
        let open = client.raw_text().await;
        (client, open)
    }

    /// A WebSocket on which a long-polling client wants to go on.
    pub(super) async fn websocket_of(&self, polling: &PollingClient) -> Client {
        let query = format!("EIO=4&transport=websocket&sid={}", polling.sid);
        self.try_websocket(&query).await.unwrap()
    }

    /// Waits until a poll of the client is with the server.
    pub(super) async fn is_polled(&self, client: &PollingClient) {
        let polled = async {
            // The registry has one handle, the request that waits for its answer another, and the third is here.
            while self
                .push()
                .0
                .polling
                .get(&client.sid)
                .is_none_or(|handle| Arc::strong_count(&handle) < 3)
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, polled).await.unwrap();
    }

    /// Waits until no connection is left.
    pub(super) async fn all_gone(&self) {
        let gone = async {
            while self.push().connection_count() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
    }
}

/// What the first packet of a connection says.
fn open_packet(packet: &str) -> Value {
    serde_json::from_str(packet.strip_prefix('0').unwrap()).unwrap()
}

fn assert_terms(packet: &str, upgrades: &Value) {
    let mut open = open_packet(packet);
    assert!(!open["sid"].take().as_str().unwrap().is_empty());
    let terms = json!({
        "sid": null,
        "upgrades": upgrades,
        "pingInterval": 300,
        "pingTimeout": 200,
        "maxPayload": 1_000_000
    });
    assert_eq!(open, terms);
}

pub(super) async fn polling_opens(endpoint: Endpoint) {
    let (status, open) = endpoint
        .request(Method::GET, "EIO=4&transport=polling")
        .await;
    assert_eq!(status, 200);
    assert_terms(&open, &json!(["websocket"]));
}

pub(super) async fn polling_needs_the_version(endpoint: Endpoint) {
    for query in ["transport=polling", "EIO=abc&transport=polling"] {
        assert_eq!(endpoint.request(Method::GET, query).await.0, 400, "{query}");
    }
}

pub(super) async fn polling_needs_the_transport(endpoint: Endpoint) {
    for query in ["EIO=4", "EIO=4&transport=abc"] {
        assert_eq!(endpoint.request(Method::GET, query).await.0, 400, "{query}");
    }
}

pub(super) async fn polling_is_opened_by_get(endpoint: Endpoint) {
    for method in [Method::POST, Method::PUT] {
        let refused = endpoint.request(method, "EIO=4&transport=polling").await;
        assert_eq!(refused.0, 400);
    }
}

pub(super) async fn websocket_opens(endpoint: Endpoint) {
    let (mut client, open) = endpoint.websocket().await;
    assert_terms(&open, &json!([]));
    client.0.close(None).await.unwrap();
}

pub(super) async fn websocket_needs_the_version(endpoint: Endpoint) {
    for query in ["transport=websocket", "EIO=abc&transport=websocket"] {
        assert_refused(endpoint.try_websocket(query).await);
    }
}

pub(super) async fn websocket_needs_the_transport(endpoint: Endpoint) {
    for query in ["EIO=4", "EIO=4&transport=abc"] {
        assert_refused(endpoint.try_websocket(query).await);
    }
}

fn assert_refused(answer: Result<Client, tungstenite::Error>) {
    let error = answer.unwrap_err();
    assert!(matches!(error, tungstenite::Error::Http(response) if response.status() == 400));
}

pub(super) async fn polling_has_heartbeats(endpoint: Endpoint) {
    let client = endpoint.polling().await;
    for _ in 0..3 {
        assert_eq!(client.poll().await, (200, "2".to_owned()));
        assert_eq!(client.post("3").await, (200, "ok".to_owned()));
    }
}

pub(super) async fn polling_without_pongs_ends(endpoint: Endpoint) {
    let client = endpoint.polling().await;
    endpoint.all_gone().await;
    assert_eq!(client.poll().await.0, 400);
}

pub(super) async fn websocket_has_heartbeats(endpoint: Endpoint) {
    let (mut client, _) = endpoint.websocket().await;
    for _ in 0..3 {
        assert_eq!(client.raw_text().await, "2");
        client.send("3").await;
    }
}

pub(super) async fn websocket_without_pongs_ends(endpoint: Endpoint) {
    let (mut client, _) = endpoint.websocket().await;
    assert_eq!(client.rest().await, ["2"]);
}

pub(super) async fn polling_can_be_closed(endpoint: Endpoint) {
    let client = endpoint.polling().await;
    let (released, closed) = tokio::join!(client.poll(), async {
        endpoint.is_polled(&client).await;
        client.post("1").await
    });
    assert_eq!(released, (200, "6".to_owned()));
    assert_eq!(closed, (200, "ok".to_owned()));
    assert_eq!(client.poll().await.0, 400);
}

pub(super) async fn websocket_can_be_closed(endpoint: Endpoint) {
    let (mut client, _) = endpoint.websocket().await;
    client.send("1").await;
    assert_eq!(client.rest().await, [""; 0]);
}

/// Probes a WebSocket for a client and moves it there without waiting for anything.
pub(super) async fn upgrade(endpoint: &Endpoint) -> (PollingClient, Client) {
    let polling = endpoint.polling().await;
    let mut websocket = endpoint.websocket_of(&polling).await;
    for packet in ["2probe", "5"] {
        websocket.0.feed(Message::text(packet)).await.unwrap();
    }
    websocket.0.flush().await.unwrap();
    assert_eq!(websocket.text().await, "3probe");
    (polling, websocket)
}

/// The next message that is no heartbeat, as bytes if it is binary.
pub(super) async fn next(client: &mut Client) -> Message {
    loop {
        let message = timeout(PATIENCE, client.0.next()).await.unwrap();
        match message.unwrap().unwrap() {
            Message::Text(text) if text == "2" => client.send("3").await,
            message => return message,
        }
    }
}
