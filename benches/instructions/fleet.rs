//! The devices, messages, shard and outboxes that scenarios play with.

use std::sync::Arc;

use hubrelay::domain::device_message::DeviceMessage;
use hubrelay::domain::id::{DeviceId, SessionId, TelemetryKey};
use hubrelay::domain::limits::{OutboxLimits, ShardLimits};
use hubrelay::domain::outbox::Outbox;
use hubrelay::domain::shard::{Shard, ShardSettings, TwinCache};
use hubrelay::domain::subscription::{Delivery, DeviceSubscriptions, Subscription};
use hubrelay::domain::time::Now;
use hubrelay::domain::update::{Encoding, Update};
use hubrelay::ingest::decode::{Decoder, Event, Property};

/// The keys in [`WITHOUT_TIME`] and [`WITHOUT_TIME_LATER`].
pub(crate) const KEYS: [&str; 10] = [
    "temperature",
    "pressure",
    "humidity",
    "position",
    "running",
    "mode",
    "counter",
    "message",
    "level",
    "serial",
];

/// 200 bytes as devices send them, ten values, no time.
pub(crate) const WITHOUT_TIME: &str = r#"{"temperature":21.53,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":12345678901234567,"message":"well","level":7,"serial":"A-017"}"#;

/// The same but for three of the values.
pub(crate) const WITHOUT_TIME_LATER: &str = r#"{"temperature":21.54,"pressure":1013.26,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":12345678901234568,"message":"well","level":7,"serial":"A-017"}"#;

/// About as long, with the time in it.
pub(crate) const WITH_TIME: &str = r#"{"_ts":"2026-05-01T10:00:00.123Z","temperature":21.53,"pressure":1013.25,"humidity":45.2,"position":{"lat":52.5200,"lon":13.4050},"running":true,"mode":"automatic","counter":123456789,"serial":"A-0017"}"#;

/// The moment at which everything happens.
pub(crate) const NOW: Now = Now {
    monotonic_ms: 1_000,
    unix_ms: 1_777_629_600_000,
};

/// The ids of so many devices, as text.
pub(crate) fn device_names(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("device-{number:04}"))
        .collect()
}

/// The id of a device.
pub(crate) fn device_id(name: &str) -> DeviceId {
    DeviceId::new(name).expect("the name is short")
}

/// The id of the session with this number.
pub(crate) fn session_id(number: usize) -> SessionId {
    let mut random = [0; 10];
    // A UUID's version and variant go over some bits of the first bytes.
    random[2..].copy_from_slice(&number.to_be_bytes());
    SessionId::issue(NOW.unix_ms, random)
}

/// A subscription to one key, or to all.
pub(crate) fn telemetry(key: Option<&str>) -> Subscription {
    Subscription::Telemetry(key.map(|key| TelemetryKey::new(key).expect("the name is short")))
}

/// Decodes one event of each device with the properties that IoT Hub stamps on it.
pub(crate) fn decode(
    decoder: &mut Decoder,
    devices: &[String],
    body: &str,
    messages: &mut Vec<DeviceMessage>,
) {
    for device in devices {
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
            ("iothub-enqueuedtime", Property::TimestampMs(NOW.unix_ms)),
            ("iothub-message-source", Property::Text("Telemetry")),
            ("x-opt-sequence-number", Property::Number(1e6)),
            ("x-opt-offset", Property::Text("123456789")),
            ("x-opt-enqueued-time", Property::TimestampMs(NOW.unix_ms)),
        ] {
            event.annotations.set(name, value);
        }
        decoder.decode(&event, NOW.unix_ms, messages);
    }
}

/// A shard that knows no device. It names outboxes by their place.
pub(crate) fn shard() -> Shard<usize> {
    Shard::new(ShardSettings {
        limits: ShardLimits {
            devices_max: 10_000,
            keys_per_device_max: 100,
        },
        throttling_interval_ms: None,
        connection_state_ttl_ms: None,
        twin_cache: TwinCache::Forever,
        reads_twins: false,
        reads_connection_states: false,
    })
}

/// Lets the session with this number, whose outbox has the same, see one key of a device, or all.
pub(crate) fn subscribe(shard: &mut Shard<usize>, device: &str, session: usize, key: Option<&str>) {
    let mut wanted = DeviceSubscriptions::default();
    wanted.insert(telemetry(key), Delivery::default());
    let device = device_id(device);
    shard.set_subscriptions(&device, session_id(session), &session, &wanted, NOW);
}

/// So many empty outboxes, for clients that are sent updates in this encoding.
pub(crate) fn outboxes(count: usize, encoding: Encoding) -> Vec<Outbox> {
    let limits = OutboxLimits {
        frames_max: 1024,
        bytes_max: 1024 * 1024,
        replay_frames_max: 256,
        replay_bytes_max: 256 * 1024,
    };
    let outbox = || {
        let mut outbox = Outbox::new(limits);
        if encoding == Encoding::Native {
            outbox.start_numbering();
        }
        outbox
    };
    std::iter::repeat_with(outbox).take(count).collect()
}

/// Hands messages to the shard, and the updates that follow from them to the outboxes.
pub(crate) fn route(
    shard: &mut Shard<usize>,
    outboxes: &mut [Outbox],
    messages: &mut Vec<DeviceMessage>,
) {
    let mut batch = std::mem::take(messages).into_iter();
    let mut deliver = |outbox: &usize, update| {
        outboxes[*outbox]
            .push(update)
            .expect("every outbox is emptied before it is full");
    };
    while shard.apply_next(&mut batch, NOW, |_| {}, &mut deliver) > 0 {}
}

/// Takes all updates out of all outboxes and hands them to `send`, those of one outbox at a time. Returns how many.
pub(crate) fn send_all(outboxes: &mut [Outbox], mut send: impl FnMut(&[Arc<Update>])) -> usize {
    let mut count = 0;
    for outbox in outboxes {
        let updates = outbox.take(usize::MAX);
        count += updates.len();
        send(&updates);
    }
    count
}
