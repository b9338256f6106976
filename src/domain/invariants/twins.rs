//! The same promises for twins: whatever is granted and revoked, lost on the way and read again, nobody sees a part that
//! is not granted at that moment, no twin goes back in time, and in the end each subscriber has the twin as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::domain::device_message::{Content, DeviceMessage, TwinEvent, TwinEventKind};
use crate::domain::grant::Grant;
use crate::domain::hub_twin::HubTwin;
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::json_pointer::tests::pointers;
use crate::domain::limits::{OutboxLimits, SessionLimits, ShardLimits};
use crate::domain::outbox::Outbox;
use crate::domain::raw_json::RawJson;
use crate::domain::session::Session;
use crate::domain::shard::{Shard, ShardSettings, TwinCache};
use crate::domain::subscription::{Delivery, Subscription};
use crate::domain::time::{Now, Timestamp};
use crate::domain::update::{Update, UpdateBody};

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// A reported property changes. Its event may be lost.
    Change {
        key: usize,
        is_lost: bool,
    },
    /// The hub answers what it was asked, with the twin as it is or as it was before the last change.
    Answer {
        is_behind: bool,
    },
    /// The hub gives no answer.
    Fail,
    /// Somebody else reads the twin.
    Read,
    /// One property is granted, or all of the twin.
    Grant(Option<usize>),
    Revoke(Option<usize>),
    Subscribe,
    Unsubscribe,
    /// The client takes what waits.
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let part = || prop::option::weighted(0.75, 0..KEYS.len());
    prop_oneof![
        6 => (0..KEYS.len(), prop::bool::weighted(0.3))
            .prop_map(|(key, is_lost)| Step::Change { key, is_lost }),
        3 => prop::bool::weighted(0.2).prop_map(|is_behind| Step::Answer { is_behind }),
        1 => Just(Step::Fail),
        1 => Just(Step::Read),
        3 => part().prop_map(Step::Grant),
        2 => part().prop_map(Step::Revoke),
        2 => Just(Step::Subscribe),
        1 => Just(Step::Unsubscribe),
        4 => Just(Step::Take),
    ]
}

struct World {
    shard: Shard<()>,
    session: Session,
    outbox: Outbox,
    version: u64,
    values: [u64; KEYS.len()],
    /// The twin before the last change.
    before: (u64, [u64; KEYS.len()]),
    asked: usize,
    /// What the client saw last.
    seen: Option<RawJson>,
}

impl World {
    fn new(reads_twins: bool) -> Self {
        let settings = ShardSettings {
            limits: ShardLimits {
                devices_max: 10,
                keys_per_device_max: 10,
            },
            throttling_interval_ms: None,
            connection_state_ttl_ms: None,
            twin_cache: TwinCache::Off,
            reads_twins,
            reads_connection_states: reads_twins,
        };
        let limits = OutboxLimits {
            frames_max: 2,
            bytes_max: 100_000,
            replay_frames_max: 4,
            replay_bytes_max: 100_000,
        };
        Self {
            shard: Shard::new(settings),
            session: Session::new(0),
            outbox: Outbox::new(limits),
            version: 1,
            values: [0; KEYS.len()],
            before: (1, [0; KEYS.len()]),
            asked: 0,
            seen: None,
        }
    }

    fn take_step(&mut self, step: &Step) {
        match *step {
            Step::Change { key, is_lost } => {
                self.before = (self.version, self.values);
                self.version += 1;
                self.values[key] = self.version;
                if !is_lost {
                    let body = format!(
                        r#"{{"version":{0},"properties":{{"reported":{{"{1}":{0}}}}}}}"#,
                        self.version, KEYS[key]
                    );
                    self.event(&body);
                }
            }
            Step::Answer { is_behind } if self.asked > 0 => {
                self.asked -= 1;
                let (version, values) = if is_behind {
                    self.before
                } else {
                    (self.version, self.values)
                };
                self.read(version, values);
            }
            Step::Fail if self.asked > 0 => {
                self.asked -= 1;
                let outbox = &mut self.outbox;
                self.shard.was_not_read(&device(), NOW, push_to(outbox));
            }
            Step::Answer { .. } | Step::Fail => {}
            Step::Read => self.read(self.version, self.values),
            Step::Grant(part) => {
                let limits = &LIMITS;
                let widened = self
                    .session
                    .grant(&device(), grant(part), None, limits)
                    .unwrap();
                if widened {
                    self.tell_shard();
                    self.publish_snapshot();
                }
            }
            Step::Revoke(part) => {
                let withdrawn = self.session.revoke(&device(), &grant(part));
                if !withdrawn.devices.is_empty() {
                    self.narrow();
                }
            }
            Step::Subscribe => {
                let twin = Subscription::DeviceTwin;
                let subscribed =
                    self.session
                        .subscribe(&device(), twin, Delivery::default(), &LIMITS);
                if subscribed.is_ok() {
                    self.tell_shard();
                    self.publish_snapshot();
                }
            }
            Step::Unsubscribe => {
                self.session
                    .drop_subscription(&device(), &Subscription::DeviceTwin);
                self.narrow();
            }
            Step::Take => self.take(),
        }
        self.asked += self.shard.take_reads().len();
    }

    fn event(&mut self, body: &str) {
        let message = DeviceMessage {
            device_id: device(),
            timestamp: Timestamp::UnixMs(0),
            content: Content::Twin(TwinEvent {
                kind: TwinEventKind::Update,
                body: RawJson::from_valid(body),
            }),
        };
        self.shard.apply(message, NOW, push_to(&mut self.outbox));
    }

    fn read(&mut self, version: u64, values: [u64; KEYS.len()]) {
        let read = HubTwin {
            twin: RawJson::from_valid(document(version, values)),
            connected: true,
            last_activity: None,
        };
        let outbox = &mut self.outbox;
        self.shard
            .was_read(&device(), &read, NOW, push_to(outbox))
            .unwrap();
    }

    fn tell_shard(&mut self) {
        let wanted = self.session.subscriptions(&device());
        self.shard
            .set_subscriptions(&device(), session_id(), &(), &wanted, NOW);
    }

    /// As the relay does when something is freshly subscribed to.
    fn publish_snapshot(&mut self) {
        let wanted = self.session.subscriptions(&device());
        let snapshot = self
            .shard
            .subscribe(&device(), session_id(), &(), &wanted, &wanted, NOW);
        for update in snapshot
            .into_iter()
            .flat_map(crate::domain::snapshot::DeviceSnapshot::into_updates)
        {
            self.outbox.push(Arc::new(update)).unwrap();
        }
    }

    fn narrow(&mut self) {
        self.tell_shard();
        let wanted = self.session.subscriptions(&device());
        self.outbox.retain(&BTreeMap::from([(device(), wanted)]));
    }

    /// Takes what waits, and checks that it may be seen.
    fn take(&mut self) {
        for update in self.outbox.take(usize::MAX) {
            let UpdateBody::DeviceTwin(twin) = &update.body else {
                panic!("only twins are sent");
            };
            let view = self.session.subscriptions(&device()).device_twin;
            let view = view.expect("nothing leaves that is not subscribed");
            assert_eq!(view.cut(twin), *twin, "nothing leaves that is not granted");
            let version = |twin: &RawJson| {
                let twin: serde_json::Value = serde_json::from_str(twin.as_str()).unwrap();
                twin["version"].as_u64()
            };
            if let Some(seen) = &self.seen {
                assert!(version(seen) <= version(twin), "no twin goes back in time");
            }
            self.seen = Some(twin.clone());
        }
    }

    /// Everything is answered and taken, and one event gets through.
    fn settle(&mut self) {
        self.take_step(&Step::Change {
            key: 0,
            is_lost: false,
        });
        while self.asked > 0 {
            self.take_step(&Step::Answer { is_behind: false });
        }
        self.take();
    }
}

const NOW: Now = Now {
    monotonic_ms: 0,
    unix_ms: 0,
};

const LIMITS: SessionLimits = SessionLimits {
    grants_max: 100,
    subscriptions_max: 100,
};

fn push_to(outbox: &mut Outbox) -> impl FnMut(&(), Arc<Update>) {
    |(), update| outbox.push(update).unwrap()
}

fn device() -> DeviceId {
    DeviceId::new("d1").unwrap()
}

fn session_id() -> SessionId {
    SessionId::issue(0, [1; 10])
}

fn grant(part: Option<usize>) -> Grant {
    let pointer = |key: usize| pointers(&[&format!("/properties/reported/{}", KEYS[key])]);
    Grant::DeviceTwin(part.map(pointer))
}

fn document(version: u64, values: [u64; KEYS.len()]) -> String {
    let members = KEYS.iter().zip(values).filter(|(_, value)| *value > 0);
    let members: Vec<_> = members
        .map(|(key, value)| format!(r#""{key}":{value}"#))
        .collect();
    format!(
        r#"{{"version":{version},"properties":{{"reported":{{{}}},"desired":{{}}}}}}"#,
        members.join(",")
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn subscribers_see_what_is_granted_and_in_the_end_the_twin_as_it_is(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(true);
        for step in &steps {
            world.take_step(step);
        }
        world.settle();
        if let Some(view) = world.session.subscriptions(&device()).device_twin {
            let truth = RawJson::from_valid(document(world.version, world.values));
            let as_json = |twin: &RawJson| -> serde_json::Value {
                serde_json::from_str(twin.as_str()).unwrap()
            };
            let seen = world.seen.as_ref().map(as_json);
            prop_assert_eq!(seen, Some(as_json(&view.cut(&truth))));
        }
    }

    #[test]
    fn without_a_hub_to_ask_nothing_is_shown_that_is_not_granted_either(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(false);
        for step in &steps {
            if !matches!(step, Step::Read) {
                world.take_step(step);
            }
        }
        world.settle();
        prop_assert_eq!(world.asked, 0);
    }
}
