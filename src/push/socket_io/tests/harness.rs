//! A running push edge, and the clients that tests talk to it with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::clock::SystemClock;
use crate::config::Config;
use crate::domain::device_message::{Content, DeviceMessage, TelemetryMessage};
use crate::domain::grant::Grant;
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::limits::OutboxLimits;
use crate::domain::subscription::Subscription;
use crate::domain::telemetry::tests::telemetry;
use crate::domain::time::Timestamp;
use crate::grant_token::GrantTokens;
use crate::lifecycle::Lifecycle;
use crate::push::{Push, Settings, router};
use crate::relay::tests::SETTINGS;
use crate::relay::{self, Relay, SubscriptionRequest};
use crate::session_rate::SessionRate;
use crate::telemetry::metrics::Metrics;

/// Longer than anything here takes on a busy machine; whoever waits that long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a revocation waits for a stuck write in these tests.
pub(super) const WRITE_WAIT: Duration = Duration::from_millis(300);

/// A push edge on a port of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) relay: Relay,
    pub(super) push: Push,
    pub(super) metrics: Metrics,
    pub(super) http: reqwest::Client,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(super) fn device() -> DeviceId {
    DeviceId::new("d1").unwrap()
}

impl Server {
    #[expect(
        clippy::unused_async,
        reason = "its socket needs the runtime that awaits it"
    )]
    pub(super) async fn start(settings: Settings) -> Self {
        let relay_settings = relay::Settings {
            outbox_limits: OutboxLimits {
                frames_max: 100_000,
                bytes_max: 64 * 1024 * 1024,
                ..SETTINGS.outbox_limits
            },
            sessions_max: 1000,
            unbound_sessions_max: 1000,
            write_wait: WRITE_WAIT,
            ..SETTINGS
        };
        let metrics = Metrics::new();
        let relay = Relay::start(
            relay_settings,
            SystemClock::shared(),
            &metrics,
            &Lifecycle::new(),
            None,
        );
        let clock = SystemClock::shared();
        let config = Config::default();
        let tokens = GrantTokens::start(&config, clock, &metrics, &Lifecycle::new());
        let rate = Arc::new(SessionRate::new(1, 1_000));
        let push_metrics = Arc::clone(&metrics.push);
        let push = Push::new(relay.clone(), tokens, rate, settings, push_metrics);
        let listener = TcpSocket::new_v4().unwrap();
        // So small that one large update is enough to find a client that does not read.
        listener.set_send_buffer_size(64 * 1024).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let app = router(push.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            address,
            relay,
            push,
            metrics,
            http,
            serving,
        }
    }

    /// A session that sees all telemetry of the device.
    pub(super) async fn subscribed_session(&self) -> SessionId {
        let session = self.relay.create_session().unwrap();
        self.relay
            .grant(session, device(), Grant::Telemetry(None))
            .await
            .unwrap();
        self.relay
            .subscribe(SubscriptionRequest {
                session,
                device: device(),
                subscription: Subscription::Telemetry(None),
            })
            .await
            .unwrap();
        session
    }

    /// Lets the device send `n` = `number`.
    pub(super) async fn send(&self, number: usize) {
        self.send_value(&number.to_string()).await;
    }

    pub(super) async fn send_value(&self, value: &str) {
        let message = DeviceMessage {
            device_id: device(),
            timestamp: Timestamp::UnixMs(0),
            content: Content::Telemetry(TelemetryMessage {
                telemetry: Some(telemetry(&[("n", value)])),
                ..TelemetryMessage::default()
            }),
        };
        self.relay.ingest(vec![message]).await;
    }

    pub(super) fn url(&self, query: &str) -> String {
        format!("http://{}/socket.io/?EIO=4&{query}", self.address)
    }

    pub(super) async fn websocket(&self, query: &str) -> Client {
        self.try_websocket(query).await.unwrap()
    }

    pub(super) async fn try_websocket(&self, query: &str) -> Result<Client, tungstenite::Error> {
        let url = format!(
            "ws://{}/socket.io/?EIO=4&transport=websocket&{query}",
            self.address
        );
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        Ok(Client(socket))
    }

    /// A WebSocket client that has its session.
    pub(super) async fn connected(&self, session: SessionId) -> Client {
        let mut client = self.websocket(&format!("sessionId={session}")).await;
        assert!(client.text().await.starts_with("0{"));
        client.send("40").await;
        assert!(client.text().await.starts_with("40{\"sid\":\""));
        client
    }

    /// A long-polling client after its handshake.
    pub(super) async fn polling(&self, session: SessionId) -> PollingClient {
        let open = self
            .http
            .get(self.url(&format!("transport=polling&sessionId={session}")))
            .send()
            .await
            .unwrap();
        assert_eq!(open.status(), 200);
        assert_eq!(open.headers()["content-type"], "text/plain; charset=utf-8");
        let open = open.text().await.unwrap();
        let open: serde_json::Value =
            serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(open["upgrades"], serde_json::json!(["websocket"]));
        let sid = open["sid"].as_str().unwrap().to_owned();
        let url = self.url(&format!("transport=polling&sid={sid}&sessionId={session}"));
        PollingClient {
            url,
            sid,
            http: self.http.clone(),
        }
    }

    /// A long-polling client that has its session.
    pub(super) async fn connected_polling(&self, session: SessionId) -> PollingClient {
        let client = self.polling(session).await;
        assert_eq!(client.post("40").await, (200, "ok".to_owned()));
        let (status, accepted) = client.poll().await;
        assert_eq!(status, 200);
        assert!(accepted.starts_with("40{\"sid\":\""), "{accepted}");
        client
    }

    /// Waits until no connection is left, with all that it held.
    pub(super) async fn all_gone(&self) {
        let gone = async {
            while self.push.connection_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
        assert_eq!(self.push.0.polling.len(), 0);
        let handshakes = &self.push.0.handshakes;
        assert_eq!(
            handshakes.available_permits(),
            self.push.0.settings.handshakes_max
        );
    }
}

/// A WebSocket client.
#[derive(Debug)]
pub(super) struct Client(pub(super) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next text, with heartbeats answered on the way.
    pub(super) async fn text(&mut self) -> String {
        loop {
            let text = self.raw_text().await;
            if text != "2" {
                return text;
            }
            self.send("3").await;
        }
    }

    /// The next text.
    pub(super) async fn raw_text(&mut self) -> String {
        match timeout(PATIENCE, self.0.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?} instead of a text"),
        }
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(Ok(message)) = timeout(PATIENCE, self.0.next()).await.unwrap() {
            if let Message::Text(text) = message {
                texts.push(text.as_str().to_owned());
            }
        }
        texts
    }

    /// The next number that the device sent.
    pub(super) async fn number(&mut self) -> usize {
        number(&self.text().await)
    }
}

/// A long-polling client.
#[derive(Clone, Debug)]
pub(super) struct PollingClient {
    pub(super) url: String,
    pub(super) sid: String,
    pub(super) http: reqwest::Client,
}

impl PollingClient {
    pub(super) async fn poll(&self) -> (u16, String) {
        answer(self.http.get(&self.url).send().await.unwrap()).await
    }

    pub(super) async fn post(&self, body: &str) -> (u16, String) {
        answer(
            self.http
                .post(&self.url)
                .body(body.to_owned())
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    /// The packets of the next payload with anything but heartbeats in it; those are answered.
    pub(super) async fn packets(&self) -> Vec<String> {
        loop {
            let (status, payload) = self.poll().await;
            assert_eq!(status, 200, "{payload}");
            let mut packets: Vec<_> = payload.split('\u{1e}').map(str::to_owned).collect();
            let all = packets.len();
            packets.retain(|packet| packet != "2");
            if packets.len() < all {
                assert_eq!(self.post("3").await.0, 200);
            }
            if !packets.is_empty() {
                return packets;
            }
        }
    }
}

pub(super) async fn answer(response: reqwest::Response) -> (u16, String) {
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The number in an event.
pub(super) fn number(event: &str) -> usize {
    let event: serde_json::Value = serde_json::from_str(event.strip_prefix("42").unwrap()).unwrap();
    assert_eq!(event[0], "data");
    assert_eq!(event[1]["deviceId"], "d1");
    usize::try_from(event[1]["telemetry"]["n"].as_u64().unwrap()).unwrap()
}

/// Times short enough to wait for.
pub(super) fn quick() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(200),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(300),
        refused_timeout: Duration::from_millis(100),
        close_timeout: Duration::from_millis(500),
        ..Settings::default()
    }
}

/// Pings short enough to wait for, with time to answer them on a busy machine.
pub(super) fn often_pinging() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(100),
        ..Settings::default()
    }
}
