//! The connections of all simulated devices, and the tasks that hold them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Full, HOST_NAME, Hearing, Listener, Login};
use super::device::{Action, Heard};
use super::fleet::DeviceAction;
use crate::sas::{self, SharedAccessKey};

/// So many hearings of all devices may wait; then their connections wait.
const HEARINGS_MAX: usize = 256;

/// How long a token of a device is good. When it runs out, the hub ends the connection and the device
/// comes back with a new one.
const TOKEN_LIFE_MS: i64 = 24 * 60 * 60 * 1_000;

/// How often it is said that messages do not fit.
const UNSENT_SAID_EVERY_MS: i64 = 10_000;

/// A device's id and key.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) device_id: String,
    pub(super) key: SharedAccessKey,
}

pub(super) struct Connections {
    address: SocketAddr,
    devices: Vec<Device>,
    tasks: JoinSet<()>,
    hearings: mpsc::Sender<Hearing>,
    stop: CancellationToken,
    unsent: u64,
    unsent_said_at_ms: i64,
}

struct Device {
    credentials: Credentials,
    /// How many connections there have been.
    connection_number: u64,
    connection: Option<Connection>,
}

impl Connections {
    /// No connections yet; the receiver gets what devices hear once there are some.
    pub(super) fn new(
        address: SocketAddr,
        credentials: Vec<Credentials>,
    ) -> (Self, mpsc::Receiver<Hearing>) {
        let (hearings, receiver) = mpsc::channel(HEARINGS_MAX);
        let devices = credentials
            .into_iter()
            .map(|credentials| Device {
                credentials,
                connection_number: 0,
                connection: None,
            })
            .collect();
        let connections = Self {
            address,
            devices,
            tasks: JoinSet::new(),
            hearings,
            stop: CancellationToken::new(),
            unsent: 0,
            unsent_said_at_ms: i64::MIN,
        };
        (connections, receiver)
    }

    /// Takes note of a hearing; `false` when it comes from a connection that the device has left.
    pub(super) fn admit(&mut self, hearing: &Hearing) -> bool {
        let device = &mut self.devices[hearing.device];
        let is_current =
            device.connection.is_some() && device.connection_number == hearing.connection;
        if is_current && hearing.heard == Heard::Lost {
            device.connection = None;
        }
        is_current
    }

    /// Does what a device wants. What does not fit is not sent.
    pub(super) fn carry_out(&mut self, DeviceAction { device, action }: DeviceAction, now_ms: i64) {
        if action == Action::Connect {
            self.connect(device, now_ms);
            return;
        }
        let connection = &mut self.devices[device].connection;
        if let Action::Leave(leaving) = action {
            if let Some(connection) = connection.take() {
                connection.leave(leaving);
            }
            return;
        }
        let Some(connection) = connection else { return };
        let sent = match action {
            Action::Send(body) => connection.send(body),
            Action::Report(patch) => connection.report(patch),
            Action::Answer { request_id, answer } => connection.answer(&request_id, answer),
            Action::Connect | Action::Leave(_) => Ok(()),
        };
        if let Err(Full) = sent {
            self.count_unsent(now_ms);
        }
    }

    /// Waits until a connection has ended, and forgets its task.
    pub(super) async fn ended(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(error.message = %error, "a simulated device's connection has crashed");
        }
    }

    /// Whether there is a connection whose end could be awaited.
    pub(super) fn any(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Cuts all connections, and returns when they are gone.
    pub(super) async fn cut(mut self) {
        self.stop.cancel();
        self.devices.clear();
        while self.any() {
            self.ended().await;
        }
    }

    fn connect(&mut self, index: usize, now_ms: i64) {
        let device = &mut self.devices[index];
        device.connection_number += 1;
        let Credentials { device_id, key } = &device.credentials;
        let login = Login {
            address: self.address,
            device_id,
            token: token(device_id, key, now_ms + TOKEN_LIFE_MS),
        };
        let listener = Listener {
            device: index,
            connection: device.connection_number,
            hearings: self.hearings.clone(),
        };
        let (connection, life) = Connection::open(login, listener, &self.stop);
        device.connection = Some(connection);
        self.tasks.spawn(life);
    }

    fn count_unsent(&mut self, now_ms: i64) {
        self.unsent += 1;
        if now_ms.saturating_sub(self.unsent_said_at_ms) >= UNSENT_SAID_EVERY_MS {
            tracing::warn!(
                messages = self.unsent,
                "simulated devices have more to send than their connections take",
            );
            self.unsent = 0;
            self.unsent_said_at_ms = now_ms;
        }
    }
}

/// A token that proves that a device is who it is.
fn token(device_id: &str, key: &SharedAccessKey, expires_at_ms: i64) -> String {
    let resource = format!("{HOST_NAME}/devices/{device_id}");
    let expires = Duration::from_millis(expires_at_ms.try_into().unwrap_or(0));
    sas::sign_for_iot_hub(&resource, None, key, expires).expect("a key that the hub made is base64")
}
