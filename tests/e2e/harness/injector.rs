//! Publishes device events into the stand-in over AMQP 1.0.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fe2o3_amqp::{
    Connection, Sender, Session, connection::ConnectionHandle, sasl_profile::SaslProfile,
    session::SessionHandle,
};
use fe2o3_amqp_types::messaging::Outcome;
use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{DeviceEvent, PATIENCE, cbs::EventHub};

/// A sender that is logged in to the event hub.
pub(crate) struct Injector {
    event_hub: EventHub,
    sender: Sender,
    session: SessionHandle<()>,
    _connection: ConnectionHandle<()>,
}

impl Injector {
    /// Connects, authenticates and attaches a sender to the event hub.
    pub(crate) async fn connect(connection_string: &str) -> Self {
        timeout(PATIENCE, Self::log_in(connection_string))
            .await
            .expect("the stand-in lets a sender in")
    }

    async fn log_in(connection_string: &str) -> Self {
        let event_hub = EventHub::parse(connection_string);
        let stream = TcpStream::connect(&event_hub.authority)
            .await
            .expect("the stand-in listens");
        stream.set_nodelay(true).expect("the socket is open");
        let host = event_hub.authority.split(':').next();
        let mut connection = Connection::builder()
            .container_id("e2e-injector")
            .hostname(host)
            .scheme("amqp")
            .sasl_profile(SaslProfile::Anonymous)
            .open_with_stream(stream)
            .await
            .expect("the connection opens");
        let mut session = Session::begin(&mut connection)
            .await
            .expect("a session begins");
        event_hub.put_token(&mut session).await;
        let sender = Sender::attach(&mut session, "injector", event_hub.name.as_str())
            .await
            .expect("the sender attaches");
        Self {
            event_hub,
            sender,
            session,
            _connection: connection,
        }
    }

    /// Publishes `event` and returns once it is accepted. Events of one device keep their order.
    pub(crate) async fn inject(&mut self, event: DeviceEvent) {
        let message = event.into_message(true);
        let outcome = timeout(PATIENCE, self.sender.send(message))
            .await
            .expect("the stand-in answers")
            .expect("the event is sent");
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    }

    /// Publishes `event` to one partition, on a link of its own.
    pub(crate) async fn inject_into_partition(&mut self, partition_id: u32, event: DeviceEvent) {
        let target = format!("{}/Partitions/{partition_id}", self.event_hub.name);
        let name = format!("injector-{partition_id}");
        let mut sender = Sender::attach(&mut self.session, name, target)
            .await
            .expect("the sender attaches");
        let outcome = sender
            .send(event.into_message(false))
            .await
            .expect("the event is sent");
        assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
        sender.close().await.expect("the sender detaches");
    }

    /// Publishes telemetry of `device_id` without pause until stopped: `{<key>: n}` with n counting from 1.
    pub(crate) fn flood(self, device_id: &str, key: &str) -> Flood {
        self.flood_paced(device_id, key, Duration::ZERO)
    }

    /// Like [`Self::flood`], with a pause after each event.
    pub(crate) fn flood_paced(mut self, device_id: &str, key: &str, pause: Duration) -> Flood {
        let accepted = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (accepted, stop) = (Arc::clone(&accepted), stop.clone());
            let (device_id, key) = (device_id.to_owned(), key.to_owned());
            async move {
                while !stop.is_cancelled() {
                    let n = accepted.load(Ordering::Relaxed) + 1;
                    self.inject(DeviceEvent::telemetry(
                        &device_id,
                        &json!({ key.as_str(): n }),
                    ))
                    .await;
                    accepted.store(n, Ordering::Release);
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                }
                self
            }
        });
        Flood {
            accepted,
            stop,
            task: AbortOnDropHandle::new(task),
        }
    }
}

/// An injector that runs in the background.
pub(crate) struct Flood {
    accepted: Arc<AtomicU64>,
    stop: CancellationToken,
    task: AbortOnDropHandle<Injector>,
}

impl Flood {
    /// How many events the stand-in has accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Stops after the event under way and gives the injector back.
    pub(crate) async fn stop(self) -> Injector {
        self.stop.cancel();
        self.task.await.expect("the injector goes on until stopped")
    }
}
