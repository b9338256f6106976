//! A devhub in this process, for one test.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use devhub::clock::{Clock, SystemClock};
use devhub::event::Event;
use devhub::event_hub::EventHub;
use devhub::{Devhub, Options};
use serde_json::Value;
use tempfile::TempDir;

/// A devhub on ports of its own, with its certificates in a folder of its own. It ends with the test.
pub(crate) struct Hub {
    devhub: Devhub,
    clock: Arc<AdvancedClock>,
    _tls_dir: TempDir,
}

impl Hub {
    pub(crate) async fn start(partitions: u16) -> Self {
        Self::start_with(Options {
            partitions,
            ..Options::default()
        })
        .await
    }

    /// A hub with one partition and an IoT Hub that devices reach at `address`.
    pub(crate) async fn start_with_mqtt(address: SocketAddr) -> Self {
        Self::start_with(Options {
            partitions: 1,
            mqtt_tls: Some(address),
            ..Options::default()
        })
        .await
    }

    /// A hub with one partition and an IoT Hub that services reach.
    pub(crate) async fn start_with_rest() -> Self {
        Self::start_with(Options {
            partitions: 1,
            rest: Some("127.0.0.1:0".parse().unwrap()),
            ..Options::default()
        })
        .await
    }

    async fn start_with(options: Options) -> Self {
        let tls_dir = tempfile::tempdir().unwrap();
        let clock = Arc::<AdvancedClock>::default();
        let options = Options {
            amqp_tls: Some("127.0.0.1:0".parse().unwrap()),
            tls_dir: Some(tls_dir.path().to_owned()),
            clock: clock.clone(),
            ..options
        };
        Self {
            devhub: Devhub::start(options).await.unwrap(),
            clock,
            _tls_dir: tls_dir,
        }
    }

    pub(crate) fn devhub(&self) -> &Devhub {
        &self.devhub
    }

    pub(crate) fn events(&self) -> &EventHub {
        self.devhub.event_hub()
    }

    /// Publishes an event with a JSON body and nothing else.
    pub(crate) fn publish_json(&self, partition_key: &str, body: &Value) {
        let event = Event {
            body: Bytes::from(body.to_string()),
            ..Event::default()
        };
        self.events().publish(partition_key, &event);
    }

    /// Puts a second between what was published before and what is published after.
    pub(crate) fn let_a_second_pass(&self) {
        self.clock.ahead_ms.fetch_add(1_000, Ordering::Relaxed);
    }

    pub(crate) fn connection_string(&self) -> String {
        self.devhub.event_hub_connection_string()
    }

    pub(crate) fn connection_string_with_wrong_key(&self) -> String {
        self.connection_string()
            .replace("SharedAccessKey=", "SharedAccessKey=wrong")
    }

    pub(crate) fn tls_connection_string(&self) -> String {
        self.devhub.tls_connection_string().unwrap()
    }

    /// Where to reach the hub by TLS, for the SDK that does not read the port from a connection string.
    pub(crate) fn tls_endpoint(&self) -> String {
        let address = self.devhub.amqp_tls_address().unwrap();
        format!("sb://localhost:{}", address.port())
    }

    pub(crate) fn certificate_authority(&self) -> &Path {
        self.devhub.ca_path().unwrap()
    }
}

/// The machine's clock, some time ahead: near enough for the SDKs' tokens, and free to go on.
#[derive(Debug, Default)]
struct AdvancedClock {
    ahead_ms: AtomicI64,
}

impl Clock for AdvancedClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }
}
