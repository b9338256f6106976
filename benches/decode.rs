//! What decoding costs: nanoseconds for each event, for bodies as devices send them.
//!
//! `cargo bench --bench decode`. No thresholds here: a machine under load would make them lie.

use std::hint::black_box;
use std::time::Instant;

use hubrelay::config::DecodingConfig;
use hubrelay::ingest::decode::{Decoder, Event, Property};

const EVENTS: u32 = 200_000;
const ROUNDS: u32 = 5;

fn main() {
    let telemetry = r#"{"_ts":"2026-05-01T10:00:00.123Z","temperature":21.53,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":123456789,"serial":"A-0017"}"#;
    let without_time = r#"{"temperature":21.53,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":1234567890123456,"message":"all is well","serial":"A-00017"}"#;
    let array = format!("[{telemetry},{telemetry},{telemetry}]");
    for (name, body) in [
        ("object with its own time", telemetry),
        ("object without a time", without_time),
        ("array of three objects", &array),
    ] {
        let nanoseconds = (0..ROUNDS)
            .map(|_| nanoseconds_per_event(body))
            .fold(f64::INFINITY, f64::min);
        report(name, body.len(), nanoseconds);
    }
}

/// The mean over many events from a thousand devices, taken out in batches as ingest does.
fn nanoseconds_per_event(body: &str) -> f64 {
    let devices: Vec<String> = (0..1000)
        .map(|device| format!("device-{device:04}"))
        .collect();
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut messages = Vec::with_capacity(1024);
    let start = Instant::now();
    for number in 0..EVENTS {
        let mut event = Event {
            body: body.as_bytes(),
            ..Event::default()
        };
        let device = &devices[number as usize % devices.len()];
        event
            .annotations
            .set("iothub-connection-device-id", Property::Text(device));
        event
            .annotations
            .set("iothub-message-source", Property::Text("Telemetry"));
        event.annotations.set(
            "iothub-enqueuedtime",
            Property::TimestampMs(1_777_629_600_000),
        );
        decoder.decode(&event, 1_777_629_600_000, &mut messages);
        if messages.len() >= 1000 {
            black_box(&messages);
            messages.clear();
        }
    }
    black_box(decoder.take_tally());
    start.elapsed().as_secs_f64() * 1e9 / f64::from(EVENTS)
}

#[expect(clippy::print_stdout, reason = "a bench reports on stdout")]
fn report(name: &str, body_bytes: usize, nanoseconds: f64) {
    println!("{name:<26} {body_bytes:>5} bytes {nanoseconds:>8.0} ns/event");
}
