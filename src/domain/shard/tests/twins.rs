//! Twins: coherent for each subscriber, and what the hub is asked for.

use super::super::super::hub_twin::HubTwin;
use super::super::super::json_pointer::tests::pointers;
use super::*;

const ASKS: ShardSettings = ShardSettings {
    reads_twins: true,
    reads_connection_states: true,
    ..SETTINGS
};

const NOTHING: [&str; 0] = [];

fn update(version: u64, reported: &str) -> Content {
    let body = format!(r#"{{"version":{version},"properties":{{"reported":{reported}}}}}"#);
    twin(TwinEventKind::Update, &body)
}

/// What `x` is given.
fn shown(version: u64, reported: &str) -> String {
    format!("x: DeviceTwin({})", value(version, reported))
}

fn value(version: u64, reported: &str) -> String {
    format!(r#"{{"version":{version},"properties":{{"reported":{reported},"desired":{{}}}}}}"#)
}

impl Rig {
    /// One that asks the hub, with `x` subscribed to the twin.
    fn asking() -> Self {
        let mut rig = Self::new(ASKS);
        rig.subscribe("x", &[Subscription::DeviceTwin]);
        rig
    }

    /// The hub answers with a twin of its service API. Returns the newest twin then.
    fn read(&mut self, version: u64, reported: &str) -> String {
        let document = format!(
            r#"{{"deviceId":"d1","version":{version},"properties":{{"desired":{{}},"reported":{reported}}}}}"#
        );
        let read = HubTwin {
            twin: RawJson::from_valid(document),
            connected: true,
            last_activity: None,
        };
        let now = self.now();
        let newest = self.shard.was_read(&d1(), &read, now, |recipient, update| {
            self.given.push((recipient, update.clone()));
        });
        newest.unwrap().value.as_str().to_owned()
    }

    fn not_read(&mut self) {
        let now = self.now();
        self.shard.was_not_read(&d1(), now, |recipient, update| {
            self.given.push((recipient, update.clone()));
        });
    }

    /// How many questions there are for the hub.
    fn asked(&mut self) -> usize {
        self.shard.take_reads().len()
    }

    fn see_twin(&mut self, recipient: &'static str, view: TwinView) {
        self.want(recipient, &twin_alone(view));
    }
}

fn twin_alone(view: TwinView) -> DeviceSubscriptions {
    let mut wanted = DeviceSubscriptions::default();
    wanted.insert(Subscription::DeviceTwin, Delivery::default());
    wanted.see_twin(view);
    wanted
}

#[test]
fn a_gap_is_closed_by_one_read_and_nothing_half_is_shown() {
    let mut rig = Rig::asking();
    for (version, reported) in [(5, r#"{"a":1}"#), (7, r#"{"c":1}"#), (8, r#"{"d":1}"#)] {
        rig.apply("d1", update(version, reported));
    }
    assert_eq!(rig.given(), NOTHING);
    assert_eq!(rig.asked(), 1, "one read for all of them");
    let whole = r#"{"a":1,"b":1,"c":1,"d":1}"#;
    rig.read(8, whole);
    assert_eq!(rig.given(), [shown(8, whole)]);
    rig.apply("d1", update(9, r#"{"a":null}"#));
    assert_eq!(rig.given(), [shown(9, r#"{"b":1,"c":1,"d":1}"#)]);
    assert_eq!(rig.asked(), 0);
}

#[test]
fn a_read_that_is_older_than_an_event_is_repeated() {
    let mut rig = Rig::asking();
    rig.apply("d1", update(5, "{}"));
    assert_eq!(rig.asked(), 1);
    rig.read(4, "{}");
    assert_eq!(rig.given(), NOTHING);
    assert_eq!(rig.asked(), 1);
    rig.read(5, r#"{"a":1}"#);
    assert_eq!(rig.given(), [shown(5, r#"{"a":1}"#)]);
}

#[test]
fn reads_that_stay_behind_end_and_what_is_known_is_shown() {
    let mut rig = Rig::asking();
    rig.apply("d1", update(5, r#"{"a":1}"#));
    let mut reads = 0;
    while rig.asked() > 0 {
        reads += 1;
        rig.read(4, "{}");
    }
    assert_eq!(reads, 5);
    assert_eq!(rig.given(), [shown(5, r#"{"a":1}"#)]);
}

#[test]
fn without_an_answer_subscribers_get_what_is_known() {
    let mut rig = Rig::asking();
    rig.apply("d1", update(5, r#"{"a":1}"#));
    assert_eq!(rig.asked(), 1);
    rig.not_read();
    assert_eq!(rig.given(), [shown(5, r#"{"a":1}"#)]);
    rig.not_read();
    assert_eq!(rig.given(), NOTHING, "nobody asked again");
    rig.apply("d1", update(6, "{}"));
    assert_eq!(rig.asked(), 1, "it is still not the whole");
}

#[test]
fn the_hub_is_asked_again_ever_more_rarely_until_the_twin_is_whole_or_nobody_looks() {
    let mut rig = Rig::asking();
    rig.apply("d1", update(5, r#"{"a":1}"#));
    assert_eq!(rig.asked(), 1);
    rig.not_read();
    for wait_ms in [5_000, 10_000, 20_000] {
        rig.advance(wait_ms - 1);
        assert_eq!(rig.asked(), 0);
        rig.advance(1);
        assert_eq!(rig.asked(), 1);
        rig.not_read();
    }
    assert_eq!(rig.given(), [shown(5, r#"{"a":1}"#)], "it is no news");
    rig.advance(40_000);
    rig.read(5, r#"{"a":1,"b":1}"#);
    assert_eq!(rig.given(), [shown(5, r#"{"a":1,"b":1}"#)]);

    rig.apply("d1", update(7, "{}"));
    rig.not_read();
    rig.asked();
    rig.subscribe("x", &[]);
    rig.advance(1_000_000);
    assert_eq!(rig.asked(), 0);
}

#[test]
fn nobody_reads_for_nobody() {
    let mut rig = Rig::new(ASKS);
    rig.apply("d1", update(5, "{}"));
    assert_eq!(rig.asked(), 0);
    assert!(rig.shard.device_twin(&d1(), rig.now()).is_none());
}

#[test]
fn a_read_is_news_once_and_the_event_of_a_change_that_was_read_is_none() {
    let mut rig = Rig::asking();
    rig.read(5, r#"{"a":1}"#);
    rig.read(5, r#"{"a":1}"#);
    // The answer to a change comes before its event.
    rig.read(6, r#"{"a":2}"#);
    rig.apply("d1", update(6, r#"{"a":2}"#));
    // It comes after its event and one more.
    rig.apply("d1", update(7, r#"{"a":3}"#));
    rig.apply("d1", update(8, r#"{"a":4}"#));
    assert_eq!(rig.read(7, r#"{"a":3}"#), value(8, r#"{"a":4}"#));
    let expected = [(5, 1), (6, 2), (7, 3), (8, 4)];
    assert_eq!(
        rig.given(),
        expected.map(|(version, a)| shown(version, &format!(r#"{{"a":{a}}}"#)))
    );
    assert_eq!(rig.asked(), 0);
}

#[test]
fn a_device_that_was_made_anew_begins_again() {
    let mut rig = Rig::asking();
    rig.read(50, r#"{"old":1}"#);
    rig.apply("d1", update(3, r#"{"new":1}"#));
    assert_eq!(rig.asked(), 1, "the hub says which of the two it is");
    rig.read(3, r#"{"new":1}"#);
    assert_eq!(
        rig.given(),
        [shown(50, r#"{"old":1}"#), shown(3, r#"{"new":1}"#)]
    );
}

#[test]
fn a_subscriber_that_wants_a_snapshot_gets_the_twin_as_soon_as_it_is_read() {
    let mut rig = Rig::new(ASKS);
    let wanted = twin_alone(TwinView::Whole);
    let (of_x, now) = (session("x"), rig.now());
    let snapshot = rig
        .shard
        .subscribe(&d1(), of_x, &"x", &wanted, &wanted, now);
    assert_eq!(snapshot, None);
    assert_eq!(rig.asked(), 1);
    rig.read(2, "{}");
    assert_eq!(rig.given(), [shown(2, "{}")]);
}

#[test]
fn each_sees_as_much_of_a_twin_as_it_may() {
    let mut rig = Rig::new(SETTINGS);
    let part = TwinView::Parts(pointers(&["/properties/reported/a"]));
    rig.see_twin("x", part.clone());
    rig.see_twin("y", TwinView::Whole);
    rig.see_twin("z", part);
    let whole = r#"{"version":1,"properties":{"reported":{"a":1,"b":2}},"tags":{"t":1}}"#;
    rig.apply("d1", twin(TwinEventKind::Replace, whole));
    let mut given = rig.given();
    given.sort();
    let narrow = value(1, r#"{"a":1}"#);
    let wide =
        r#"{"version":1,"properties":{"reported":{"a":1,"b":2},"desired":{}},"tags":{"t":1}}"#;
    assert_eq!(
        given,
        [("x", narrow.as_str()), ("y", wide), ("z", &narrow)]
            .map(|(recipient, twin)| format!("{recipient}: DeviceTwin({twin})"))
    );
    rig.see_twin("y", TwinView::default());
    rig.apply("d1", update(2, r#"{"b":3}"#));
    let nothing = format!("y: DeviceTwin({})", value(2, "{}"));
    assert!(rig.given().contains(&nothing));
}

#[test]
fn what_the_hub_said_of_a_connection_is_asked_about_before_it_runs_out() {
    let mut rig = Rig::new(ShardSettings {
        connection_state_ttl_ms: Some(100),
        ..ASKS
    });
    rig.subscribe("x", &[Subscription::ConnectionState]);
    let connected = Content::ConnectionState {
        connected: true,
        sequence: None,
    };
    rig.apply("d1", connected);
    rig.advance(100);
    assert_eq!(rig.asked(), 1);
    rig.read(1, "{}");
    assert_eq!(
        rig.given(),
        ["x: ConnectionState(true)"],
        "it is still connected"
    );
    rig.advance(100);
    assert_eq!(rig.asked(), 1);
    rig.not_read();
    assert_eq!(rig.given(), ["x: ConnectionState(false)"]);
    let read = rig.shard.connection_state(&d1(), rig.now());
    assert_eq!(read, None, "the hub knows better");
}
