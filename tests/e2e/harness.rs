//! What the tests stand on: the real binary twice (as `devhub` and as `serve`), an AMQP sender, a REST caller and a
//! Socket.IO client that shares no code with the server.
//!
//! Every test owns a whole [`Testbed`] on ports of its own, so tests run in parallel and in any order. Nothing is
//! waited for by time: what the relay has done is seen through its API or on a socket, each wait bounded by
//! [`PATIENCE`]. That something does *not* arrive is proven by order: a later event of the same device arrives next.

use std::time::Duration;

use serde_json::{Value, json};

pub(crate) mod cbs;
pub(crate) mod devhub;
pub(crate) mod device_event;
pub(crate) mod example;
pub(crate) mod grant_token;
pub(crate) mod injector;
pub(crate) mod native;
pub(crate) mod node_script;
pub(crate) mod packet;
pub(crate) mod polling;
pub(crate) mod process;
pub(crate) mod react_client;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod rest;
pub(crate) mod security_backend;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod tcp_proxy;

pub(crate) use devhub::Devhub;
pub(crate) use device_event::DeviceEvent;
pub(crate) use example::Example;
pub(crate) use grant_token::{GRANT_TOKEN_SECRET, grant_token};
pub(crate) use injector::Injector;
pub(crate) use process::Hubrelay;
pub(crate) use relay::{PRIMARY_KEY, Relay, SECONDARY_KEY};
pub(crate) use rest::{Answer, Rest};
pub(crate) use security_backend::{Language, SecurityBackend};
pub(crate) use session::{
    Session, connection_state, d2c_messages, desired_properties, device_twin, device_twin_at,
    direct_method, every_key, of_module, telemetry,
};
pub(crate) use socket::Socket;

/// Bound of every wait. Reached only when a promise is broken, so it is generous: tests share a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often the API is asked while waiting for it to show something.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A session id that no relay ever issued.
pub(crate) const UNKNOWN_SESSION: &str = "00000000-0000-4000-8000-000000000000";

/// A devhub, a relay that reads it, and a sender of device events.
pub(crate) struct Testbed {
    pub(crate) devhub: Devhub,
    pub(crate) relay: Relay,
    pub(crate) rest: Rest,
    pub(crate) injector: Injector,
}

impl Testbed {
    /// A relay with default options, ready to consume.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A relay with `options` in its environment, ready to consume.
    pub(crate) async fn with(options: &[(&str, &str)]) -> Self {
        Self::around(Devhub::start().await, options).await
    }

    /// A relay that reads a running devhub, with `options` in its environment, ready to consume.
    pub(crate) async fn around(devhub: Devhub, options: &[(&str, &str)]) -> Self {
        let relay = Relay::start(&devhub.event_hub_connection_string, options).await;
        let rest = relay.rest.clone();
        rest.ready().await;
        let injector = Injector::connect(&devhub.event_hub_connection_string).await;
        Self {
            devhub,
            relay,
            rest,
            injector,
        }
    }

    /// A relay that uses the stand-in's IoT hub too, with `options` in its environment, ready to consume.
    pub(crate) async fn with_iot_hub(options: &[(&str, &str)]) -> Self {
        Self::around_iot_hub(Devhub::start().await, options).await
    }

    /// As [`with_iot_hub`](Self::with_iot_hub), of a running devhub: the relay hears of nothing that happened there before.
    pub(crate) async fn around_iot_hub(devhub: Devhub, options: &[(&str, &str)]) -> Self {
        let service = devhub.service_connection_string();
        let authority = devhub.ca_certificate();
        let authority = authority.to_str().expect("the path is UTF-8");
        let mut all = vec![
            ("IOT_HUB_SERVICE_CONNECTION_STRING", &*service),
            ("HUBRELAY_IOT_HUB_CA_FILE", authority),
        ];
        all.extend_from_slice(options);
        Self::around(devhub, &all).await
    }

    /// Starts the relay, which has ended, with default options at the address that it had.
    pub(crate) async fn start_relay_again(&mut self) {
        self.start_relay_again_with(&[]).await;
    }

    /// Starts the relay, which has ended, with `options` at the address that it had.
    pub(crate) async fn start_relay_again_with(&mut self, options: &[(&str, &str)]) {
        let listen = self.rest.authority().to_owned();
        let mut options = options.to_vec();
        options.push(("HUBRELAY_LISTEN", &listen));
        self.relay = Relay::start(&self.devhub.event_hub_connection_string, &options).await;
        self.rest.ready().await;
    }

    /// A new session.
    pub(crate) async fn session(&self) -> Session {
        Session::create(&self.rest).await
    }

    /// A new session with its socket connected.
    pub(crate) async fn connected_session(&self) -> (Session, Socket) {
        let session = self.session().await;
        let socket = session.connect().await;
        (session, socket)
    }

    /// A connected session that is granted and subscribed to each of `wanted`.
    pub(crate) async fn following<const N: usize>(&self, wanted: [Value; N]) -> (Session, Socket) {
        let (session, socket) = self.connected_session().await;
        for what in &wanted {
            session.follow(what).await;
        }
        (session, socket)
    }

    /// Requires that a new session still gets what it asks for.
    pub(crate) async fn still_serves(&mut self) {
        let (_, mut socket) = self.following([telemetry("witness", "t")]).await;
        self.inject(DeviceEvent::telemetry("witness", &json!({"t": 1})))
            .await;
        assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
        self.rest.get("/status").await.says(200, "OK");
    }

    /// Publishes `event` and returns once the stand-in has accepted it.
    pub(crate) async fn inject(&mut self, event: DeviceEvent) {
        self.injector.inject(event).await;
    }

    /// Publishes telemetry of `device_id` and returns once the relay has processed it. The telemetry must hold a key.
    pub(crate) async fn process(&mut self, device_id: &str, telemetry: Value) {
        let (key, value) = telemetry
            .as_object()
            .and_then(|members| members.iter().next_back())
            .map(|(key, value)| (key.clone(), value.clone()))
            .expect("telemetry is an object with at least one key");
        self.inject(DeviceEvent::telemetry(device_id, &telemetry))
            .await;
        self.rest.last_value_becomes(device_id, &key, &value).await;
    }
}
