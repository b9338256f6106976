mod twins;

use proptest::prelude::*;

use super::super::device_message::{
    Content, MessageText, TelemetryMessage, TwinEvent, TwinEventKind,
};
use super::super::subscription::{Delivery, Subscription};
use super::super::telemetry::tests::telemetry;
use super::super::time::Timestamp;
use super::super::twin_view::TwinView;
use super::*;

const SETTINGS: ShardSettings = ShardSettings {
    limits: ShardLimits {
        devices_max: 10,
        keys_per_device_max: 3,
    },
    throttling_interval_ms: None,
    connection_state_ttl_ms: None,
    twin_cache: TwinCache::Forever,
    reads_twins: false,
    reads_connection_states: false,
};

fn session(recipient: &str) -> SessionId {
    SessionId::issue(0, [recipient.as_bytes()[0]; 10])
}

/// A shard whose recipients are names, and what each was given.
struct Rig {
    shard: Shard<&'static str>,
    given: Vec<(&'static str, Arc<Update>)>,
    now_ms: u64,
}

impl Rig {
    fn new(settings: ShardSettings) -> Self {
        Self {
            shard: Shard::new(settings),
            given: Vec::new(),
            now_ms: 0,
        }
    }

    fn subscribe(&mut self, recipient: &'static str, subscriptions: &[Subscription]) {
        let mut wanted = DeviceSubscriptions::default();
        for subscription in subscriptions {
            wanted.insert(subscription.clone(), Delivery::default());
        }
        wanted.see_twin(TwinView::Whole);
        self.want(recipient, &wanted);
    }

    fn want(&mut self, recipient: &'static str, wanted: &DeviceSubscriptions) {
        let (session, now) = (session(recipient), self.now());
        self.shard
            .set_subscriptions(&d1(), session, &recipient, wanted, now);
    }

    fn send(&mut self, members: &[(&str, &str)]) {
        let message = TelemetryMessage {
            telemetry: Some(telemetry(members)),
            ..TelemetryMessage::default()
        };
        self.apply("d1", Content::Telemetry(message));
    }

    fn apply(&mut self, device: &str, content: Content) {
        let message = DeviceMessage {
            device_id: DeviceId::new(device).unwrap(),
            timestamp: Timestamp::UnixMs(i64::try_from(self.now_ms).unwrap()),
            content,
        };
        let now = self.now();
        self.shard.apply(message, now, |recipient, update| {
            self.given.push((recipient, update.clone()));
        });
    }

    fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now();
        self.shard.expire(now, |recipient, update| {
            self.given.push((recipient, update.clone()));
        });
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.now_ms,
            unix_ms: i64::try_from(self.now_ms).unwrap(),
        }
    }

    fn given(&mut self) -> Vec<String> {
        self.given
            .drain(..)
            .map(|(recipient, update)| format!("{recipient}: {:?}", update.body))
            .collect()
    }
}

fn d1() -> DeviceId {
    DeviceId::new("d1").unwrap()
}

fn key(name: &str) -> Subscription {
    Subscription::Telemetry(TelemetryKey::new(name))
}

const ALL: Subscription = Subscription::Telemetry(None);

#[test]
fn each_session_gets_its_own_keys_in_one_update() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe("x", &[key("a"), key("b")]);
    rig.subscribe("y", &[key("c")]);
    rig.subscribe("z", &[ALL, key("a")]);
    rig.send(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let mut given = rig.given();
    given.sort();
    assert_eq!(
        given,
        [
            r#"x: Telemetry({"a": "1", "b": "2"})"#,
            r#"y: Telemetry({"c": "3"})"#,
            r#"z: Telemetry({"a": "1", "b": "2", "c": "3"})"#
        ]
    );
}

#[test]
fn nothing_selected_in_a_message_means_no_update() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe("x", &[key("a")]);
    rig.send(&[("c", "3")]);
    assert!(rig.given().is_empty());
}

#[test]
fn sessions_with_the_same_selection_share_one_update() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe("x", &[key("a")]);
    rig.subscribe("y", &[key("a")]);
    rig.send(&[("a", "1"), ("b", "2")]);
    let [(_, first), (_, second)] = &rig.given[..] else {
        panic!("two recipients")
    };
    assert!(Arc::ptr_eq(first, second));
}

#[test]
fn leaving_all_keys_leaves_the_single_ones() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe("x", &[ALL, key("a")]);
    rig.subscribe("x", &[key("a")]);
    rig.send(&[("a", "1"), ("b", "2")]);
    assert_eq!(rig.given(), [r#"x: Telemetry({"a": "1"})"#]);
    rig.subscribe("x", &[]);
    rig.send(&[("a", "1")]);
    assert!(rig.given().is_empty());
}

#[test]
fn parts_of_a_message_leave_in_the_documented_order() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe(
        "x",
        &[
            Subscription::D2cMessages,
            Subscription::ConnectionState,
            ALL,
        ],
    );
    let own = RawJson::from_valid(r#"{"a":1,"_ts":5}"#);
    for (message, text) in [
        (
            MessageText::Own(own),
            Some(r#"x: Message({"a":1,"_ts":5})"#),
        ),
        // The text that the telemetry of tests is found in holds nothing but values.
        (MessageText::OfTelemetry, Some("x: Message(1)")),
        (MessageText::Absent, None),
    ] {
        let message = TelemetryMessage {
            telemetry: Some(telemetry(&[("a", "1")])),
            connection_state: Some(true),
            message,
        };
        rig.apply("d1", Content::Telemetry(message));
        let others = [r#"x: Telemetry({"a": "1"})"#, "x: ConnectionState(true)"];
        let expected: Vec<_> = others.into_iter().chain(text).collect();
        assert_eq!(rig.given(), expected);
    }
}

#[test]
fn a_connection_state_that_is_not_renewed_turns_false_once() {
    let mut rig = Rig::new(ShardSettings {
        connection_state_ttl_ms: Some(100),
        ..SETTINGS
    });
    rig.subscribe("x", &[Subscription::ConnectionState]);
    rig.apply(
        "d1",
        Content::ConnectionState {
            connected: true,
            sequence: None,
        },
    );
    rig.advance(60);
    rig.apply(
        "d1",
        Content::ConnectionState {
            connected: true,
            sequence: None,
        },
    );
    rig.given();
    rig.advance(99);
    assert!(rig.given().is_empty());
    rig.advance(1);
    assert_eq!(rig.given(), ["x: ConnectionState(false)"]);
    assert_eq!(
        rig.shard.connection_state(&d1(), rig.now()),
        Some(Stamped {
            value: false,
            stamp: Stamp {
                timestamp: Timestamp::UnixMs(160),
                received_unix_ms: 160
            }
        })
    );
    assert_eq!(rig.shard.next_expiry_ms(), None);
}

#[test]
fn throttling_sends_the_first_at_once_and_the_newest_at_the_end_of_the_window() {
    let mut rig = Rig::new(ShardSettings {
        throttling_interval_ms: Some(1000),
        ..SETTINGS
    });
    rig.subscribe("x", &[ALL]);
    for value in ["1", "2", "3"] {
        rig.send(&[("a", value)]);
        rig.advance(100);
    }
    rig.send(&[("b", "9")]);
    assert_eq!(rig.given(), [r#"x: Telemetry({"a": "1"})"#]);
    rig.advance(700);
    assert_eq!(rig.given(), [r#"x: Telemetry({"a": "3", "b": "9"})"#]);
    rig.send(&[("a", "4")]);
    assert!(
        rig.given().is_empty(),
        "the trailing update opened a window too"
    );
    rig.advance(1000);
    assert_eq!(rig.given(), [r#"x: Telemetry({"a": "4"})"#]);
    rig.advance(1000);
    rig.send(&[("a", "5")]);
    assert_eq!(rig.given(), [r#"x: Telemetry({"a": "5"})"#]);
}

#[test]
fn a_throttled_value_that_is_no_longer_wanted_is_discarded() {
    let mut rig = Rig::new(ShardSettings {
        throttling_interval_ms: Some(1000),
        ..SETTINGS
    });
    rig.subscribe("x", &[key("a"), key("b")]);
    rig.send(&[("a", "1"), ("b", "1")]);
    rig.send(&[("a", "2"), ("b", "2")]);
    rig.subscribe("x", &[key("b")]);
    rig.given();
    rig.advance(1000);
    assert_eq!(rig.given(), [r#"x: Telemetry({"b": "2"})"#]);
}

#[test]
fn windows_of_subscriptions_that_came_and_went_leave_nothing_behind() {
    let mut rig = Rig::new(SETTINGS);
    for round in 0..5000 {
        let mut wanted = DeviceSubscriptions::default();
        let delivery = Delivery {
            min_interval_ms: Delivery::MIN_INTERVAL_MS_MAX - round,
            changes_only: false,
        };
        wanted.insert(key("t"), delivery);
        rig.want("a", &wanted);
        rig.send(&[("t", "1")]);
        assert_eq!(rig.given().len(), 1);
        if round % 2 == 0 {
            rig.subscribe("a", &[]);
        }
    }
    let timers = rig.shard.shared.timers.len();
    assert!(timers < 2000, "{timers}");
    rig.advance(u64::from(Delivery::MIN_INTERVAL_MS_MAX));
    assert_eq!(rig.shard.shared.timers.len(), 0);
}

#[test]
fn throttling_leaves_last_values_and_other_kinds_alone() {
    let mut rig = Rig::new(ShardSettings {
        throttling_interval_ms: Some(1000),
        ..SETTINGS
    });
    rig.subscribe("x", &[Subscription::ConnectionState]);
    rig.send(&[("a", "1")]);
    rig.send(&[("a", "2")]);
    rig.apply(
        "d1",
        Content::ConnectionState {
            connected: true,
            sequence: None,
        },
    );
    rig.apply(
        "d1",
        Content::ConnectionState {
            connected: true,
            sequence: None,
        },
    );
    assert_eq!(rig.given().len(), 2);
    let last = rig
        .shard
        .last_value(&d1(), &TelemetryKey::new("a").unwrap())
        .unwrap();
    assert_eq!(last.value.as_str(), "2");
}

#[test]
fn over_the_limits_messages_are_dropped_and_values_not_remembered_but_delivered() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe("x", &[ALL]);
    rig.send(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
    assert_eq!(
        rig.given(),
        [r#"x: Telemetry({"a": "1", "b": "1", "c": "1", "d": "1"})"#]
    );
    assert_eq!(rig.shard.last_values(&d1()).len(), 3);
    for number in 0..20 {
        rig.apply(
            &format!("other-{number}"),
            Content::ConnectionState {
                connected: true,
                sequence: None,
            },
        );
    }
    let stats = rig.shard.stats();
    assert_eq!(
        (
            stats.devices,
            stats.messages_dropped,
            stats.values_dropped,
            stats.last_values
        ),
        (10, 11, 1, 3)
    );
}

#[test]
fn a_device_that_nobody_knows_or_wants_is_forgotten() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe("x", &[key("a"), Subscription::DeviceTwin]);
    rig.send(&[("a", "1"), ("b", "2")]);
    assert_eq!(rig.shard.remove_last_values(&d1(), None).len(), 2);
    rig.subscribe("x", &[]);
    let stats = rig.shard.stats();
    assert_eq!((stats.devices, stats.last_values), (0, 0));
}

fn twin(kind: TwinEventKind, body: &str) -> Content {
    Content::Twin(TwinEvent {
        kind,
        body: RawJson::from_valid(body),
    })
}

#[test]
fn a_twin_event_publishes_the_full_twin() {
    let mut rig = Rig::new(SETTINGS);
    rig.subscribe("x", &[Subscription::DeviceTwin]);
    rig.apply(
        "d1",
        twin(
            TwinEventKind::Replace,
            r#"{"version":1,"properties":{"reported":{"a":1},"desired":{"b":2}}}"#,
        ),
    );
    rig.apply(
        "d1",
        twin(
            TwinEventKind::Update,
            r#"{"version":2,"properties":{"reported":{"a":3}}}"#,
        ),
    );
    rig.apply("d1", twin(TwinEventKind::Update, "[]"));
    assert_eq!(
        rig.given()[1..],
        [r#"x: DeviceTwin({"version":2,"properties":{"reported":{"a":3},"desired":{"b":2}}})"#]
    );
    assert!(rig.shard.device_twin(&d1(), rig.now()).is_some());
    assert_eq!(rig.shard.stats().messages_dropped, 1);
}

#[test]
fn a_cached_twin_is_good_for_as_long_as_the_setting_says() {
    for (twin_cache, at_once, later) in [
        (TwinCache::Off, false, false),
        (TwinCache::ForMs(100), true, false),
        (TwinCache::Forever, true, true),
    ] {
        let mut rig = Rig::new(ShardSettings {
            twin_cache,
            ..SETTINGS
        });
        let body = RawJson::from_valid(r#"{"version":1,"properties":{}}"#);
        rig.apply(
            "d1",
            Content::Twin(TwinEvent {
                kind: TwinEventKind::Replace,
                body,
            }),
        );
        assert_eq!(rig.shard.device_twin(&d1(), rig.now()).is_some(), at_once);
        rig.advance(100);
        assert_eq!(rig.shard.device_twin(&d1(), rig.now()).is_some(), later);
    }
}

/// What comes of messages, each about one of a few devices, more than the shard may have: what was handed out, and what
/// it then knows.
fn outcome(
    messages: &[(u8, Content)],
    take_in: impl FnOnce(&mut Shard<&'static str>, Vec<DeviceMessage>, &mut dyn FnMut(String)),
) -> (Vec<String>, ShardStats, Vec<Vec<LastValue>>) {
    let device = |number: u8| DeviceId::new(&format!("d{number}")).unwrap();
    let mut rig = Rig::new(SETTINGS);
    for (recipient, number) in [("x", 0), ("y", 0), ("y", 1), ("x", 12)] {
        let mut wanted = DeviceSubscriptions::default();
        for subscription in [key("a"), key("b"), Subscription::ConnectionState] {
            wanted.insert(subscription, Delivery::default());
        }
        let now = rig.now();
        let of = (device(number), session(recipient));
        rig.shard
            .set_subscriptions(&of.0, of.1, &recipient, &wanted, now);
    }
    let messages = messages.iter().map(|(number, content)| DeviceMessage {
        device_id: device(*number),
        timestamp: Timestamp::UnixMs(1),
        content: content.clone(),
    });
    let mut given = Vec::new();
    take_in(&mut rig.shard, messages.collect(), &mut |one| {
        given.push(one);
    });
    let known = (0..14).map(|number| rig.shard.last_values(&device(number)));
    let known = known.collect();
    (given, rig.shard.stats(), known)
}

fn content() -> impl Strategy<Value = Content> {
    let keys = prop::sample::subsequence(vec!["a", "b", "c", "d"], 1..=4);
    prop_oneof![
        5 => (keys, 0..9_u8).prop_map(|(keys, value)| {
            let value = value.to_string();
            let members: Vec<_> = keys.into_iter().map(|key| (key, value.as_str())).collect();
            Content::Telemetry(TelemetryMessage {
                telemetry: Some(telemetry(&members)),
                ..TelemetryMessage::default()
            })
        }),
        1 => any::<bool>().prop_map(|connected| Content::ConnectionState { connected, sequence: None }),
    ]
}

proptest! {
    #[test]
    fn it_makes_no_difference_how_many_messages_are_taken_in_together(
        messages in prop::collection::vec((0..14_u8, content()), 0..60),
    ) {
        let now = Now { monotonic_ms: 1, unix_ms: 1 };
        let shown = |recipient: &&str, update: &Update| {
            format!("{recipient} {} {:?} {:?}", update.device_id, update.stamp, update.body)
        };
        let one_by_one = outcome(&messages, |shard, messages, give| {
            for message in messages {
                shard.apply(message, now, |recipient, update| give(shown(recipient, &update)));
            }
        });
        let together = outcome(&messages, |shard, messages, give| {
            let mut left = messages.into_iter();
            while left.len() > 0 {
                let before = left.len();
                let taken = shard.apply_next(&mut left, now, |_| {}, |recipient, update| give(shown(recipient, &update)));
                assert_eq!(before - left.len(), taken);
                assert!(taken > 0);
            }
        });
        prop_assert_eq!(together, one_by_one);
    }
}
