//! One update as hubrelay writes it, compared byte for byte as far as it can be known beforehand.

use crate::message::Delivery;

const DEVICE_BEFORE: &[u8] = br#"{"deviceId":"device-"#;
const OBJECT_BEFORE: &[u8] = br#"","telemetry":"#;
const TIME_BEFORE: &[u8] = br#","timestamp":""#;

/// A time such as `2026-05-01T10:00:00.000Z` and the quotation mark behind it.
const TIME_BYTES: usize = 24;

/// Reads an update up to its time. Returns its object of values, and the text behind the time.
pub(super) fn read(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (device, rest) = text.strip_prefix(DEVICE_BEFORE)?.split_first_chunk::<5>()?;
    let rest = rest.strip_prefix(OBJECT_BEFORE)?;
    // There is no other bracket in the object.
    let end = rest.iter().position(|&byte| byte == b'}')? + 1;
    let (object, rest) = rest.split_at(end);
    // What the object says about its device is looked at by whoever gets it; here both must be the same.
    (Delivery::device_digits(object)? == device).then_some(())?;
    let (time, rest) = rest
        .strip_prefix(TIME_BEFORE)?
        .split_at_checked(TIME_BYTES)?;
    let rest = rest.strip_prefix(b"\"")?;
    (time.ends_with(b"Z") && time[10] == b'T').then_some((object, rest))
}
