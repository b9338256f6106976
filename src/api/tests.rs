//! Requests through the real router to a real relay.

mod access;
mod bulk;
mod device_calls;
mod grant_tokens;
mod hub_reads;
mod operations;
mod reads;
mod writes;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::{State, router};
use crate::clock::ManualClock;
use crate::config::{AdminKeys, Config, DeviceTwinCache, IotHubApi, Secret};
use crate::domain::device_message::{
    Content, DeviceMessage, TelemetryMessage, TwinEvent, TwinEventKind,
};
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::limits::SessionLimits;
use crate::domain::raw_json::RawJson;
use crate::domain::shard::{ShardSettings, TwinCache};
use crate::domain::telemetry::tests::telemetry;
use crate::domain::time::Timestamp;
use crate::grant_token::GrantTokens;
use crate::http::ClientAddress;
use crate::ingest::Status;
use crate::iot_hub::IotHub;
use crate::iot_hub::tests::hub::Hub;
use crate::lifecycle::Lifecycle;
use crate::relay::tests::SETTINGS;
use crate::relay::{ReadTwin, Relay, Settings};
use crate::telemetry::{LogFilter, Metrics};

const PRIMARY: &str = "cHJpbWFyeQ==";
const SECONDARY: &str = "c2Vjb25kYXJ5/+";

/// When device messages were sent, as they and the API write it.
const SENT_AT_MS: i64 = 1_714_557_600_000;
const SENT_AT: &str = "2024-05-01T10:00:00.000Z";

/// An API with everything behind it except a source of device messages.
struct Api {
    router: Router,
    relay: Relay,
    status: Status,
    clock: ManualClock,
    metrics: Metrics,
}

impl Api {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with_hub() -> Self {
        Self::with(|config| {
            let text =
                "HostName=hub.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=a2V5";
            config.iot_hub = IotHubApi::Enabled(text.parse().unwrap());
        })
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::calling(None, change)
    }

    /// One that calls a hub of the same process.
    fn calling(hub: Option<&Hub>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            admin_keys: AdminKeys::new(Secret::new(PRIMARY), Secret::new(SECONDARY)),
            ..Config::default()
        };
        change(&mut config);
        let clock = ManualClock::at(SENT_AT_MS);
        let iot_hub = match hub {
            Some(hub) => Some(hub.client()),
            None => IotHub::from_config(&config, Arc::new(clock.clone()), &Metrics::new()).unwrap(),
        };
        let status = Status::new();
        let metrics = Metrics::new();
        let lifecycle = Lifecycle::new();
        let relay = Relay::start(
            settings(&config),
            Arc::new(clock.clone()),
            &metrics,
            &lifecycle,
            (iot_hub.clone()).map(|hub| Arc::new(hub) as Arc<dyn ReadTwin>),
        );
        let grant_tokens =
            GrantTokens::start(&config, Arc::new(clock.clone()), &metrics, &lifecycle);
        let state = State::new(
            relay.clone(),
            iot_hub,
            grant_tokens,
            Arc::new(config),
            metrics.clone(),
            LogFilter::detached(),
            status.clone(),
            Arc::new(clock.clone()),
        );
        let beside = Router::new().route("/beside", axum::routing::get(async || "beside"));
        Self {
            router: router(state, beside),
            relay,
            status,
            clock,
            metrics,
        }
    }

    fn session(&self) -> SessionId {
        self.relay.create_session().unwrap()
    }

    async fn telemetry(&self, device: &str, members: &[(&str, &str)]) {
        let message = TelemetryMessage {
            telemetry: Some(telemetry(members)),
            ..TelemetryMessage::default()
        };
        self.message(device, Content::Telemetry(message)).await;
    }

    /// Returns when the message has been applied. Requests overtake messages that still wait, so another device's
    /// connection state, changed behind it, tells.
    async fn message(&self, device: &str, content: Content) {
        let other = DeviceId::new("marker").unwrap();
        let marked = match self.relay.connection_state(&other).await {
            Some(state) => !state.value,
            None => true,
        };
        let message = |device_id, content| DeviceMessage {
            device_id,
            timestamp: Timestamp::UnixMs(SENT_AT_MS),
            content,
        };
        let messages = vec![
            message(DeviceId::new(device).unwrap(), content),
            message(
                other.clone(),
                Content::ConnectionState {
                    connected: marked,
                    sequence: None,
                },
            ),
        ];
        self.relay.ingest(messages).await;
        while !matches!(self.relay.connection_state(&other).await, Some(state) if state.value == marked)
        {
            tokio::task::yield_now().await;
        }
    }

    /// Stores a grant; `grant` holds the members behind the session id.
    async fn grant(&self, session: SessionId, grant: &str) {
        let body = format!(r#"{{"sessionId":"{session}",{grant}}}"#);
        let answer = self
            .send(call("PUT", "/grants").key(PRIMARY).body(body))
            .await;
        answer.is(204, "");
    }

    /// Sends a request; every answer to whatever request has to be readable for any origin.
    async fn send(&self, call: Call) -> Answer {
        let shown = format!(
            "{} {} {:?} {}",
            call.method, call.path, call.headers, call.body
        );
        let mut request = Request::builder().method(call.method).uri(call.path);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let client = ClientAddress(SocketAddr::from(([10, 0, 0, 1], 50_000)));
        let request = request
            .extension(client)
            .body(Body::from(call.body))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(headers["access-control-allow-origin"], "*", "{shown}");
        if status >= 400 {
            assert_eq!(
                headers["content-type"], "text/plain; charset=utf-8",
                "{shown}"
            );
        }
        Answer {
            shown,
            status,
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

/// A request in the making.
#[derive(Clone)]
struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

fn call(method: &str, path: impl Into<String>) -> Call {
    Call {
        method: method.parse().unwrap(),
        path: path.into(),
        headers: Vec::new(),
        body: String::new(),
    }
}

impl Call {
    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
    fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn key(self, key: &str) -> Self {
        self.header("Shared-Access-Key", key)
    }

    fn session(self, session: impl ToString) -> Self {
        self.header("sessionId", session)
    }

    fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }
}

struct Answer {
    shown: String,
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    #[track_caller]
    fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, &*self.body), (status, body), "{}", self.shown);
    }

    #[track_caller]
    fn is_json(&self, body: &str) {
        self.is(200, body);
        assert_eq!(
            self.headers["content-type"], "application/json; charset=utf-8",
            "{}",
            self.shown
        );
        serde_json::from_str::<serde_json::Value>(&self.body).expect("the body is JSON");
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        shards: 1,
        shard: ShardSettings {
            twin_cache: match config.device_twin_cache {
                DeviceTwinCache::Off => TwinCache::Off,
                DeviceTwinCache::Forever => TwinCache::Forever,
                DeviceTwinCache::For(_) => panic!("no test needs it"),
            },
            reads_twins: true,
            reads_connection_states: true,
            ..SETTINGS.shard
        },
        session_limits: SessionLimits {
            grants_max: config.limits.grants_per_session_max,
            subscriptions_max: config.limits.subscriptions_per_session_max,
        },
        sessions_max: config.limits.sessions_max,
        unbound_sessions_max: config.limits.unbound_sessions_max,
        write_wait: std::time::Duration::from_secs(1),
        ..SETTINGS
    }
}

fn twin(body: &str) -> Content {
    Content::Twin(TwinEvent {
        kind: TwinEventKind::Replace,
        body: RawJson::from_valid(body),
    })
}

/// The id of a session that never was.
fn unknown_session() -> SessionId {
    SessionId::issue(SENT_AT_MS, [9; 10])
}
