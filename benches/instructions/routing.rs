//! From device messages to the outboxes, and out of those.

use std::hint::black_box;

use hubrelay::config::DecodingConfig;
use hubrelay::domain::outbox::Outbox;
use hubrelay::domain::shard::Shard;
use hubrelay::domain::update::Encoding;
use hubrelay::ingest::decode::Decoder;

use crate::{count_instructions, fleet};

/// Messages of devices that nobody subscribed to become last values.
pub(crate) fn nobody() -> usize {
    let devices = fleet::device_names(500);
    let delivered = route(&devices, &mut fleet::shard(), &mut []);
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
    let delivered = route(
        &devices,
        &mut shard,
        &mut fleet::outboxes(50, Encoding::SocketIo),
    );
    assert_eq!(
        delivered,
        2 * devices.len(),
        "every message goes to two sessions"
    );
    devices.len()
}

/// Counts one decoded message of each device. Returns how many updates came out of the outboxes.
fn route(devices: &[String], shard: &mut Shard<usize>, outboxes: &mut [Outbox]) -> usize {
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut messages = Vec::new();
    let mut delivered = 0;
    let mut pass = |body, count: &mut dyn FnMut(&mut dyn FnMut())| {
        fleet::decode(&mut decoder, devices, body, &mut messages);
        count(&mut || {
            fleet::route(shard, outboxes, &mut messages);
            delivered = fleet::send_all(outboxes, |updates| {
                black_box(updates);
            });
        });
    };
    pass(fleet::WITHOUT_TIME, &mut |work| work());
    pass(fleet::WITHOUT_TIME_LATER, &mut |work| {
        count_instructions(work);
    });
    delivered
}
