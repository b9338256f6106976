//! From updates to what is on the wire, alone and as the last part of the whole way.

use std::hint::black_box;

use hubrelay::config::DecodingConfig;
use hubrelay::domain::shard::Shard;
use hubrelay::domain::update::Encoding;
use hubrelay::ingest::decode::Decoder;
use hubrelay::push;

use crate::{count_instructions, fleet};

/// Updates with one key, each written for the first who gets it, one at a time.
pub(crate) fn encode(encoding: Encoding) -> usize {
    let devices = fleet::device_names(500);
    let mut shard = fleet::shard();
    for device in &devices {
        fleet::subscribe(&mut shard, device, 0, Some("temperature"));
    }
    let mut outboxes = fleet::outboxes(1, Encoding::SocketIo);
    let mut messages = Vec::new();
    let mut decoder = Decoder::new(DecodingConfig::default());
    fleet::decode(&mut decoder, &devices, fleet::WITHOUT_TIME, &mut messages);
    fleet::route(&mut shard, &mut outboxes, &mut messages);
    let updates = outboxes[0].take(usize::MAX);
    let mut written = Vec::with_capacity(64 * 1024);
    count_instructions(&mut || {
        for update in updates.chunks(1) {
            written.clear();
            push::write_updates(encoding, update, 1, &mut written);
            black_box(&written);
        }
    });
    assert_eq!(updates.len(), devices.len(), "every message is an update");
    updates.len()
}

/// The whole way from ten events of one device, all keys of which very many want.
pub(crate) fn broadcast(encoding: Encoding) -> usize {
    const SESSIONS: usize = 500;
    let devices = vec![fleet::device_names(1).remove(0); 10];
    let mut shard = fleet::shard();
    for session in 0..SESSIONS {
        fleet::subscribe(&mut shard, &devices[0], session, None);
    }
    let delivered = whole_way(&devices, &mut shard, SESSIONS, encoding);
    assert_eq!(
        delivered,
        SESSIONS * devices.len(),
        "every message goes to all sessions"
    );
    delivered
}

/// The whole way from an event of each of a thousand devices, of which two sessions want one key, and not the same.
pub(crate) fn dashboards(encoding: Encoding) -> usize {
    const SESSIONS: usize = 500;
    let devices = fleet::device_names(1000);
    let mut shard = fleet::shard();
    for (place, device) in devices.iter().enumerate() {
        for session in [place % SESSIONS, (7 * place + 3) % SESSIONS] {
            let key = fleet::KEYS[session % fleet::KEYS.len()];
            fleet::subscribe(&mut shard, device, session, Some(key));
        }
    }
    let delivered = whole_way(&devices, &mut shard, SESSIONS, encoding);
    assert_eq!(
        delivered,
        2 * devices.len(),
        "every message goes to two sessions"
    );
    devices.len()
}

/// Counts what it takes from one event of each device to the bytes for every session's connection. Returns how many
/// updates those are.
fn whole_way(
    devices: &[String],
    shard: &mut Shard<usize>,
    sessions: usize,
    encoding: Encoding,
) -> usize {
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut outboxes = fleet::outboxes(sessions, encoding);
    let mut messages = Vec::new();
    let mut written = Vec::with_capacity(64 * 1024);
    let mut pass = |body| {
        fleet::decode(&mut decoder, devices, body, &mut messages);
        fleet::route(shard, &mut outboxes, &mut messages);
        fleet::send_all(&mut outboxes, |updates| {
            if !updates.is_empty() {
                written.clear();
                push::write_updates(encoding, updates, 1000, &mut written);
                black_box(&written);
            }
        })
    };
    pass(fleet::WITHOUT_TIME);
    let mut delivered = 0;
    count_instructions(&mut || delivered = pass(fleet::WITHOUT_TIME_LATER));
    delivered
}
