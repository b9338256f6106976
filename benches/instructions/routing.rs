//! From device messages to what leaves the outboxes.

use std::hint::black_box;

use hubrelay::config::DecodingConfig;
use hubrelay::domain::device_message::DeviceMessage;
use hubrelay::domain::outbox::Outbox;
use hubrelay::domain::shard::Shard;
use hubrelay::ingest::decode::Decoder;

use crate::{count_instructions, fleet};

/// Messages of devices that nobody subscribed to become last values.
pub(crate) fn nobody() -> usize {
    let devices = fleet::device_names(500);
    let delivered = count_routing(&devices, &mut fleet::shard(), &mut []);
    assert_eq!(delivered, 0, "nobody gets anything");
    devices.len()
}

/// Each message is cut twice: one session wants every key of the device, one a single key.
pub(crate) fn two_views() -> usize {
    let devices = fleet::device_names(500);
    let mut shard = fleet::shard();
    for (place, device) in devices.iter().enumerate() {
        let session = 2 * (place % 25);
        fleet::subscribe(&mut shard, device, session, None);
        fleet::subscribe(&mut shard, device, session + 1, Some("temperature"));
    }
    let delivered = count_routing(&devices, &mut shard, &mut fleet::outboxes(50));
    assert_eq!(
        delivered,
        2 * devices.len(),
        "every message goes to two sessions"
    );
    devices.len()
}

/// One device, and very many who look at it.
pub(crate) fn broadcast() -> usize {
    const SESSIONS: usize = 500;
    const MESSAGES: usize = 10;
    let device = fleet::device_names(1).remove(0);
    let mut shard = fleet::shard();
    for session in 0..SESSIONS {
        fleet::subscribe(&mut shard, &device, session, None);
    }
    let messages = vec![device; MESSAGES];
    let delivered = count_routing(&messages, &mut shard, &mut fleet::outboxes(SESSIONS));
    assert_eq!(
        delivered,
        SESSIONS * MESSAGES,
        "every message goes to all sessions"
    );
    delivered
}

/// One message of each of `devices` through the shard and the outboxes, and out of those. Returns how often one left.
fn count_routing(devices: &[String], shard: &mut Shard<usize>, outboxes: &mut [Outbox]) -> usize {
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut messages = Vec::new();
    fleet::decode(&mut decoder, devices, fleet::WITHOUT_TIME, &mut messages);
    route(shard, outboxes, &mut messages);
    fleet::decode(
        &mut decoder,
        devices,
        fleet::WITHOUT_TIME_LATER,
        &mut messages,
    );
    let mut delivered = 0;
    count_instructions(&mut || delivered = route(shard, outboxes, &mut messages));
    delivered
}

fn route(
    shard: &mut Shard<usize>,
    outboxes: &mut [Outbox],
    messages: &mut Vec<DeviceMessage>,
) -> usize {
    fleet::route(shard, outboxes, messages);
    fleet::send_all(outboxes, |updates| {
        black_box(updates);
    })
}

/// All of it, from the event to what leaves: a thousand devices, of each of which two sessions want one key, and not the
/// same.
pub(crate) fn dashboards() -> usize {
    const SESSIONS: usize = 500;
    let devices = fleet::device_names(1000);
    let mut shard = fleet::shard();
    for (place, device) in devices.iter().enumerate() {
        for session in [place % SESSIONS, (7 * place + 3) % SESSIONS] {
            let key = fleet::KEYS[session % fleet::KEYS.len()];
            fleet::subscribe(&mut shard, device, session, Some(key));
        }
    }
    let mut outboxes = fleet::outboxes(SESSIONS);
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut messages = Vec::new();
    let mut batch = |body| {
        fleet::decode(&mut decoder, &devices, body, &mut messages);
        route(&mut shard, &mut outboxes, &mut messages)
    };
    batch(fleet::WITHOUT_TIME);
    let mut delivered = 0;
    count_instructions(&mut || delivered = batch(fleet::WITHOUT_TIME_LATER));
    assert_eq!(
        delivered,
        2 * devices.len(),
        "every message goes to two sessions"
    );
    devices.len()
}
