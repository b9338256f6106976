//! A running push edge, and a native client to talk to it with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use relay_protocol::RawJson;
use relay_protocol::native::{
    ClientMessage, ErrorMessage, Goodbye, Hello, LastValues, NewSubscription, Selector,
    ServerHello, ServerMessage, Subscribed, Updates, Values,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::clock::SystemClock;
use crate::config::{Config, Secret};
use crate::domain::device_message::{Content, DeviceMessage, TelemetryMessage};
use crate::domain::grant::Grant;
use crate::domain::id::{DeviceId, SessionId, TelemetryKey};
use crate::domain::limits::{OutboxLimits, SessionLimits};
use crate::domain::telemetry::tests::telemetry;
use crate::domain::time::Timestamp;
use crate::grant_token::GrantTokens;
use crate::lifecycle::Lifecycle;
use crate::push::{Push, Settings, router};
use crate::relay::tests::SETTINGS;
use crate::relay::{self, Relay};
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
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A relay with room for what the tests do.
pub(super) fn roomy() -> relay::Settings {
    relay::Settings {
        outbox_limits: OutboxLimits {
            frames_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            ..SETTINGS.outbox_limits
        },
        session_limits: SessionLimits {
            grants_max: 1000,
            subscriptions_max: 20_000,
        },
        sessions_max: 1000,
        unbound_sessions_max: 1000,
        write_wait: WRITE_WAIT,
        resume_window_ms: 60_000,
        snapshot_bytes_max: 256 * 1024 * 1024,
        ..SETTINGS
    }
}

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(super) fn key(name: &str) -> Grant {
    Grant::Telemetry(TelemetryKey::new(name))
}

pub(super) const EVERY_KEY: Grant = Grant::Telemetry(None);

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(Settings::default(), roomy()).await
    }

    pub(super) async fn with(settings: Settings, relay_settings: relay::Settings) -> Self {
        Self::with_tokens(settings, relay_settings, None).await
    }

    /// One that takes grant tokens signed with a secret.
    #[expect(
        clippy::unused_async,
        reason = "its socket needs the runtime that awaits it"
    )]
    pub(super) async fn with_tokens(
        settings: Settings,
        relay_settings: relay::Settings,
        secret: Option<&str>,
    ) -> Self {
        let (metrics, clock, lifecycle) = (Metrics::new(), SystemClock::shared(), Lifecycle::new());
        let mut config = Config::default();
        config.grant_tokens.secret = secret.map(|secret| Secret::new(secret.to_owned()));
        let tokens = GrantTokens::start(&config, clock.clone(), &metrics, &lifecycle);
        let relay = Relay::start(relay_settings, clock, &metrics, &lifecycle, None);
        let rate = Arc::new(SessionRate::new(1, 1_000));
        let push_metrics = Arc::clone(&metrics.push);
        let push = Push::new(relay.clone(), tokens, rate, settings, push_metrics);
        let listener = TcpSocket::new_v4().unwrap();
        // So small that one large message is enough to find a client that does not read.
        listener.set_send_buffer_size(64 * 1024).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let app = router(push.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            relay,
            push,
            metrics,
            serving,
        }
    }

    /// A client that has said nothing.
    pub(super) async fn client(&self) -> Client {
        let url = format!("ws://{}/ws", self.address);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Client { socket, last_id: 0 }
    }

    /// A client with a new session that has these grants for the device d1.
    pub(super) async fn granted<const N: usize>(&self, grants: [Grant; N]) -> (Client, SessionId) {
        let mut client = self.client().await;
        let hello = client.hello(Hello::default()).await;
        let session = SessionId::parse(hello.session_id.as_str()).unwrap();
        for grant in grants {
            self.grant(session, "d1", grant).await;
        }
        (client, session)
    }

    /// A client that gets every key of d1.
    pub(super) async fn following(&self) -> (Client, SessionId) {
        let (mut client, session) = self.granted([EVERY_KEY]).await;
        client.subscribe([every_key("d1").into()]).await;
        (client, session)
    }

    pub(super) async fn grant(&self, session: SessionId, device_name: &str, grant: Grant) {
        let device = device(device_name);
        self.relay.grant(session, device, grant).await.unwrap();
    }

    pub(super) async fn revoke(&self, session: SessionId, grant: Grant) {
        let revoked = self.relay.revoke(session, device("d1"), grant);
        timeout(PATIENCE, revoked).await.unwrap().unwrap();
    }

    /// Lets d1 send `n` = `number`.
    pub(super) async fn send(&self, number: u64) {
        self.send_telemetry("d1", &[("n", &number.to_string())])
            .await;
    }

    pub(super) async fn send_telemetry(&self, device_name: &str, members: &[(&str, &str)]) {
        let content = Content::Telemetry(TelemetryMessage {
            telemetry: Some(telemetry(members)),
            ..TelemetryMessage::default()
        });
        self.send_content(device_name, content).await;
    }

    pub(super) async fn send_content(&self, device_name: &str, content: Content) {
        let message = DeviceMessage {
            device_id: device(device_name),
            timestamp: Timestamp::UnixMs(1_714_557_600_000),
            content,
        };
        self.relay.ingest(vec![message]).await;
    }

    /// Waits until at most this many connections are left.
    pub(super) async fn connections_become(&self, count: usize) {
        let gone = async {
            while self.push.connection_count() > count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
    }

    /// Requires that a new client still gets what it asks for.
    pub(super) async fn still_serves(&self) {
        let (mut client, session) = self.granted([]).await;
        self.grant(session, "witness", EVERY_KEY).await;
        client.subscribe([every_key("witness").into()]).await;
        self.send_telemetry("witness", &[("n", "1")]).await;
        assert_eq!(client.updates().await.updates.len(), 1);
    }
}

pub(super) fn every_key(device_id: &str) -> Selector {
    Selector::telemetry(device_id, Vec::<String>::new())
}

pub(super) fn keys<const N: usize>(device_id: &str, keys: [&str; N]) -> Selector {
    Selector::telemetry(device_id, keys)
}

pub(super) fn whole(device_id: &str, values: Values) -> Selector {
    Selector {
        device_id: device_id.into(),
        module_id: None,
        values,
    }
}

/// A native client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: u64,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct End {
    /// What came before the goodbye.
    pub(super) messages: Vec<ServerMessage>,
    pub(super) goodbye: Option<Goodbye>,
    /// Of the close frame.
    pub(super) close_code: Option<u16>,
}

impl Client {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(super) async fn send(&mut self, message: &ClientMessage) {
        let text = serde_json::to_string(message).unwrap();
        self.send_text(&text).await;
    }

    /// The next message.
    pub(super) async fn message(&mut self) -> ServerMessage {
        match self.try_message().await {
            Ok(message) => message,
            Err(end) => panic!("the connection ended: {end:?}"),
        }
    }

    async fn try_message(&mut self) -> Result<ServerMessage, Option<u16>> {
        loop {
            return match timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => {
                    let message: ServerMessage = serde_json::from_str(&text).unwrap();
                    assert_eq!(
                        serde_json::to_string(&message).unwrap().len(),
                        text.len(),
                        "{text:.500}"
                    );
                    Ok(message)
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(frame))) => Err(frame.map(|frame| frame.code.into())),
                Some(Ok(other)) => panic!("{other:?} from the relay"),
                Some(Err(_)) | None => Err(None),
            };
        }
    }

    /// Everything up to the end of the connection.
    pub(super) async fn end(&mut self) -> End {
        let mut messages = Vec::new();
        let close_code = loop {
            match self.try_message().await {
                Ok(message) => messages.push(message),
                Err(code) => break code,
            }
        };
        // Answers the close frame, and closes the socket as clients do.
        while let Ok(Some(Ok(_))) = timeout(PATIENCE, self.socket.next()).await {}
        let _ = self.socket.get_mut().shutdown().await;
        let goodbye = match messages.pop() {
            Some(ServerMessage::Goodbye(goodbye)) => Some(goodbye),
            Some(other) => {
                messages.push(other);
                None
            }
            None => None,
        };
        End {
            messages,
            goodbye,
            close_code,
        }
    }

    pub(super) async fn hello(&mut self, hello: Hello) -> ServerHello {
        self.send(&ClientMessage::Hello(hello)).await;
        match self.message().await {
            ServerMessage::Hello(hello) => hello,
            other => panic!("{other:?} instead of a hello"),
        }
    }

    pub(super) async fn subscribe<const N: usize>(
        &mut self,
        subscriptions: [NewSubscription; N],
    ) -> Subscribed {
        self.ask_to_subscribe(subscriptions).await;
        match self.message().await {
            ServerMessage::Subscribed(subscribed) => {
                assert_eq!(subscribed.id, self.last_id);
                subscribed
            }
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }

    pub(super) async fn ask_to_subscribe<const N: usize>(
        &mut self,
        subscriptions: [NewSubscription; N],
    ) {
        let id = self.next_id();
        let subscriptions = subscriptions.into();
        self.send(&ClientMessage::Subscribe { id, subscriptions })
            .await;
    }

    pub(super) async fn unsubscribe<const N: usize>(&mut self, subscriptions: [Selector; N]) {
        let id = self.next_id();
        let subscriptions = subscriptions.into();
        self.send(&ClientMessage::Unsubscribe { id, subscriptions })
            .await;
        assert_eq!(self.message().await, ServerMessage::Unsubscribed { id });
    }

    pub(super) async fn last_values<const N: usize>(&mut self, of: [Selector; N]) -> LastValues {
        let id = self.next_id();
        let of = of.into();
        self.send(&ClientMessage::LastValues { id, of }).await;
        match self.message().await {
            ServerMessage::LastValues(values) => values,
            other => panic!("{other:?} instead of last values"),
        }
    }

    /// Requires that the connection still answers.
    pub(super) async fn still_answers(&mut self) {
        let id = self.next_id();
        self.send(&ClientMessage::Ping { id }).await;
        match self.message().await {
            ServerMessage::Pong { id: answered, .. } => assert_eq!(answered, id),
            other => panic!("{other:?} instead of a pong"),
        }
    }

    pub(super) async fn updates(&mut self) -> Updates {
        match self.message().await {
            ServerMessage::Updates(updates) => updates,
            other => panic!("{other:?} instead of updates"),
        }
    }

    pub(super) async fn error(&mut self) -> ErrorMessage {
        match self.message().await {
            ServerMessage::Error(error) => error,
            other => panic!("{other:?} instead of an error"),
        }
    }

    /// The numbers in the next updates of the key n.
    pub(super) async fn numbers(&mut self) -> Vec<u64> {
        numbers(&self.updates().await)
    }
}

pub(super) fn numbers(updates: &Updates) -> Vec<u64> {
    let number = |update: &relay_protocol::native::DeviceUpdate| match &update.update {
        relay_protocol::Update::Telemetry(values) => values["n"].read().unwrap(),
        other => panic!("{other:?} instead of telemetry"),
    };
    updates.updates.iter().map(number).collect()
}

pub(super) fn json(text: &str) -> RawJson {
    RawJson::parse(text).unwrap()
}

/// The status and text of a handshake that was refused.
pub(super) async fn refused_handshake(request: tungstenite::http::Request<()>) -> (u16, String) {
    match tokio_tungstenite::connect_async(request).await {
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8(body).unwrap())
        }
        Err(other) => panic!("{other} instead of an HTTP answer"),
        Ok(_) => panic!("the handshake was accepted"),
    }
}
