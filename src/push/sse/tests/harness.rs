//! A running push edge, and a reader of its events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::{Clock as _, SystemClock};
use crate::config::{AdminKeys, Config, Secret};
use crate::domain::device_message::{Content, DeviceMessage, TelemetryMessage};
use crate::domain::grant::Grant;
use crate::domain::id::{DeviceId, SessionId, TelemetryKey};
use crate::domain::limits::OutboxLimits;
use crate::domain::telemetry::tests::telemetry;
use crate::domain::time::Timestamp;
use crate::grant_token::GrantTokens;
use crate::lifecycle::Lifecycle;
use crate::push::{Push, Settings, events_router};
use crate::relay::tests::SETTINGS;
use crate::relay::{self, Relay};
use crate::session_rate::SessionRate;
use crate::telemetry::metrics::Metrics;

/// Longer than anything here takes on a busy machine; whoever waits that long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a revocation waits for a stuck write in these tests.
pub(super) const WRITE_WAIT: Duration = Duration::from_millis(300);

pub(super) const KEY: &str = "the+key/of=operators";

const SECRET: &str = "a secret that is long enough to sign with";

/// A push edge on a port of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) relay: Relay,
    pub(super) push: Push,
    pub(super) metrics: Metrics,
    http: Client,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    #[expect(
        clippy::unused_async,
        reason = "its socket needs the runtime that awaits it"
    )]
    pub(super) async fn with(settings: Settings) -> Self {
        let metrics = Metrics::new();
        let lifecycle = Lifecycle::new();
        let clock = SystemClock::shared();
        let relay = Relay::start(roomy(), clock.clone(), &metrics, &lifecycle, None);
        let mut config = Config::default();
        config.grant_tokens.secret = Some(Secret::new(SECRET));
        let grant_tokens = GrantTokens::start(&config, clock, &metrics, &lifecycle);
        let admin_keys = AdminKeys::new(Secret::new(KEY), Secret::new(""));
        let rate = Arc::new(SessionRate::new(1, 1_000));
        let push_metrics = Arc::clone(&metrics.push);
        let push = Push::new(relay.clone(), grant_tokens, rate, settings, push_metrics);
        let listener = TcpSocket::new_v4().unwrap();
        // So small that one large message is enough to find a client that does not read.
        listener.set_send_buffer_size(64 * 1024).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let app = events_router(push.clone(), admin_keys);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            relay,
            push,
            metrics,
            http: Client::builder().no_proxy().build().unwrap(),
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// `GET /events` with a query, being put together.
    pub(super) fn get(&self, query: &str) -> RequestBuilder {
        self.http
            .get(format!("http://{}/events?{query}", self.address))
    }

    /// The status and text of a refusal.
    pub(super) async fn refusal(&self, request: RequestBuilder) -> (u16, String) {
        let response = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
        let status = response.status().as_u16();
        assert_ne!(status, 200);
        (status, response.text().await.unwrap())
    }

    /// The stream that a request gets.
    pub(super) async fn open(&self, request: RequestBuilder) -> Events {
        let response = timeout(PATIENCE, request.send()).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Events {
            response: Some(response),
            text: String::new(),
            comments: 0,
        }
    }

    /// A new session with grants for the device d1.
    pub(super) async fn session<const N: usize>(&self, grants: [Grant; N]) -> SessionId {
        let session = self.relay.create_session().unwrap();
        for grant in grants {
            let granted = self.relay.grant(session, device("d1"), grant);
            granted.await.unwrap();
        }
        session
    }

    /// A session that may see every key of d1, and its stream of them, of which the snapshot has been read.
    pub(super) async fn following(&self) -> (SessionId, Events) {
        let session = self.session([EVERY_KEY]).await;
        let request = self.get(&format!("sessionId={session}&telemetry=d1"));
        let mut events = self.open(request).await;
        events.next_of("snapshot").await;
        (session, events)
    }

    pub(super) async fn revoke(&self, session: SessionId, grant: Grant) {
        let revoked = self.relay.revoke(session, device("d1"), grant);
        timeout(PATIENCE, revoked).await.unwrap().unwrap();
    }

    /// Lets d1 send `n` = `number`.
    pub(super) async fn send(&self, number: u64) {
        self.send_telemetry(&[("n", &number.to_string())]).await;
    }

    /// Lets d1 send telemetry.
    pub(super) async fn send_telemetry(&self, members: &[(&str, &str)]) {
        let content = Content::Telemetry(TelemetryMessage {
            telemetry: Some(telemetry(members)),
            ..TelemetryMessage::default()
        });
        self.send_content(content).await;
    }

    pub(super) async fn send_content(&self, content: Content) {
        let message = DeviceMessage {
            device_id: device("d1"),
            timestamp: Timestamp::UnixMs(1_714_557_600_000),
            content,
        };
        self.relay.ingest(vec![message]).await;
    }

    /// Sends `n` = `number` and waits until it is the last value.
    pub(super) async fn settle(&self, number: u64) {
        self.send(number).await;
        let n = TelemetryKey::new("n").unwrap();
        let settled = async {
            loop {
                let last = self.relay.last_value(&device("d1"), &n).await;
                if last.is_some_and(|last| last.value.as_str() == number.to_string()) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, settled).await.unwrap();
    }

    /// Waits until there are no more than so many connections.
    pub(super) async fn connections_become(&self, count: usize) {
        let gone = async {
            while self.push.connection_count() > count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
    }
}

pub(super) const EVERY_KEY: Grant = Grant::Telemetry(None);

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(super) fn key(name: &str) -> Grant {
    Grant::Telemetry(TelemetryKey::new(name))
}

/// A relay with room for what the tests do.
fn roomy() -> relay::Settings {
    relay::Settings {
        outbox_limits: OutboxLimits {
            frames_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            ..SETTINGS.outbox_limits
        },
        write_wait: WRITE_WAIT,
        ..SETTINGS
    }
}

/// A token that lasts for a while.
pub(super) fn token(lifetime_ms: i64, grants: &Value) -> String {
    let expires_ms = SystemClock.unix_ms() + lifetime_ms;
    let (seconds, ms) = (expires_ms / 1000, expires_ms % 1000);
    let claims = format!(r#"{{"exp":{seconds}.{ms:03},"hubrelay":{{"grants":{grants}}}}}"#);
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&secret, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A grant for every key of d1, as a token carries it.
pub(super) fn all_of_d1() -> Value {
    json!([{"deviceId": "d1", "type": "telemetry"}])
}

/// A reader of events.
pub(super) struct Events {
    response: Option<Response>,
    text: String,
    comments: usize,
}

/// One event, as a browser takes it apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) retry: Option<String>,
    pub(super) text: String,
    pub(super) data: Value,
}

impl Events {
    /// The next event, or `None` at the end of the stream, in order or not.
    pub(super) async fn next(&mut self) -> Option<Event> {
        // Signs of life come also where no event does.
        timeout(PATIENCE, self.try_next())
            .await
            .expect("an event comes")
    }

    async fn try_next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if block == ":" {
                    self.comments += 1;
                } else {
                    return Some(Event::read(&block));
                }
            }
            self.read().await?;
        }
    }

    /// The next event, of which the kind is known.
    pub(super) async fn next_of(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.name, name, "{event:?}");
        assert_eq!(event.data["type"], name);
        event
    }

    /// All values of `n` up to `last`, in order.
    pub(super) async fn numbers_until(&mut self, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            let event = self.next_of("updates").await;
            for update in event.data["updates"].as_array().unwrap() {
                numbers.push(update["telemetry"]["n"].as_u64().unwrap());
            }
        }
        numbers
    }

    /// Waits for a sign of life; nothing else may come.
    pub(super) async fn next_comment(&mut self) {
        let before = self.comments;
        while self.comments == before {
            self.read().await.expect("the stream goes on");
            while let Some(rest) = self.text.strip_prefix(":\n\n") {
                self.comments += 1;
                self.text = rest.to_owned();
            }
            assert_eq!(self.text, "");
        }
    }

    async fn read(&mut self) -> Option<()> {
        let chunk = self.response.as_mut()?.chunk();
        if let Ok(Some(bytes)) = timeout(PATIENCE, chunk).await.expect("something comes") {
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
            Some(())
        } else {
            self.response = None;
            None
        }
    }
}

impl Event {
    fn read(block: &str) -> Self {
        let mut event = Self::default();
        let mut lines = Vec::new();
        for line in block.split('\n') {
            let (field, value) = line.split_once(": ").expect("a field and its value");
            match field {
                "event" => value.clone_into(&mut event.name),
                "id" => event.id = Some(value.to_owned()),
                "retry" => event.retry = Some(value.to_owned()),
                "data" => lines.push(value),
                _ => panic!("{line}"),
            }
        }
        event.text = lines.join("\n");
        event.data = serde_json::from_str(&event.text).unwrap();
        event
    }

    pub(super) fn id(&self) -> &str {
        self.id.as_deref().expect("it has an id")
    }
}
