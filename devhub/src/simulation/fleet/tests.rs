use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::simulation::device::{Leaving, device_id};
use crate::simulation::method::Answer;

/// 2026-01-01T00:00:00Z
const START_MS: i64 = 1_767_225_600_000;

/// Something that a device does, and when, from the start.
#[derive(Clone, Debug, PartialEq)]
struct Done {
    at_ms: i64,
    device: usize,
    action: Action,
}

/// A fleet whose hub lets everybody in, stepped every 10 ms.
struct Play {
    fleet: Fleet,
    at_ms: i64,
    /// What devices find desired when they connect.
    desired: Value,
}

impl Play {
    fn new(devices: usize, rate: Option<u32>) -> Self {
        let rate = rate.map(|rate| NonZeroU32::new(rate).unwrap());
        Self {
            fleet: Fleet::new(devices, rate, 7, START_MS),
            at_ms: 0,
            desired: json!({ "$version": 1 }),
        }
    }

    /// What happens in so many seconds.
    fn run(&mut self, seconds: i64) -> Vec<Done> {
        let mut done = Vec::new();
        for _ in 0..=seconds * 100 {
            let mut actions = Vec::new();
            self.fleet.step(START_MS + self.at_ms, &mut actions);
            let connecting: Vec<usize> = actions
                .iter()
                .filter(|done| done.action == Action::Connect)
                .map(|done| done.device)
                .collect();
            done.extend(self.at_this_time(actions));
            for device in connecting {
                let desired = self.desired.clone();
                done.extend(self.hear(device, Heard::Connected { desired }));
            }
            self.at_ms += 10;
        }
        done
    }

    fn hear(&mut self, device: usize, heard: Heard) -> Vec<Done> {
        let mut actions = Vec::new();
        self.fleet
            .hear(device, heard, START_MS + self.at_ms, &mut actions);
        self.at_this_time(actions)
    }

    /// Calls a method and answers what the device answers at once.
    fn call(&mut self, device: usize, name: &str, payload: &'static str) -> Option<Answer> {
        let done = self.hear(
            device,
            Heard::Method {
                request_id: format!("{name}-1"),
                name: name.to_owned(),
                payload: Bytes::from_static(payload.as_bytes()),
            },
        );
        done.into_iter().find_map(|done| answer(&done))
    }

    fn at_this_time(&self, actions: Vec<DeviceAction>) -> Vec<Done> {
        let at_ms = self.at_ms;
        let done = |DeviceAction { device, action }| Done {
            at_ms,
            device,
            action,
        };
        actions.into_iter().map(done).collect()
    }
}

fn run(devices: usize, rate: Option<u32>, seconds: i64) -> Vec<Done> {
    Play::new(devices, rate).run(seconds)
}

fn answer(done: &Done) -> Option<Answer> {
    match &done.action {
        Action::Answer { answer, .. } => Some(answer.clone()),
        _ => None,
    }
}

/// The telemetry of all devices: when, whose, what.
fn telemetry(done: &[Done]) -> impl Iterator<Item = (i64, usize, Value)> {
    done.iter().filter_map(|done| match &done.action {
        Action::Send(body) => Some((
            done.at_ms,
            done.device,
            serde_json::from_slice(body).unwrap(),
        )),
        _ => None,
    })
}

fn telemetry_of(done: &[Done], device: usize) -> Vec<(i64, Value)> {
    telemetry(done)
        .filter(|(_, sender, _)| *sender == device)
        .map(|(at_ms, _, body)| (at_ms, body))
        .collect()
}

fn reports_of(done: &[Done], device: usize) -> Vec<Value> {
    done.iter()
        .filter(|done| done.device == device)
        .filter_map(|done| match &done.action {
            Action::Report(patch) => Some(Value::Object(patch.clone())),
            _ => None,
        })
        .collect()
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.payload).unwrap()
}

#[test]
fn the_same_seed_and_times_give_the_same_actions() {
    assert_eq!(run(8, None, 60), run(8, None, 60));
}

#[test]
fn devices_are_named_by_their_kind_and_number() {
    let names: Vec<String> = (0..5).map(device_id).collect();
    assert_eq!(
        names,
        ["press-01", "tank-02", "truck-03", "room-04", "press-05"]
    );
}

#[test]
fn no_devices_do_nothing_at_any_rate() {
    assert_eq!(run(0, None, 5), []);
    assert_eq!(run(0, Some(1_000), 5), []);
}

#[test]
fn devices_measure_numbers_a_position_booleans_objects_and_text_at_different_rates() {
    let done = run(4, None, 30);
    for (device, expected) in [57..=60, 28..=30, 14..=15, 5..=6].into_iter().enumerate() {
        let count = telemetry_of(&done, device).len();
        assert!(expected.contains(&count), "device {device} sent {count}");
    }
    let last = |device| telemetry_of(&done, device).pop().unwrap().1;
    let press = last(0);
    assert!(press["temperature"].is_f64() && press["pressure"].is_f64());
    assert!(press["vibration"]["z"].is_f64() && press["running"].is_boolean());
    assert!(last(1)["valveOpen"].is_boolean() && last(1)["level"].is_f64());
    assert!(last(2)["position"]["lat"].is_f64() && last(2)["status"].is_string());
    assert!(last(3)["humidity"].is_f64() && last(3)["air"]["quality"].is_string());
}

#[test]
fn measurements_move_like_physical_ones() {
    let done = run(4, None, 1_200);
    // The largest step between two messages, and the band, for each.
    let bounds = [
        (0, "/temperature", 3.0, 35.0..90.0),
        (0, "/pressure", 1.2, 0.5..8.0),
        (1, "/level", 4.0, 10.0..95.0),
        (1, "/temperature", 0.5, 12.0..24.0),
        (2, "/position/lat", 0.0006, 48.7..48.9),
        (2, "/position/lon", 0.0009, 9.1..9.3),
        (2, "/speed", 5.0, 0.0..100.0),
        (3, "/temperature", 0.6, 15.0..28.0),
        (3, "/humidity", 1.5, 35.0..60.0),
        (3, "/air/co2Ppm", 90.0, 380.0..1_100.0),
    ];
    for (device, pointer, largest_step, band) in bounds {
        let samples: Vec<(i64, f64)> = telemetry_of(&done, device)
            .into_iter()
            .map(|(at_ms, body)| (at_ms, body.pointer(pointer).unwrap().as_f64().unwrap()))
            .collect();
        for (_, value) in &samples {
            assert!(band.contains(value), "{device} {pointer} is {value}");
        }
        let distinct: BTreeSet<String> =
            samples.iter().map(|(_, value)| value.to_string()).collect();
        assert!(distinct.len() > 20, "{device} {pointer} stands still");
        // A device that was offline meanwhile has moved on.
        let while_online = |pair: &&[(i64, f64)]| pair[1].0 - pair[0].0 < 6_000;
        for pair in samples.windows(2).filter(while_online) {
            let step = (pair[1].1 - pair[0].1).abs();
            assert!(step <= largest_step, "{device} {pointer} steps by {step}");
        }
    }
}

#[test]
fn a_device_that_is_offline_says_nothing_until_it_is_back_and_introduces_itself() {
    let done = run(6, None, 1_200);
    let mut online = BTreeMap::new();
    let mut introduced = BTreeMap::new();
    let mut left = BTreeMap::<usize, BTreeSet<bool>>::new();
    for Done { device, action, .. } in &done {
        let online = online.entry(*device).or_insert(false);
        match action {
            Action::Connect => {
                assert!(!*online, "{device} connects twice");
                *online = true;
                introduced.insert(*device, false);
            }
            Action::Leave(leaving) => {
                assert!(*online, "{device} leaves twice");
                *online = false;
                let goodbye = *leaving == Leaving::Goodbye;
                left.entry(*device).or_default().insert(goodbye);
            }
            Action::Report(patch) => {
                let first = !introduced.insert(*device, true).unwrap();
                assert_eq!(patch.contains_key("firmware"), first);
                assert!(*online);
            }
            _ => assert!(*online, "{device} spoke while offline"),
        }
    }
    let unsteady: Vec<usize> = left.keys().copied().collect();
    assert_eq!(unsteady, [2, 5], "one in three is unsteady");
    for (device, ways) in left {
        assert_eq!(ways.len(), 2, "{device} leaves in both ways");
    }
    assert!(introduced.values().all(|introduced| *introduced));
}

#[test]
fn a_device_that_is_refused_tries_again_at_growing_intervals() {
    let mut fleet = Fleet::new(1, None, 7, START_MS);
    let mut tries_ms = Vec::new();
    for step in 0..30_000 {
        let mut actions = Vec::new();
        fleet.step(START_MS + step * 10, &mut actions);
        if !actions.is_empty() {
            assert_eq!(actions[0].action, Action::Connect);
            tries_ms.push(step * 10);
            fleet.hear(0, Heard::Lost, START_MS + step * 10, &mut actions);
        }
    }
    let waits: Vec<i64> = tries_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(
        waits[..8],
        [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    );
}

#[test]
fn a_connection_that_lasted_makes_the_next_try_early() {
    let mut play = Play::new(1, None);
    for lasted_s in [1, 1, 60] {
        play.run(lasted_s);
        assert_eq!(play.hear(0, Heard::Lost), []);
    }
    let lost_at_ms = play.at_ms;
    let done = play.run(2);
    assert_eq!(done[0].action, Action::Connect);
    assert_eq!(done[0].at_ms, lost_at_ms + 1_000);
}

#[test]
fn a_desired_interval_changes_the_rate_at_once_and_is_reported() {
    let mut play = Play::new(4, None);
    play.run(10);
    let patch = json!({ "telemetryInterval": 200 });
    play.hear(3, Heard::Desired { version: 2, patch });
    let done = play.run(10);
    let count = telemetry_of(&done, 3).len();
    assert!((49..=51).contains(&count), "{count} messages");
    assert_eq!(
        reports_of(&done, 3),
        [json!({ "telemetryInterval": { "value": 200, "ac": 200, "av": 2, "ad": "applied" } })]
    );
}

#[test]
fn what_was_desired_while_a_device_was_offline_holds_when_it_is_back() {
    let mut play = Play::new(4, None);
    play.run(1);
    play.hear(3, Heard::Lost);
    play.desired = json!({ "telemetryInterval": 500, "$version": 2 });
    let done = play.run(20);
    let count = telemetry_of(&done, 3).len();
    assert!((36..=38).contains(&count), "{count} messages");
    let reports = reports_of(&done, 3);
    assert_eq!(reports[0]["telemetryInterval"]["value"], 500);
    assert_eq!(reports[0]["telemetryInterval"]["av"], 2);
}

#[test]
fn a_method_sets_the_interval_and_says_what_holds() {
    let mut play = Play::new(4, None);
    play.run(1);
    let answer = play.call(3, "setInterval", r#"{"interval":1}"#).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(json_of(&answer), json!({ "interval": 100 }));
    let done = play.run(5);
    assert!((49..=51).contains(&telemetry_of(&done, 3).len()));
    assert_eq!(reports_of(&done, 3)[0]["telemetryInterval"]["value"], 100);

    let refused = play.call(3, "setInterval", r#"{"interval":"often"}"#);
    let refused = refused.unwrap();
    assert_eq!(refused.status, 400);
    assert!(json_of(&refused)["message"].is_string());
}

#[test]
fn a_reboot_is_answered_takes_a_device_offline_and_starts_it_anew() {
    let mut play = Play::new(1, None);
    let done = play.run(1);
    assert_eq!(reports_of(&done, 0)[0]["startCount"], 1);
    play.call(0, "setInterval", r#"{"interval":100}"#);
    let answer = play.call(0, "reboot", r#"{"delay":1}"#).unwrap();
    assert_eq!(answer.status, 200);

    let called_at_ms = play.at_ms;
    let done = play.run(20);
    let at = |wanted: Action| {
        let found = done.iter().find(|done| done.action == wanted);
        found.unwrap_or_else(|| panic!("no {wanted:?}")).at_ms
    };
    let left_at_ms = at(Action::Leave(Leaving::Lost));
    assert!(left_at_ms > called_at_ms + 1_000 && left_at_ms < called_at_ms + 2_000);
    let away_ms = at(Action::Connect) - left_at_ms;
    assert!((3_000..=8_000).contains(&away_ms), "{away_ms} ms away");
    let introduction = reports_of(&done, 0)
        .into_iter()
        .find(|patch| patch.get("firmware").is_some())
        .unwrap();
    assert_eq!(introduction["startCount"], 2);
    assert_eq!(introduction["telemetryInterval"]["value"], 500);
}

#[test]
fn an_echo_is_answered_at_once_and_a_self_test_fails() {
    let mut play = Play::new(1, None);
    play.run(1);
    let echo = play.call(0, "echo", r#"{"a":[1.10]}"#).unwrap();
    assert_eq!(
        (echo.status, &echo.payload[..]),
        (200, &br#"{"a":[1.10]}"#[..])
    );
    let failed = play.call(0, "selfTest", "null").unwrap();
    assert_eq!(failed.status, 500);
    assert!(json_of(&failed)["failed"].is_array());
    assert_eq!(play.call(0, "explode", "null").unwrap().status, 404);
}

#[test]
fn a_calibration_takes_its_time_and_only_one_runs_at_once() {
    let mut play = Play::new(1, None);
    play.run(1);
    assert_eq!(play.call(0, "calibrate", "null"), None);
    assert_eq!(play.call(0, "calibrate", "null").unwrap().status, 409);
    let called_at_ms = play.at_ms;
    let done = play.run(10);
    let answers: Vec<&Done> = done.iter().filter(|done| answer(done).is_some()).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].at_ms - called_at_ms, 4_000);
    let result = answer(answers[0]).unwrap();
    assert_eq!(result.status, 200);
    assert!(json_of(&result)["offset"].is_f64());
}

#[test]
fn a_set_rate_is_kept_exactly_whoever_is_offline() {
    // The devices are online from the second step on.
    assert_eq!(telemetry(&run(50, Some(500), 120)).count(), 500 * 120);
    assert_eq!(telemetry(&run(3, Some(50_000), 2)).count(), 100_000);
}

#[test]
fn a_device_that_was_told_an_interval_keeps_it_beside_a_set_rate() {
    let mut play = Play::new(4, Some(400));
    play.run(2);
    play.call(0, "setInterval", r#"{"interval":1000}"#);
    let done = play.run(10);
    let own = telemetry_of(&done, 0).len();
    assert!((10..=11).contains(&own), "{own} messages");
    assert_eq!(telemetry(&done).count() - own, 4_000);
}

#[test]
fn after_a_standstill_the_missed_time_is_not_made_up_for() {
    let hour_ms = 3_600_000;
    for (rate, most) in [(Some(100_000), PACED_PER_STEP_MAX as usize), (None, 2)] {
        let mut play = Play::new(2, rate);
        play.run(2);
        let mut actions = Vec::new();
        play.fleet.step(START_MS + hour_ms, &mut actions);
        let done = play.at_this_time(actions);
        assert_eq!(telemetry(&done).count(), most);
    }
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut play = Play::new(4, Some(1_000));
    play.run(5);
    let mut actions = Vec::new();
    play.fleet.step(START_MS, &mut actions);
    assert_eq!(actions, []);
}
