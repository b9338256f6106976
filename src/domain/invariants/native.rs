//! The promises to clients that remember: exact snapshots, every way of delivery, changes only, and coming back.
//!
//! One device and one client are enough here; the properties next door play many against each other. The client keeps a
//! view, the newest value of each key that it was sent. Values are the numbers of the messages that carried them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{SESSION_LIMITS, TIGHT, WIDE, device_id, session_id};
use crate::domain::device_message::{Content, DeviceMessage, TelemetryMessage};
use crate::domain::grant::Grant;
use crate::domain::id::TelemetryKey;
use crate::domain::limits::{OutboxLimits, ShardLimits};
use crate::domain::outbox::Outbox;
use crate::domain::session::Session;
use crate::domain::shard::{Shard, ShardSettings, TwinCache};
use crate::domain::subscription::{Delivery, DeviceSubscriptions, KeyPattern, Subscription};
use crate::domain::telemetry::tests::telemetry;
use crate::domain::time::{Now, Timestamp};
use crate::domain::update::UpdateBody;

const KEYS: [&str; 3] = ["a", "ab", "b"];

/// What can be subscribed to: each key, a pattern, every key.
const WHATS: usize = KEYS.len() + 2;

fn subscription(what: usize) -> Subscription {
    match what {
        what if what < KEYS.len() => Subscription::Telemetry(TelemetryKey::new(KEYS[what])),
        what if what == KEYS.len() => {
            Subscription::TelemetryPattern(KeyPattern::new("a*").unwrap())
        }
        _ => Subscription::Telemetry(None),
    }
}

fn covers(what: usize, key: usize) -> bool {
    match what {
        what if what < KEYS.len() => what == key,
        what if what == KEYS.len() => KEYS[key].starts_with('a'),
        _ => true,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        keys: BTreeSet<usize>,
    },
    /// Each with its own way of delivery.
    Subscribe {
        whats: BTreeMap<usize, Delivery>,
    },
    Unsubscribe {
        what: usize,
    },
    Read {
        updates: usize,
    },
    Wait {
        ms: u64,
    },
    /// The connection is lost, and with it the last few updates that were sent.
    Lose {
        updates: usize,
    },
}

fn history(
    deliveries: impl Strategy<Value = Delivery> + Clone,
) -> impl Strategy<Value = Vec<Step>> {
    let whats = prop::collection::btree_map(0..WHATS, deliveries, 1..=3);
    let step = prop_oneof![
        8 => prop::collection::btree_set(0..KEYS.len(), 1..=KEYS.len())
            .prop_map(|keys| Step::Send { keys }),
        3 => whats.prop_map(|whats| Step::Subscribe { whats }),
        1 => (0..WHATS).prop_map(|what| Step::Unsubscribe { what }),
        4 => (1..4_usize).prop_map(|updates| Step::Read { updates }),
        2 => (1..50_u64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..9_usize).prop_map(|updates| Step::Lose { updates }),
    ];
    prop::collection::vec(step, 1..150)
}

fn any_delivery() -> impl Strategy<Value = Delivery> + Clone {
    (prop::sample::select(vec![0, 0, 7, 30]), any::<bool>()).prop_map(
        |(min_interval_ms, changes_only)| Delivery {
            min_interval_ms,
            changes_only,
        },
    )
}

const CHANGES: Delivery = Delivery {
    min_interval_ms: 0,
    changes_only: true,
};

/// The newest value of each key that the client knows.
type View = BTreeMap<usize, u64>;

/// What values devices send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// No value twice.
    Distinct,
    /// Each value a few times.
    Repeated,
    /// Each value a few times, of which clients are told once.
    RepeatedButNotTold,
}

struct World {
    shard: Shard<()>,
    session: Session,
    outbox: Outbox,
    wanted: BTreeSet<usize>,
    view: View,
    /// The views after each update since the last answer, with their numbers: what can be lost.
    views: Vec<(u64, View)>,
    values: Values,
    messages: u64,
    now: Now,
}

impl World {
    fn play(limits: OutboxLimits, values: Values, history: &[Step]) -> Self {
        let mut world = Self::new(limits, values);
        for step in history {
            world.step(step);
        }
        world.wait(1_000);
        world.read(usize::MAX);
        world
    }

    fn new(limits: OutboxLimits, values: Values) -> Self {
        let mut session = Session::new(0);
        session
            .grant(&device_id(0), Grant::Telemetry(None), None, &SESSION_LIMITS)
            .unwrap();
        let mut outbox = Outbox::new(limits);
        outbox.start_numbering();
        Self {
            shard: Shard::new(ShardSettings {
                limits: ShardLimits {
                    devices_max: 1,
                    keys_per_device_max: 100,
                },
                throttling_interval_ms: None,
                connection_state_ttl_ms: None,
                twin_cache: TwinCache::Off,
                reads_twins: false,
                reads_connection_states: false,
            }),
            session,
            outbox,
            wanted: BTreeSet::new(),
            view: View::new(),
            views: vec![(0, View::new())],
            values,
            messages: 0,
            now: Now {
                monotonic_ms: 0,
                unix_ms: 0,
            },
        }
    }

    fn wants(&self, key: usize) -> bool {
        self.wanted.iter().any(|what| covers(*what, key))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send { keys } => self.send(keys),
            Step::Subscribe { whats } => self.subscribe(whats),
            Step::Unsubscribe { what } => self.unsubscribe(*what),
            Step::Read { updates } => self.read(*updates),
            Step::Wait { ms } => self.wait(*ms),
            Step::Lose { updates } => self.lose(*updates),
        }
    }

    fn send(&mut self, keys: &BTreeSet<usize>) {
        self.messages += 1;
        let number = match self.values {
            Values::Distinct => self.messages,
            Values::Repeated | Values::RepeatedButNotTold => self.messages / 3,
        };
        let value = number.to_string();
        let members: Vec<_> = keys
            .iter()
            .map(|key| (KEYS[*key], value.as_str()))
            .collect();
        let message = DeviceMessage {
            device_id: device_id(0),
            timestamp: Timestamp::UnixMs(0),
            content: Content::Telemetry(TelemetryMessage {
                telemetry: Some(telemetry(&members)),
                ..TelemetryMessage::default()
            }),
        };
        let outbox = &mut self.outbox;
        self.shard.apply(message, self.now, |(), update| {
            outbox.push(update).unwrap();
        });
    }

    fn wait(&mut self, ms: u64) {
        let end_ms = self.now.monotonic_ms + ms;
        while let Some(due_ms) = self
            .shard
            .next_expiry_ms()
            .filter(|due_ms| *due_ms <= end_ms)
        {
            self.now.monotonic_ms = due_ms.max(self.now.monotonic_ms);
            let outbox = &mut self.outbox;
            self.shard.expire(self.now, |(), update| {
                outbox.push(update).unwrap();
            });
        }
        self.now.monotonic_ms = end_ms;
    }

    fn subscribe(&mut self, whats: &BTreeMap<usize, Delivery>) {
        let mut fresh = DeviceSubscriptions::default();
        for (what, delivery) in whats {
            self.session
                .subscribe(
                    &device_id(0),
                    subscription(*what),
                    *delivery,
                    &SESSION_LIMITS,
                )
                .unwrap();
            fresh.insert(subscription(*what), Delivery::default());
            self.wanted.insert(*what);
        }
        self.answer(&fresh, |key| whats.keys().any(|what| covers(*what, key)));
    }

    /// Takes the snapshot of what is fresh and shows it to the client.
    fn answer(&mut self, fresh: &DeviceSubscriptions, is_fresh: impl Fn(usize) -> bool) {
        let wanted = self.session.subscriptions(&device_id(0));
        let snapshot =
            self.shard
                .subscribe(&device_id(0), session_id(0), &(), &wanted, fresh, self.now);
        self.outbox
            .supersede(&BTreeMap::from([(device_id(0), fresh.clone())]));
        let telemetry = snapshot.map(|snapshot| snapshot.telemetry);
        for last in telemetry.into_iter().flatten() {
            let key = place(last.key.as_str());
            assert!(is_fresh(key), "the snapshot holds what was asked for");
            let value: u64 = last.value.as_str().parse().unwrap();
            let before = self.view.insert(key, value);
            assert!(
                before.is_none_or(|before| before <= value),
                "a snapshot went back"
            );
        }
        self.views = vec![(self.outbox.sequence(), self.view.clone())];
    }

    fn unsubscribe(&mut self, what: usize) {
        self.session
            .drop_subscription(&device_id(0), &subscription(what));
        self.wanted.remove(&what);
        let wanted = self.session.subscriptions(&device_id(0));
        self.shard
            .set_subscriptions(&device_id(0), session_id(0), &(), &wanted, self.now);
        self.outbox
            .retain(&BTreeMap::from([(device_id(0), wanted)]));
        self.forget_unwanted();
        self.views = vec![(self.outbox.sequence(), self.view.clone())];
    }

    fn forget_unwanted(&mut self) {
        for key in 0..KEYS.len() {
            if !self.wants(key) {
                self.view.remove(&key);
            }
        }
    }

    fn read(&mut self, updates: usize) {
        for _ in 0..updates {
            let Some(update) = self.outbox.take(1).pop() else {
                return;
            };
            let UpdateBody::Telemetry(telemetry) = &update.body else {
                unreachable!("only telemetry is sent")
            };
            for (key, _, value) in telemetry.iter() {
                let key = place(key);
                assert!(self.wants(key), "leaked {}", KEYS[key]);
                let value: u64 = value.parse().unwrap();
                let before = self.view.insert(key, value);
                let may_repeat = self.values == Values::Repeated;
                let moves_on = |before: u64| before < value || (may_repeat && before == value);
                assert!(
                    before.is_none_or(moves_on),
                    "{} of {} came after {before:?}",
                    value,
                    KEYS[key]
                );
            }
            self.views.push((self.outbox.sequence(), self.view.clone()));
        }
    }

    fn lose(&mut self, updates: usize) {
        let arrived = self.views.len().saturating_sub(updates + 1);
        let (sequence, view) = self.views[arrived].clone();
        if self.outbox.rewind(sequence) {
            self.view = view;
            self.views.truncate(arrived + 1);
            return;
        }
        // The client starts again from a snapshot of everything.
        self.outbox.start_numbering();
        self.view = View::new();
        self.views = vec![(0, View::new())];
        let all = self.session.subscriptions(&device_id(0));
        if !all.is_empty() {
            let wanted = self.wanted.clone();
            self.answer(&all, |key| wanted.iter().any(|what| covers(*what, key)));
        }
    }

    /// What the client must know once everything has been read.
    fn expected(&self) -> View {
        let last = |key: usize| {
            let key = TelemetryKey::new(KEYS[key]).unwrap();
            self.shard.last_value(&device_id(0), &key)
        };
        (0..KEYS.len())
            .filter(|key| self.wants(*key))
            .filter_map(|key| Some((key, last(key)?.value.as_str().parse().unwrap())))
            .collect()
    }
}

fn place(key: &str) -> usize {
    KEYS.iter().position(|name| *name == key).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Snapshots, updates in every way of delivery, lost connections: the client's view of a key never goes back, it is
    /// told nothing twice, and in the end it knows what the relay knows.
    #[test]
    fn invariant_5_seam_of_snapshots_and_resumed_streams(history in history(any_delivery()), tight in any::<bool>()) {
        let world = World::play(if tight { TIGHT } else { WIDE }, Values::Distinct, &history);
        prop_assert_eq!(&world.view, &world.expected());
    }

    /// As above, while devices repeat themselves: whoever asks for changes only is told of nothing else, and misses
    /// none.
    #[test]
    fn changes_only_means_every_change_and_nothing_else(history in history(Just(CHANGES))) {
        let loses = |step: &Step| matches!(step, Step::Lose { .. });
        let history: Vec<_> = history.into_iter().filter(|step| !loses(step)).collect();
        let world = World::play(WIDE, Values::RepeatedButNotTold, &history);
        prop_assert_eq!(&world.view, &world.expected());
    }

    /// Devices repeat themselves and every way of delivery is used: in the end the client knows what the relay knows.
    #[test]
    fn invariant_3_latest_wins_in_every_way_of_delivery(history in history(any_delivery()), tight in any::<bool>()) {
        let world = World::play(if tight { TIGHT } else { WIDE }, Values::Repeated, &history);
        prop_assert_eq!(&world.view, &world.expected());
    }
}
