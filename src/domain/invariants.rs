//! The promises of the domain as properties: random histories are played against sessions, a shard and outboxes on one
//! side and a model on the other that is too simple to be wrong.
//!
//! Every telemetry value is the number of the message that carried it, so order, gaps and repetitions show in the
//! values.

mod native;
mod twins;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::device_message::{Content, DeviceMessage, MessageText, TelemetryMessage};
use super::grant::Grant;
use super::id::{DeviceId, SessionId, TelemetryKey};
use super::limits::{OutboxLimits, SessionLimits, ShardLimits};
use super::outbox::{Outbox, Skipped};
use super::raw_json::RawJson;
use super::session::Session;
use super::shard::{Shard, ShardSettings, TwinCache};
use super::subscription::{Delivery, Subscription};
use super::telemetry::tests::telemetry;
use super::time::{Now, Timestamp};
use super::update::{Update, UpdateBody};

const DEVICES: [&str; 2] = ["d1", "d2"];
const KEYS: [&str; 3] = ["a", "b", "c"];
const SESSIONS: usize = 3;
const SESSION_LIMITS: SessionLimits = SessionLimits {
    grants_max: 100,
    subscriptions_max: 100,
};
const TIGHT: OutboxLimits = OutboxLimits {
    frames_max: 2,
    bytes_max: 100_000,
    replay_frames_max: 1,
    replay_bytes_max: 100_000,
};
const WIDE: OutboxLimits = OutboxLimits {
    frames_max: 100_000,
    bytes_max: 100_000_000,
    replay_frames_max: 100_000,
    replay_bytes_max: 100_000_000,
};

/// One thing that happens. Numbers name sessions, devices and keys by their place.
#[derive(Clone, Debug)]
enum Step {
    Send {
        device: usize,
        keys: BTreeSet<usize>,
    },
    SendConnectionState {
        device: usize,
        connected: bool,
    },
    Grant {
        session: usize,
        device: usize,
        what: usize,
    },
    Revoke {
        session: usize,
        device: usize,
        what: usize,
    },
    Subscribe {
        session: usize,
        device: usize,
        what: usize,
    },
    Unsubscribe {
        session: usize,
        device: usize,
        what: usize,
    },
    Read {
        session: usize,
        updates: usize,
    },
    Wait {
        ms: u64,
    },
}

/// What a grant or subscription is about: a key, all keys, messages or the connection state.
const WHATS: usize = KEYS.len() + 3;

fn subscription(what: usize) -> Subscription {
    match what {
        what if what < KEYS.len() => Subscription::Telemetry(TelemetryKey::new(KEYS[what])),
        what if what == KEYS.len() => Subscription::Telemetry(None),
        what if what == KEYS.len() + 1 => Subscription::D2cMessages,
        _ => Subscription::ConnectionState,
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (session, device, what) = (0..SESSIONS, 0..DEVICES.len(), 0..WHATS);
    let target = (session.clone(), device.clone(), what);
    prop_oneof![
        8 => (device.clone(), prop::collection::btree_set(0..KEYS.len(), 1..=KEYS.len()))
            .prop_map(|(device, keys)| Step::Send { device, keys }),
        2 => (device, any::<bool>())
            .prop_map(|(device, connected)| Step::SendConnectionState { device, connected }),
        3 => target.clone().prop_map(|(session, device, what)| Step::Grant { session, device, what }),
        1 => target.clone().prop_map(|(session, device, what)| Step::Revoke { session, device, what }),
        3 => target.clone().prop_map(|(session, device, what)| Step::Subscribe { session, device, what }),
        1 => target.prop_map(|(session, device, what)| Step::Unsubscribe { session, device, what }),
        3 => (session, 1..4_usize).prop_map(|(session, updates)| Step::Read { session, updates }),
        1 => (1..50_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..200)
}

/// What the model remembers of a session: bare sets, searched in full.
#[derive(Default)]
struct ModelSession {
    grants: BTreeSet<(usize, usize)>,
    subscriptions: BTreeSet<(usize, usize)>,
}

const ALL_KEYS: usize = KEYS.len();

impl ModelSession {
    fn granted(&self, device: usize, what: usize) -> bool {
        self.grants.contains(&(device, what))
            || (what < ALL_KEYS && self.grants.contains(&(device, ALL_KEYS)))
    }

    fn wants(&self, device: usize, what: usize) -> bool {
        self.subscriptions.contains(&(device, what))
            || (what < ALL_KEYS && self.subscriptions.contains(&(device, ALL_KEYS)))
    }

    fn revoke(&mut self, device: usize, what: usize) {
        self.grants.remove(&(device, what));
        if what == ALL_KEYS {
            self.grants
                .retain(|grant| grant.0 != device || grant.1 > ALL_KEYS);
        }
        let uncovered: Vec<_> = self
            .subscriptions
            .iter()
            .copied()
            .filter(|(device, what)| !self.granted(*device, *what))
            .collect();
        for subscription in uncovered {
            self.subscriptions.remove(&subscription);
        }
    }
}

/// What one client got, by device and key.
#[derive(Default)]
struct Received {
    values: BTreeMap<(usize, usize), Vec<u64>>,
    newest: BTreeMap<usize, u64>,
    connection_state: BTreeMap<usize, bool>,
    count: u64,
}

/// Values that a session must get: sent while it wanted the key, and wanted without a break since.
#[derive(Default)]
struct Owed {
    values: BTreeMap<(usize, usize), Vec<u64>>,
    connection_state: BTreeMap<usize, bool>,
    ever: u64,
}

struct World {
    shard: Shard<usize>,
    sessions: Vec<Session>,
    outboxes: Vec<Outbox>,
    model: Vec<ModelSession>,
    received: Vec<Received>,
    owed: Vec<Owed>,
    /// The values that the snapshot taken at a subscription held, by (session, device, key).
    snapshots: BTreeMap<(usize, usize, usize), Option<u64>>,
    /// All values ever sent, by (device, key).
    sent: BTreeMap<(usize, usize), Vec<u64>>,
    messages: u64,
    now: Now,
}

impl World {
    fn new(outbox_limits: OutboxLimits, throttling_interval_ms: Option<u64>) -> Self {
        let settings = ShardSettings {
            limits: ShardLimits {
                devices_max: 100,
                keys_per_device_max: 100,
            },
            throttling_interval_ms,
            connection_state_ttl_ms: None,
            twin_cache: TwinCache::Off,
            reads_twins: false,
            reads_connection_states: false,
        };
        Self {
            shard: Shard::new(settings),
            sessions: (0..SESSIONS).map(|_| Session::new(0)).collect(),
            outboxes: (0..SESSIONS).map(|_| Outbox::new(outbox_limits)).collect(),
            model: (0..SESSIONS).map(|_| ModelSession::default()).collect(),
            received: (0..SESSIONS).map(|_| Received::default()).collect(),
            owed: (0..SESSIONS).map(|_| Owed::default()).collect(),
            snapshots: BTreeMap::new(),
            sent: BTreeMap::new(),
            messages: 0,
            now: Now {
                monotonic_ms: 0,
                unix_ms: 0,
            },
        }
    }

    fn play(
        outbox_limits: OutboxLimits,
        throttling_interval_ms: Option<u64>,
        history: &[Step],
    ) -> Self {
        let mut world = Self::new(outbox_limits, throttling_interval_ms);
        for step in history {
            world.step(step);
        }
        // The input stops; everybody reads what is left.
        world.wait(1_000);
        for session in 0..SESSIONS {
            world.read(session, usize::MAX);
        }
        world
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send { device, keys } => self.send(*device, keys),
            Step::SendConnectionState { device, connected } => {
                self.send_connection_state(*device, *connected);
            }
            Step::Grant {
                session,
                device,
                what,
            } => {
                let grant = subscription(*what).needed_grant();
                self.sessions[*session]
                    .grant(&device_id(*device), grant, None, &SESSION_LIMITS)
                    .unwrap();
                self.model[*session].grants.insert((*device, *what));
            }
            Step::Revoke {
                session,
                device,
                what,
            } => {
                let grant: Grant = subscription(*what).needed_grant();
                self.sessions[*session].revoke(&device_id(*device), &grant);
                self.model[*session].revoke(*device, *what);
                self.narrow(*session, *device);
            }
            Step::Subscribe {
                session,
                device,
                what,
            } => self.subscribe(*session, *device, *what),
            Step::Unsubscribe {
                session,
                device,
                what,
            } => {
                let outcome =
                    self.sessions[*session].unsubscribe(&device_id(*device), &subscription(*what));
                if outcome.is_ok() {
                    self.model[*session].subscriptions.remove(&(*device, *what));
                    self.narrow(*session, *device);
                }
            }
            Step::Read { session, updates } => self.read(*session, *updates),
            Step::Wait { ms } => self.wait(*ms),
        }
    }

    fn send(&mut self, device: usize, keys: &BTreeSet<usize>) {
        self.messages += 1;
        let number = self.messages;
        let value = number.to_string();
        let members: Vec<_> = keys
            .iter()
            .map(|key| (KEYS[*key], value.as_str()))
            .collect();
        let message = TelemetryMessage {
            telemetry: Some(telemetry(&members)),
            connection_state: None,
            message: MessageText::Own(RawJson::from_valid(value.as_str())),
        };
        for key in keys {
            self.sent.entry((device, *key)).or_default().push(number);
            for session in 0..SESSIONS {
                if self.model[session].wants(device, *key) {
                    self.owed[session]
                        .values
                        .entry((device, *key))
                        .or_default()
                        .push(number);
                    self.owed[session].ever += 1;
                }
            }
        }
        for session in 0..SESSIONS {
            self.owed[session].ever += u64::from(self.model[session].wants(device, KEYS.len() + 1));
        }
        self.apply(device, Content::Telemetry(message));
    }

    fn send_connection_state(&mut self, device: usize, connected: bool) {
        for session in 0..SESSIONS {
            if self.model[session].wants(device, KEYS.len() + 2) {
                self.owed[session]
                    .connection_state
                    .insert(device, connected);
                self.owed[session].ever += 1;
            }
        }
        self.apply(
            device,
            Content::ConnectionState {
                connected,
                sequence: None,
            },
        );
    }

    fn apply(&mut self, device: usize, content: Content) {
        let message = DeviceMessage {
            device_id: device_id(device),
            timestamp: Timestamp::UnixMs(self.now.unix_ms),
            content,
        };
        let outboxes = &mut self.outboxes;
        self.shard
            .apply(message, self.now, |session: &usize, update| {
                outboxes[*session].push(update).unwrap();
            });
    }

    fn wait(&mut self, ms: u64) {
        // Timers are handled when due, not when the wait is over.
        let end_ms = self.now.monotonic_ms + ms;
        while let Some(due_ms) = self
            .shard
            .next_expiry_ms()
            .filter(|due_ms| *due_ms <= end_ms)
        {
            self.now.monotonic_ms = due_ms.max(self.now.monotonic_ms);
            let outboxes = &mut self.outboxes;
            self.shard.expire(self.now, |session: &usize, update| {
                outboxes[*session].push(update).unwrap();
            });
        }
        self.now.monotonic_ms = end_ms;
    }

    fn subscribe(&mut self, session: usize, device: usize, what: usize) {
        let granted = self.model[session].granted(device, what);
        let outcome = self.sessions[session].subscribe(
            &device_id(device),
            subscription(what),
            Delivery::default(),
            &SESSION_LIMITS,
        );
        assert_eq!(
            outcome.is_ok(),
            granted,
            "sessions grant exactly what the model grants"
        );
        if !granted {
            return;
        }
        let before: Vec<_> = (0..KEYS.len())
            .map(|key| self.model[session].wants(device, key))
            .collect();
        self.model[session].subscriptions.insert((device, what));
        self.tell_shard(session, device);
        for (key, wanted_before) in before.into_iter().enumerate() {
            if !wanted_before && self.model[session].wants(device, key) {
                let last = self
                    .shard
                    .last_value(&device_id(device), &TelemetryKey::new(KEYS[key]).unwrap());
                let snapshot = last.map(|last| last.value.as_str().parse().unwrap());
                self.snapshots.insert((session, device, key), snapshot);
                self.received[session].values.remove(&(device, key));
            }
        }
    }

    /// What the relay does after anything was taken away from a session.
    fn narrow(&mut self, session: usize, device: usize) {
        self.tell_shard(session, device);
        let wanted = self.sessions[session].subscriptions(&device_id(device));
        self.outboxes[session].retain(&BTreeMap::from([(device_id(device), wanted)]));
        let model = &self.model[session];
        self.owed[session]
            .values
            .retain(|(owed, key), _| *owed != device || model.wants(device, *key));
        self.snapshots.retain(|(who, owed, key), _| {
            *who != session || *owed != device || model.wants(device, *key)
        });
        if !model.wants(device, KEYS.len() + 2) {
            self.owed[session].connection_state.remove(&device);
        }
    }

    fn tell_shard(&mut self, session: usize, device: usize) {
        let wanted = self.sessions[session].subscriptions(&device_id(device));
        self.shard.set_subscriptions(
            &device_id(device),
            session_id(session),
            &session,
            &wanted,
            self.now,
        );
    }

    fn read(&mut self, session: usize, updates: usize) {
        for _ in 0..updates {
            let Some(update) = self.outboxes[session].take(1).pop() else {
                return;
            };
            self.receive(session, &update);
        }
    }

    /// Checks, for every update that leaves, what must hold for each: invariants 1 and 4.
    fn receive(&mut self, session: usize, update: &Update) {
        let device = DEVICES
            .iter()
            .position(|name| *name == update.device_id.as_str())
            .unwrap();
        let (model, received) = (&self.model[session], &mut self.received[session]);
        match &update.body {
            UpdateBody::Telemetry(telemetry) => {
                assert!(!telemetry.is_empty(), "an update says something");
                for (key, _, value) in telemetry.iter() {
                    let key = KEYS.iter().position(|name| *name == key).unwrap();
                    assert!(
                        model.wants(device, key),
                        "leaked {device}/{key} to session {session}"
                    );
                    assert!(
                        model.granted(device, key),
                        "leaked {device}/{key} to session {session}"
                    );
                    let value: u64 = value.parse().unwrap();
                    let values = received.values.entry((device, key)).or_default();
                    assert!(
                        values.last().is_none_or(|last| *last < value),
                        "values of a key went back"
                    );
                    values.push(value);
                    received.count += 1;
                }
                let newest = telemetry
                    .iter()
                    .map(|(_, _, value)| value.parse::<u64>().unwrap())
                    .max()
                    .unwrap();
                assert!(
                    received
                        .newest
                        .insert(device, newest)
                        .is_none_or(|last| last < newest),
                    "updates went back"
                );
            }
            UpdateBody::Message(_) => {
                assert!(
                    model.wants(device, KEYS.len() + 1),
                    "leaked a message of {device} to session {session}"
                );
                received.count += 1;
            }
            UpdateBody::ConnectionState(connected) => {
                assert!(
                    model.wants(device, KEYS.len() + 2),
                    "leaked the state of {device} to session {session}"
                );
                received.connection_state.insert(device, *connected);
                received.count += 1;
            }
            UpdateBody::DeviceTwin(_) => unreachable!("no twins are sent"),
        }
    }
}

fn device_id(device: usize) -> DeviceId {
    DeviceId::new(DEVICES[device]).unwrap()
}

fn session_id(session: usize) -> SessionId {
    SessionId::issue(0, [u8::try_from(session).unwrap(); 10])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever leaves an outbox is granted and subscribed at that moment; `receive` asserts it for every update.
    #[test]
    fn invariant_1_no_leak(history in history(), throttled in any::<bool>()) {
        World::play(TIGHT, throttled.then_some(20), &history);
    }

    /// A value sent to a subscriber arrives or is overtaken by a newer one of its key, and what is overtaken is
    /// counted.
    #[test]
    fn invariant_2_no_false_deny(history in history(), throttled in any::<bool>()) {
        let world = World::play(TIGHT, throttled.then_some(20), &history);
        for session in 0..SESSIONS {
            for (key, owed) in &world.owed[session].values {
                let last = world.received[session].values.get(key).and_then(|values| values.last());
                prop_assert_eq!(last, owed.last(), "session {} lacks {:?}", session, key);
            }
        }
    }

    /// Unless something was taken away, every value and message either arrives or is counted as skipped.
    #[test]
    fn invariant_2_what_is_skipped_is_counted(history in history()) {
        let narrows = |step: &Step| matches!(step, Step::Revoke { .. } | Step::Unsubscribe { .. });
        let history: Vec<_> = history.into_iter().filter(|step| !narrows(step)).collect();
        let mut world = World::play(TIGHT, None, &history);
        for session in 0..SESSIONS {
            let Skipped { conflated, dropped } = world.outboxes[session].take_skipped();
            prop_assert_eq!(world.received[session].count + conflated + dropped, world.owed[session].ever);
        }
    }

    /// When input stops, the last thing that each subscriber got equals the cache.
    #[test]
    fn invariant_3_latest_wins(history in history(), throttled in any::<bool>()) {
        let world = World::play(TIGHT, throttled.then_some(20), &history);
        for session in 0..SESSIONS {
            for ((device, key), values) in &world.received[session].values {
                if !world.owed[session].values.contains_key(&(*device, *key)) {
                    continue;
                }
                let last = world.shard.last_value(&device_id(*device), &TelemetryKey::new(KEYS[*key]).unwrap());
                let last: Option<u64> = last.map(|last| last.value.as_str().parse().unwrap());
                prop_assert_eq!(values.last().copied(), last);
            }
            for (device, connected) in &world.owed[session].connection_state {
                prop_assert_eq!(world.received[session].connection_state.get(device), Some(connected));
                let cached = world.shard.connection_state(&device_id(*device), world.now).map(|state| state.value);
                prop_assert_eq!(cached, Some(*connected));
            }
        }
    }

    /// Updates of one device reach a session in the order of its messages; `receive` asserts it for every update.
    /// Without conflation or throttling not one is missing.
    #[test]
    fn invariant_4_order(history in history()) {
        let world = World::play(WIDE, None, &history);
        for session in 0..SESSIONS {
            for (key, owed) in &world.owed[session].values {
                let received = &world.received[session].values[key];
                prop_assert!(received.ends_with(owed), "session {} got {:?} of {:?}", session, received, owed);
            }
        }
    }

    /// The last value read with a subscription and the updates after it have no gap and nothing twice.
    #[test]
    fn invariant_5_seam(history in history()) {
        let world = World::play(WIDE, None, &history);
        for ((session, device, key), snapshot) in &world.snapshots {
            let received = world.received[*session].values.get(&(*device, *key)).cloned().unwrap_or_default();
            let seen: Vec<u64> = snapshot.iter().copied().chain(received).collect();
            let sent = world.sent.get(&(*device, *key)).cloned().unwrap_or_default();
            prop_assert!(sent.ends_with(&seen), "{:?} then live is {:?} of {:?}", snapshot, seen, sent);
        }
    }
}
