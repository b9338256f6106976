use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::event::AnnotationValue;

/// 2026-01-01T00:00:00Z
const START_MS: i64 = 1_767_225_600_000;

/// What a fleet does in so many seconds, stepped every 10 ms.
fn run(devices: usize, rate: Option<u32>, seconds: i64) -> Vec<DeviceEvent> {
    let rate = rate.map(|rate| NonZeroU32::new(rate).unwrap());
    let mut fleet = Fleet::new("factory", devices, rate, 7, START_MS);
    let mut events = Vec::new();
    for step in 0..=seconds * 100 {
        fleet.step(START_MS + step * 10, &mut events);
    }
    events
}

fn source(event: &Event) -> &str {
    annotation(event, "iothub-message-source")
}

fn annotation<'a>(event: &'a Event, name: &str) -> &'a str {
    match event.annotations.iter().find(|(own, _)| own == name) {
        Some((_, AnnotationValue::String(value))) => value,
        other => panic!("{name} is {other:?}"),
    }
}

fn enqueued_at_ms(event: &Event) -> i64 {
    let is_time = |(name, _): &&(String, _)| name == "iothub-enqueuedtime";
    match event.annotations.iter().find(is_time) {
        Some((_, AnnotationValue::TimestampMs(at_ms))) => *at_ms,
        other => panic!("the enqueued time is {other:?}"),
    }
}

fn operation(event: &Event) -> &str {
    let (_, operation) = event
        .application_properties
        .iter()
        .find(|(name, _)| name == "opType")
        .unwrap();
    operation
}

fn body(event: &Event) -> Value {
    serde_json::from_slice(&event.body).unwrap()
}

fn telemetry(events: &[DeviceEvent]) -> impl Iterator<Item = &DeviceEvent> {
    events
        .iter()
        .filter(|event| source(&event.event) == "Telemetry")
}

/// The bodies of one device's telemetry.
fn telemetry_of<'a>(
    events: &'a [DeviceEvent],
    device_id: &'a str,
) -> impl Iterator<Item = Value> + 'a {
    telemetry(events)
        .filter(move |event| event.device_id == device_id)
        .map(|event| body(&event.event))
}

#[test]
fn the_same_seed_and_times_give_the_same_events() {
    assert_eq!(run(8, None, 60), run(8, None, 60));
}

#[test]
fn devices_are_named_by_their_kind_and_number_and_every_event_names_its_device() {
    let events = run(5, None, 10);
    let names: BTreeSet<&str> = events
        .iter()
        .map(|event| event.device_id.as_str())
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(["press-01", "tank-02", "truck-03", "room-04", "press-05"])
    );
    for event in &events {
        assert_eq!(
            annotation(&event.event, "iothub-connection-device-id"),
            event.device_id
        );
    }
}

#[test]
fn no_devices_send_nothing_at_any_rate() {
    assert_eq!(run(0, None, 5), []);
    assert_eq!(run(0, Some(1_000), 5), []);
}

#[test]
fn devices_measure_numbers_a_position_booleans_objects_and_text_at_different_rates() {
    let events = run(4, None, 30);
    let count = |device_id| telemetry_of(&events, device_id).count();
    assert!(
        (57..=60).contains(&count("press-01")),
        "{}",
        count("press-01")
    );
    assert!(
        (28..=30).contains(&count("tank-02")),
        "{}",
        count("tank-02")
    );
    assert!(
        (14..=15).contains(&count("truck-03")),
        "{}",
        count("truck-03")
    );
    assert!((5..=6).contains(&count("room-04")), "{}", count("room-04"));

    let last = |device_id| telemetry_of(&events, device_id).last().unwrap();
    let press = last("press-01");
    assert!(press["temperature"].is_f64() && press["pressure"].is_f64());
    assert!(press["vibration"]["z"].is_f64() && press["running"].is_boolean());
    assert!(last("tank-02")["valveOpen"].is_boolean() && last("tank-02")["level"].is_f64());
    assert!(last("truck-03")["position"]["lat"].is_f64() && last("truck-03")["status"].is_string());
    assert!(last("room-04")["humidity"].is_f64() && last("room-04")["air"]["quality"].is_string());
}

#[test]
fn measurements_move_like_physical_ones() {
    let events = run(4, None, 1_200);
    // The largest step between two messages, and the band, for each.
    let bounds = [
        ("press-01", "/temperature", 3.0, 35.0..90.0),
        ("press-01", "/pressure", 1.2, 0.5..8.0),
        ("tank-02", "/level", 4.0, 10.0..95.0),
        ("tank-02", "/temperature", 0.5, 12.0..24.0),
        ("truck-03", "/position/lat", 0.0006, 48.7..48.9),
        ("truck-03", "/position/lon", 0.0009, 9.1..9.3),
        ("truck-03", "/speed", 5.0, 0.0..100.0),
        ("room-04", "/temperature", 0.6, 15.0..28.0),
        ("room-04", "/humidity", 1.5, 35.0..60.0),
        ("room-04", "/air/co2Ppm", 90.0, 380.0..1_100.0),
    ];
    for (device_id, pointer, largest_step, band) in bounds {
        let samples: Vec<(i64, f64)> = telemetry(&events)
            .filter(|event| event.device_id == device_id)
            .map(|DeviceEvent { event, .. }| {
                let value = body(event).pointer(pointer).unwrap().as_f64().unwrap();
                (enqueued_at_ms(event), value)
            })
            .collect();
        for (_, value) in &samples {
            assert!(band.contains(value), "{device_id} {pointer} is {value}");
        }
        let distinct: BTreeSet<String> =
            samples.iter().map(|(_, value)| value.to_string()).collect();
        assert!(distinct.len() > 20, "{device_id} {pointer} stands still");
        // A device that was offline meanwhile has moved on.
        let while_online = |pair: &&[(i64, f64)]| pair[1].0 - pair[0].0 < 6_000;
        for pair in samples.windows(2).filter(while_online) {
            let step = (pair[1].1 - pair[0].1).abs();
            assert!(
                step <= largest_step,
                "{device_id} {pointer} steps by {step}"
            );
        }
    }
}

#[test]
fn a_device_that_is_offline_says_nothing_until_it_is_back() {
    let events = run(6, None, 600);
    let mut online = BTreeMap::new();
    let mut lost = BTreeMap::<&str, u32>::new();
    for DeviceEvent { device_id, event } in &events {
        let online = online.entry(device_id.as_str()).or_insert(false);
        if source(event) == "deviceConnectionStateEvents" {
            let connects = operation(event) == "deviceConnected";
            assert_ne!(*online, connects, "{device_id} changed to what it was");
            *online = connects;
            if !connects {
                *lost.entry(device_id).or_default() += 1;
            }
        } else {
            assert!(*online, "{device_id} spoke while offline");
        }
    }
    let names: Vec<&str> = lost.keys().copied().collect();
    assert_eq!(names, ["tank-06", "truck-03"], "one in three is unsteady");
    assert!(lost.values().all(|&times| times >= 3), "{lost:?}");
}

#[test]
fn connection_sequence_numbers_increase_and_twin_versions_count_up() {
    let events = run(6, None, 600);
    let mut sequence_numbers = BTreeMap::<&str, String>::new();
    let mut versions = BTreeMap::<&str, u64>::new();
    for DeviceEvent { device_id, event } in &events {
        match source(event) {
            "deviceConnectionStateEvents" => {
                let number = body(event)["sequenceNumber"].as_str().unwrap().to_owned();
                let before = sequence_numbers.insert(device_id, number.clone());
                assert!(before.is_none_or(|before| before < number));
            }
            "twinChangeEvents" => {
                let body = body(event);
                let version = body["version"].as_u64().unwrap();
                let before = versions.insert(device_id, version).unwrap_or(2);
                assert_eq!(version, before + 1);
                assert_eq!(
                    body["properties"]["reported"]["$version"].as_u64(),
                    Some(version - 1)
                );
            }
            _ => {}
        }
    }
    assert_eq!(sequence_numbers.len(), 6);
    assert!(
        versions.values().all(|&version| version > 5),
        "{versions:?}"
    );
}

#[test]
fn a_set_rate_is_kept_exactly_whoever_is_offline() {
    assert_eq!(telemetry(&run(50, Some(333), 120)).count(), 333 * 120);
    assert_eq!(telemetry(&run(3, Some(50_000), 2)).count(), 100_000);
}

#[test]
fn after_a_standstill_the_missed_time_is_not_made_up_for() {
    let hour_ms = 3_600_000;
    let mut events = Vec::new();

    let rate = NonZeroU32::new(100_000);
    let mut paced = Fleet::new("factory", 4, rate, 7, START_MS);
    paced.step(START_MS, &mut events);
    events.clear();
    paced.step(START_MS + hour_ms, &mut events);
    assert_eq!(
        telemetry(&events).count(),
        usize::try_from(PACED_PER_STEP_MAX).unwrap()
    );

    let mut unpaced = Fleet::new("factory", 4, None, 7, START_MS);
    unpaced.step(START_MS + 1_000, &mut events);
    events.clear();
    unpaced.step(START_MS + hour_ms, &mut events);
    unpaced.step(START_MS + hour_ms + 10, &mut events);
    assert!(telemetry(&events).count() <= 4);
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut fleet = Fleet::new("factory", 4, NonZeroU32::new(1_000), 7, START_MS);
    let mut events = Vec::new();
    fleet.step(START_MS + 5_000, &mut events);
    events.clear();
    fleet.step(START_MS, &mut events);
    assert_eq!(events, []);
}
