//! What a device message costs in the domain, without sockets: decoding, last values, routing to two sessions, their
//! outboxes.
//!
//! `cargo bench --bench domain`. One thread, a thousand devices, bodies of about 200 bytes as devices send them, with
//! the properties that IoT Hub stamps on them. Of two sessions that see a device one wants every key and one a single
//! key, so each message is cut twice. What the native protocol adds is shown beside that: changed values only, keys by
//! pattern, updates that are numbered and remembered. The best of a few rounds is shown, which is what a machine with other work can
//! still tell; there are no thresholds here.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hubrelay::config::DecodingConfig;
use hubrelay::domain::device_message::DeviceMessage;
use hubrelay::domain::id::{DeviceId, SessionId, TelemetryKey};
use hubrelay::domain::limits::{OutboxLimits, ShardLimits};
use hubrelay::domain::outbox::Outbox;
use hubrelay::domain::shard::{Shard, ShardSettings, TwinCache};
use hubrelay::domain::subscription::{Delivery, DeviceSubscriptions, KeyPattern, Subscription};
use hubrelay::domain::time::Now;
use hubrelay::ingest::decode::{Decoder, Event, Property};

/// As in the program: what is measured is its allocator as well.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const DEVICES: usize = 1000;

/// Sessions that want every key, and as many again that want one.
const SESSIONS: usize = 50;

/// Messages handed over at once, as by ingest.
const BATCH: usize = 1000;

const BATCHES: usize = 200;
const ROUNDS: usize = 5;

const UNIX_MS: i64 = 1_777_629_600_000;

const WITH_TIME: &str = r#"{"_ts":"2026-05-01T10:00:00.123Z","temperature":21.53,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":123456789,"serial":"A-0017"}"#;
const WITHOUT_TIME: &str = r#"{"temperature":21.53,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":1234567890123456,"message":"all is well","serial":"A-00017"}"#;

/// The same as [`WITHOUT_TIME`] but for two of its ten values.
const WITHOUT_TIME_LATER: &str = r#"{"temperature":21.54,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":1234567890123457,"message":"all is well","serial":"A-00017"}"#;

fn main() {
    let devices: Vec<String> = (0..DEVICES)
        .map(|device| format!("device-{device:04}"))
        .collect();
    let array = format!("[{WITH_TIME},{WITH_TIME},{WITH_TIME}]");

    report_head();
    for (name, body) in [
        ("decode: time in the body", WITH_TIME),
        ("decode: time of the hub", WITHOUT_TIME),
        ("decode: array of three", &array),
    ] {
        report(name, body, best_of(|| decode_alone(&devices, body)));
    }
    report(
        "shard and outboxes",
        WITHOUT_TIME,
        best_of(|| domain(&devices, &[WITHOUT_TIME], &Sessions::by_name()).shard),
    );
    for (name, sessions) in [
        ("  two values change", Sessions::by_name()),
        ("  changed values only", Sessions::changes_only()),
        ("  keys by pattern", Sessions::by_pattern()),
        ("  numbered, remembered", Sessions::numbered()),
    ] {
        let bodies = [WITHOUT_TIME, WITHOUT_TIME_LATER];
        let spent = best_of(|| domain(&devices, &bodies, &sessions).shard);
        report(name, WITHOUT_TIME, spent);
    }
    for (name, body) in [
        ("domain: time in the body", WITH_TIME),
        ("domain: time of the hub", WITHOUT_TIME),
    ] {
        let spent = best_of(|| domain(&devices, &[body], &Sessions::by_name()).total());
        report(name, body, spent);
    }
}

fn best_of(round: impl Fn() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}

fn decode_alone(devices: &[String], body: &str) -> Duration {
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut messages = Vec::with_capacity(BATCH);
    let start = Instant::now();
    for _ in 0..BATCHES {
        decode_batch(&mut decoder, devices, body, &mut messages);
        black_box(&messages);
        messages.clear();
    }
    let elapsed = start.elapsed();
    black_box(decoder.take_tally());
    elapsed
}

/// Where the time went.
#[derive(Default)]
struct Spent {
    decode: Duration,
    shard: Duration,
}

impl Spent {
    fn total(&self) -> Duration {
        self.decode + self.shard
    }
}

/// What the two sessions of each device want, and how it leaves.
struct Sessions {
    wide: Subscription,
    narrow: Subscription,
    delivery: Delivery,
    is_numbered: bool,
}

impl Sessions {
    /// Every key, and one key.
    fn by_name() -> Self {
        let one_key = TelemetryKey::new("temperature").expect("the name is short");
        Self {
            wide: Subscription::Telemetry(None),
            narrow: Subscription::Telemetry(Some(one_key)),
            delivery: Delivery::default(),
            is_numbered: false,
        }
    }

    /// The same, as far as the values differ from those before.
    fn changes_only() -> Self {
        let delivery = Delivery {
            changes_only: true,
            ..Delivery::default()
        };
        Self {
            delivery,
            ..Self::by_name()
        }
    }

    /// The same keys, by patterns that match them.
    fn by_pattern() -> Self {
        let pattern = |pattern| {
            let pattern = KeyPattern::new(pattern).expect("the pattern is short");
            Subscription::TelemetryPattern(pattern)
        };
        Self {
            wide: pattern("*"),
            narrow: pattern("temp*"),
            ..Self::by_name()
        }
    }

    /// The same keys, for clients that can resume.
    fn numbered() -> Self {
        Self {
            is_numbered: true,
            ..Self::by_name()
        }
    }
}

/// From events to updates taken out of outboxes. The bodies take turns, from one batch to the next.
fn domain(devices: &[String], bodies: &[&str], sessions: &Sessions) -> Spent {
    let mut decoder = Decoder::new(DecodingConfig::default());
    let (mut shard, mut outboxes) = subscribed(devices, sessions);
    let mut messages = Vec::with_capacity(BATCH);
    let mut spent = Spent::default();
    let mut delivered = 0;
    for batch in 0..BATCHES {
        let body = bodies[batch % bodies.len()];
        let start = Instant::now();
        decode_batch(&mut decoder, devices, body, &mut messages);
        spent.decode += start.elapsed();

        let start = Instant::now();
        let now = Now {
            monotonic_ms: batch as u64,
            unix_ms: UNIX_MS,
        };
        for message in messages.drain(..) {
            shard.apply(message, now, |outbox, update| {
                outboxes[*outbox]
                    .push(update)
                    .expect("the outbox was emptied after the last batch");
            });
        }
        for outbox in &mut outboxes {
            delivered += outbox.take(usize::MAX).len();
        }
        spent.shard += start.elapsed();
    }
    assert_eq!(
        delivered,
        2 * BATCH * BATCHES,
        "every message goes to two sessions"
    );
    spent
}

/// A shard with two sessions on each device, and the outboxes of all sessions.
fn subscribed(devices: &[String], sessions: &Sessions) -> (Shard<usize>, Vec<Outbox>) {
    let mut shard = Shard::new(ShardSettings {
        limits: ShardLimits {
            devices_max: DEVICES,
            keys_per_device_max: 100,
        },
        throttling_interval_ms: None,
        connection_state_ttl_ms: None,
        twin_cache: TwinCache::Forever,
        reads_twins: false,
        reads_connection_states: false,
    });
    for (place, device) in devices.iter().enumerate() {
        let device = DeviceId::new(device).expect("the name is short");
        for (outbox, subscription) in [
            (place % SESSIONS, &sessions.wide),
            (SESSIONS + place % SESSIONS, &sessions.narrow),
        ] {
            let mut wanted = DeviceSubscriptions::default();
            wanted.insert(subscription.clone(), sessions.delivery);
            let number = u8::try_from(outbox).expect("there are few sessions");
            let session = SessionId::issue(UNIX_MS, [number; 10]);
            let now = Now {
                monotonic_ms: 0,
                unix_ms: UNIX_MS,
            };
            shard.set_subscriptions(&device, session, &outbox, &wanted, now);
        }
    }
    let limits = OutboxLimits {
        frames_max: 1024,
        bytes_max: 1024 * 1024,
        replay_frames_max: 256,
        replay_bytes_max: 256 * 1024,
    };
    let outbox = || {
        let mut outbox = Outbox::new(limits);
        if sessions.is_numbered {
            outbox.start_numbering();
        }
        outbox
    };
    let outboxes = (0..2 * SESSIONS).map(|_| outbox()).collect();
    (shard, outboxes)
}

fn decode_batch(
    decoder: &mut Decoder,
    devices: &[String],
    body: &str,
    messages: &mut Vec<DeviceMessage>,
) {
    for device in devices.iter().cycle().take(BATCH) {
        let mut event = Event {
            body: body.as_bytes(),
            ..Event::default()
        };
        for (name, value) in [
            ("iothub-connection-device-id", Property::Text(device)),
            (
                "iothub-connection-auth-method",
                Property::Text(r#"{"scope":"device","type":"sas","issuer":"iothub"}"#),
            ),
            (
                "iothub-connection-auth-generation-id",
                Property::Text("638500000000000000"),
            ),
            ("iothub-enqueuedtime", Property::TimestampMs(UNIX_MS)),
            ("iothub-message-source", Property::Text("Telemetry")),
            ("x-opt-sequence-number", Property::Number(1e6)),
            ("x-opt-offset", Property::Text("123456789")),
            ("x-opt-enqueued-time", Property::TimestampMs(UNIX_MS)),
        ] {
            event.annotations.set(name, value);
        }
        decoder.decode(&event, UNIX_MS, messages);
    }
}

#[expect(clippy::print_stdout, reason = "a bench reports on stdout")]
fn report_head() {
    println!(
        "{:<26} {:>10} {:>14} {:>12}",
        "", "body bytes", "events/s", "ns/event"
    );
}

#[expect(clippy::print_stdout, reason = "a bench reports on stdout")]
#[expect(
    clippy::cast_precision_loss,
    reason = "the number of events is far below 2^53"
)]
fn report(name: &str, body: &str, elapsed: Duration) {
    let events = (BATCH * BATCHES) as f64;
    let seconds = elapsed.as_secs_f64();
    println!(
        "{name:<26} {:>10} {:>14.0} {:>12.0}",
        body.len(),
        events / seconds,
        seconds * 1e9 / events
    );
}
