//! One device's connection to the hub: an MQTT client that does what the device's state machine wants
//! and tells it what the hub says.
//!
//! Sending never waits: what does not fit into the queue of a connection is not sent. Telemetry leaves
//! room in it for answers and reports.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, QoS,
    StateError, SubscribeFilter, SubscribeReasonCode,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::device::{Heard, Leaving};
use super::method::Answer;
use super::topic::{self, FromHub};

/// So much may wait for the network; telemetry only has the first part.
const QUEUED_MAX: usize = 1_024;
const TELEMETRY_QUEUED_MAX: usize = 960;

/// How long connecting may take, until the twin has been read.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// A twin answer is larger than any other packet: 8 KB of tags stay with the service, desired and
/// reported properties have 32 KB each, and JSON may escape characters.
const PACKET_BYTES_MAX: usize = 512 * 1024;

/// By which name devices know the hub.
pub(super) const HOST_NAME: &str = "localhost";

const API_VERSION: &str = "2021-04-12";

/// The request id of the one read of the twin on each connection; those of reports are numbers.
const TWIN_READ: &str = "twin";

/// Where the hub is, and as whom a device connects.
pub(super) struct Login<'a> {
    pub(super) address: SocketAddr,
    pub(super) device_id: &'a str,
    /// A shared access signature.
    pub(super) token: String,
}

/// Something that a device hears.
#[derive(Debug)]
pub(super) struct Hearing {
    /// The device's index.
    pub(super) device: usize,
    /// Which of its connections, from 1.
    pub(super) connection: u64,
    pub(super) heard: Heard,
}

/// Tells one device what its connection brings.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) device: usize,
    pub(super) connection: u64,
    pub(super) hearings: mpsc::Sender<Hearing>,
}

/// A connection that is up or comes up. Dropped, it is cut without a word.
#[derive(Debug)]
pub(super) struct Connection {
    client: AsyncClient,
    queued: Arc<AtomicUsize>,
    telemetry_topic: String,
    reports: u64,
    cut: DropGuard,
}

/// There is no room for what was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Mqtt(#[from] Box<ConnectionError>),
    #[error("the hub refuses a subscription")]
    SubscriptionRefused,
    #[error("the hub answers the read of the twin with status {0}")]
    TwinRefused(u16),
    #[error("the hub sends a twin that is no JSON")]
    Twin(#[from] serde_json::Error),
    #[error("the hub takes too long")]
    Timeout,
    #[error("there is too much to send")]
    QueueFull,
}

impl Connection {
    /// Begins to connect. The future is the connection's life: it must be polled until it ends, which it
    /// does when the connection has ended for whatever reason, or `stop` is cancelled.
    pub(super) fn open(
        login: Login<'_>,
        listener: Listener,
        stop: &CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let telemetry_topic = topic::telemetry(login.device_id);
        let device_id = login.device_id.to_owned();
        let (client, mut event_loop) = AsyncClient::new(mqtt_options(login), QUEUED_MAX);
        // An answer must not wait for the acknowledgement of what went before it.
        event_loop.network_options.set_tcp_nodelay(true);
        let queued = Arc::new(AtomicUsize::new(0));
        let cut = stop.child_token();
        let conversation = Conversation {
            event_loop,
            client: client.clone(),
            queued: Arc::clone(&queued),
            listener,
            stage: Stage::Connecting,
        };
        let connection = Self {
            client,
            queued,
            telemetry_topic,
            reports: 0,
            cut: cut.clone().drop_guard(),
        };
        let life = async move {
            let listener = conversation.listener.clone();
            let Some(result) = cut.run_until_cancelled(conversation.hold()).await else {
                return;
            };
            match result {
                Ok(()) => return,
                Err(error) if error.is_end_by_hub() => {
                    tracing::debug!(device.id = device_id, "the hub ended a device's connection");
                }
                Err(error) => tracing::warn!(
                    device.id = device_id,
                    error.message = %error,
                    "a simulated device has lost its connection",
                ),
            }
            listener.tell(Heard::Lost).await;
        };
        (connection, life)
    }

    /// Sends a message: a JSON object.
    pub(super) fn send(&self, body: Bytes) -> Result<(), Full> {
        if self.queued.load(Ordering::Relaxed) >= TELEMETRY_QUEUED_MAX {
            return Err(Full);
        }
        self.publish(&self.telemetry_topic, body.into())
    }

    /// Changes the reported properties.
    pub(super) fn report(&mut self, patch: Map<String, Value>) -> Result<(), Full> {
        self.reports += 1;
        let patch = Value::Object(patch).to_string();
        self.publish(&topic::report(self.reports), patch.into())
    }

    /// Answers a method.
    pub(super) fn answer(&self, request_id: &str, answer: Answer) -> Result<(), Full> {
        let Answer { status, payload } = answer;
        self.publish(&topic::method_answer(status, request_id), payload.into())
    }

    /// Ends the connection.
    pub(super) fn leave(self, leaving: Leaving) {
        match leaving {
            Leaving::Goodbye => {
                // It goes out behind all that is queued, and ends the connection's life by itself.
                if self.client.try_disconnect().is_ok() {
                    self.cut.disarm();
                }
            }
            Leaving::Lost => {}
        }
    }

    fn publish(&self, topic: &str, payload: Vec<u8>) -> Result<(), Full> {
        self.queued.fetch_add(1, Ordering::Relaxed);
        let sent = self
            .client
            .try_publish(topic, QoS::AtLeastOnce, false, payload);
        sent.map_err(|_| {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            Full
        })
    }
}

impl Listener {
    async fn tell(&self, heard: Heard) {
        let hearing = Hearing {
            device: self.device,
            connection: self.connection,
            heard,
        };
        // Without a receiver the simulation is being stopped.
        let _ = self.hearings.send(hearing).await;
    }
}

impl Error {
    /// Whether the hub has closed a connection that worked, as it does at times.
    fn is_end_by_hub(&self) -> bool {
        let Self::Mqtt(error) = self else {
            return false;
        };
        match &**error {
            ConnectionError::MqttState(StateError::ConnectionAborted) => true,
            ConnectionError::MqttState(StateError::Io(error)) | ConnectionError::Io(error) => {
                matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                )
            }
            _ => false,
        }
    }
}

/// The task's side of a connection.
struct Conversation {
    event_loop: EventLoop,
    client: AsyncClient,
    queued: Arc<AtomicUsize>,
    listener: Listener,
    stage: Stage,
}

/// How far connecting has come. A device listens to its twin before it reads it, so that nothing that
/// is desired goes by unseen, and to methods last, so that they find it ready.
#[derive(Debug)]
enum Stage {
    Connecting,
    SubscribingTwin,
    ReadingTwin,
    SubscribingMethods { desired: Value },
    Connected,
}

impl Conversation {
    /// Connects, and passes on what the hub says until the device says goodbye.
    async fn hold(mut self) -> Result<(), Error> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        loop {
            let event = if matches!(self.stage, Stage::Connected) {
                self.event_loop.poll().await.map_err(Box::new)?
            } else {
                timeout_at(deadline, self.event_loop.poll())
                    .await
                    .map_err(|_| Error::Timeout)?
                    .map_err(Box::new)?
            };
            match event {
                Event::Incoming(Packet::ConnAck(_)) => {
                    self.subscribe(&[topic::TWIN_ANSWERS, topic::DESIRED])?;
                    self.stage = Stage::SubscribingTwin;
                }
                Event::Incoming(Packet::SubAck(ack)) => {
                    if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                        return Err(Error::SubscriptionRefused);
                    }
                    self.subscribed().await?;
                }
                Event::Incoming(Packet::Publish(message)) => self.take(&message).await?,
                Event::Outgoing(Outgoing::Publish(_)) => {
                    self.queued.fetch_sub(1, Ordering::Relaxed);
                }
                Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    }

    /// Goes on to the next stage after a subscription.
    async fn subscribed(&mut self) -> Result<(), Error> {
        self.stage = match mem::replace(&mut self.stage, Stage::Connected) {
            Stage::SubscribingTwin => {
                self.queued.fetch_add(1, Ordering::Relaxed);
                self.client
                    .try_publish(
                        topic::twin_read(TWIN_READ),
                        QoS::AtMostOnce,
                        false,
                        Vec::new(),
                    )
                    .map_err(|_| Error::QueueFull)?;
                Stage::ReadingTwin
            }
            Stage::SubscribingMethods { desired } => {
                self.listener.tell(Heard::Connected { desired }).await;
                Stage::Connected
            }
            unchanged => unchanged,
        };
        Ok(())
    }

    async fn take(&mut self, message: &Publish) -> Result<(), Error> {
        match topic::parse(&message.topic) {
            Some(FromHub::Method { name, request_id }) => {
                let heard = Heard::Method {
                    request_id: request_id.to_owned(),
                    name: name.to_owned(),
                    payload: message.payload.clone(),
                };
                self.listener.tell(heard).await;
            }
            Some(FromHub::Desired { version }) => {
                let patch = serde_json::from_slice(&message.payload)?;
                self.listener.tell(Heard::Desired { version, patch }).await;
            }
            Some(FromHub::TwinAnswer { status, request_id }) if request_id == TWIN_READ => {
                if status != 200 {
                    return Err(Error::TwinRefused(status));
                }
                let TwinAnswer { desired } = serde_json::from_slice(&message.payload)?;
                self.subscribe(&[topic::METHODS])?;
                self.stage = Stage::SubscribingMethods { desired };
            }
            Some(FromHub::TwinAnswer { status, .. }) if status >= 300 => {
                tracing::warn!(status, "the hub refuses what a simulated device reports");
            }
            Some(FromHub::TwinAnswer { .. }) => {}
            None => tracing::debug!(
                topic = message.topic,
                "a device got a message it expects not"
            ),
        }
        Ok(())
    }

    fn subscribe(&self, filters: &[&str]) -> Result<(), Error> {
        let filters = filters
            .iter()
            .map(|filter| SubscribeFilter::new((*filter).to_owned(), QoS::AtLeastOnce));
        self.client
            .try_subscribe_many(filters)
            .map_err(|_| Error::QueueFull)
    }
}

/// What a device reads of its twin and makes use of.
#[derive(Deserialize)]
struct TwinAnswer {
    desired: Value,
}

fn mqtt_options(login: Login<'_>) -> MqttOptions {
    let Login {
        address,
        device_id,
        token,
    } = login;
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let mut options = MqttOptions::new(device_id, host, address.port());
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX)
        .set_credentials(
            format!("{HOST_NAME}/{device_id}/?api-version={API_VERSION}"),
            token,
        );
    options
}
