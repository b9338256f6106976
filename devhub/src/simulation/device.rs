//! One simulated device: when it measures, when its connection comes and goes, when its twin changes.

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, json};
use uuid::Uuid;

use super::machine::{Kind, Machine};
use crate::event::Event;
use crate::iot_hub::built_in_endpoint::{
    ConnectionChange, Notification, Sender, TwinOperation, telemetry,
};
use crate::iot_hub::connection_sequence::ConnectionSequence;
use crate::iot_hub::twin::Twin;
use crate::iot_hub::{AuthKind, AuthMethod, AuthScope, IdentityId, TelemetryMessage};

/// How long a device that is lost now and then stays online, offline, and a twin stays as it is; a
/// length is drawn from its range each time.
const ONLINE_MS: std::ops::Range<i64> = 40_000..120_000;
const OFFLINE_MS: std::ops::Range<i64> = 10_000..25_000;
const REPORT_INTERVAL_MS: std::ops::Range<i64> = 45_000..150_000;

/// One in so many devices is lost now and then.
const UNSTEADY_ONE_IN: usize = 3;

#[derive(Debug)]
pub(super) struct Device {
    id: IdentityId,
    generation_id: String,
    machine: Machine,
    interval_ms: i64,
    connection: Connection,
    /// `None` for a device that stays online for good.
    next_connection_change_ms: Option<i64>,
    next_telemetry_ms: i64,
    next_report_ms: i64,
    connection_sequence: ConnectionSequence,
    twin: Twin,
    /// Whether it has told the hub about itself since it last connected.
    introduced: bool,
    /// Whether it is lost now and then.
    unsteady: bool,
    starts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Online,
    Offline,
}

/// The id of the device that is `index`-th of all, from 0.
pub(super) fn device_id(index: usize) -> String {
    format!("{}-{:02}", Kind::of(index).name(), index + 1)
}

impl Device {
    /// The device that is `index`-th of all, from 0; offline until `connects_at_ms`.
    pub(super) fn new(index: usize, connects_at_ms: i64, rng: &mut StdRng) -> Self {
        let kind = Kind::of(index);
        Self {
            id: IdentityId::device(device_id(index)).expect("made of letters and digits"),
            generation_id: rng
                .random_range(637_000_000_000_000_000_u64..639_000_000_000_000_000)
                .to_string(),
            machine: Machine::new(kind, rng),
            interval_ms: kind.interval_ms(),
            connection: Connection::Offline,
            next_connection_change_ms: Some(connects_at_ms),
            next_telemetry_ms: connects_at_ms + rng.random_range(0..kind.interval_ms()),
            next_report_ms: connects_at_ms,
            connection_sequence: ConnectionSequence::default(),
            twin: Twin::new(connects_at_ms),
            introduced: false,
            unsteady: index % UNSTEADY_ONE_IN == UNSTEADY_ONE_IN - 1,
            starts: 0,
        }
    }

    pub(super) fn id(&self) -> &str {
        self.id.device_id()
    }

    pub(super) fn is_online(&self) -> bool {
        self.connection == Connection::Online
    }

    /// Connects, disconnects and reports, whatever is due at `now_ms`. What was missed because nobody
    /// called in time is not made up for.
    pub(super) fn live(
        &mut self,
        hub_name: &str,
        now_ms: i64,
        rng: &mut StdRng,
    ) -> impl Iterator<Item = Event> + use<> {
        let connection_change = self
            .next_connection_change_ms
            .is_some_and(|due_ms| due_ms <= now_ms)
            .then(|| self.change_connection(hub_name, now_ms, rng));
        let report = (self.is_online() && self.next_report_ms <= now_ms)
            .then(|| self.report(hub_name, now_ms, rng));
        connection_change.into_iter().chain(report)
    }

    /// A message, if one is due at `now_ms` by the device's own interval.
    pub(super) fn telemetry_due(&mut self, now_ms: i64, rng: &mut StdRng) -> Option<Event> {
        if !self.is_online() || self.next_telemetry_ms > now_ms {
            return None;
        }
        // A device that is late goes on from now instead of catching up.
        let on_time = self.next_telemetry_ms + self.interval_ms;
        self.next_telemetry_ms = if on_time > now_ms {
            on_time
        } else {
            now_ms + self.interval_ms
        };
        Some(self.telemetry(now_ms, rng))
    }

    /// A message now.
    pub(super) fn telemetry(&self, now_ms: i64, rng: &mut StdRng) -> Event {
        let body = Bytes::from(self.machine.measure(now_ms, rng));
        let sender = Sender {
            id: &self.id,
            generation_id: &self.generation_id,
            auth_method: AuthMethod {
                scope: AuthScope::Device,
                kind: AuthKind::Sas,
                expires_at_ms: None,
            },
        };
        telemetry(sender, TelemetryMessage::json(body), now_ms)
    }

    fn change_connection(&mut self, hub_name: &str, now_ms: i64, rng: &mut StdRng) -> Event {
        let (change, lasts_ms) = match self.connection {
            Connection::Offline => {
                self.connection = Connection::Online;
                self.starts += 1;
                self.next_report_ms = now_ms;
                self.next_telemetry_ms = self.next_telemetry_ms.max(now_ms);
                self.introduced = false;
                let lasts_ms = self.unsteady.then(|| rng.random_range(ONLINE_MS));
                (ConnectionChange::Connected, lasts_ms)
            }
            Connection::Online => {
                self.connection = Connection::Offline;
                (
                    ConnectionChange::Disconnected,
                    Some(rng.random_range(OFFLINE_MS)),
                )
            }
        };
        self.next_connection_change_ms = lasts_ms.map(|lasts_ms| now_ms + lasts_ms);
        let sequence_number = self.connection_sequence.next(now_ms);
        self.notification(hub_name, now_ms, rng)
            .connection_state(change, sequence_number)
    }

    /// Tells the hub about itself: everything after connecting, then what changes.
    fn report(&mut self, hub_name: &str, now_ms: i64, rng: &mut StdRng) -> Event {
        self.next_report_ms = now_ms + rng.random_range(REPORT_INTERVAL_MS);
        let mut patch = Map::new();
        let signal_dbm = rng.random_range(-92..=-48);
        patch.insert("network".to_owned(), json!({ "signalDbm": signal_dbm }));
        if !self.introduced {
            self.introduced = true;
            patch.insert("firmware".to_owned(), "2.4.1".into());
            patch.insert("startCount".to_owned(), self.starts.into());
            patch.insert("telemetryIntervalMs".to_owned(), self.interval_ms.into());
        }
        let change = self
            .twin
            .report(&patch, now_ms)
            .expect("what a simulated device reports is small and plain");
        self.notification(hub_name, now_ms, rng)
            .twin_change(TwinOperation::Update, &change.event_body)
    }

    fn notification<'a>(
        &'a self,
        hub_name: &'a str,
        at_ms: i64,
        rng: &mut StdRng,
    ) -> Notification<'a> {
        Notification {
            hub_name,
            id: &self.id,
            at_ms,
            correlation_id: Uuid::from_u128(rng.random()),
        }
    }
}
