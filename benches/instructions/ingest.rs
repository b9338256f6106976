//! From an event of the hub to a device message.

use std::hint::black_box;

use hubrelay::config::DecodingConfig;
use hubrelay::ingest::decode::Decoder;

use crate::{count_instructions, fleet};

const DEVICES: usize = 500;

/// The time of a message is what the hub stamped on it.
pub(crate) fn decode_hub_time() -> usize {
    decode(fleet::WITHOUT_TIME)
}

/// The time of a message is a text in its body.
pub(crate) fn decode_body_time() -> usize {
    decode(fleet::WITH_TIME)
}

fn decode(body: &str) -> usize {
    let devices = fleet::device_names(DEVICES);
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut messages = Vec::new();
    fleet::decode(&mut decoder, &devices, body, &mut messages);
    messages.clear();
    count_instructions(&mut || {
        fleet::decode(&mut decoder, &devices, body, &mut messages);
        black_box(&messages);
    });
    assert_eq!(messages.len(), DEVICES, "no event is dropped");
    messages.len()
}
