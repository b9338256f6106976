//! A telemetry update as bytes in a row, which name nothing else in memory.
//!
//! Guarantees: what is read is what was written, to the byte. Records are read only by whoever wrote them, so a record that
//! ends too early is a broken invariant and not an error.

use std::sync::Arc;

use crate::domain::id::DeviceName;
use crate::domain::raw_json::{Span, offset};
use crate::domain::shape::Shape;
use crate::domain::telemetry::Telemetry;
use crate::domain::time::{Stamp, Timestamp};
use crate::domain::update::{Update, UpdateBody};

/// In place of a length: there is no such text.
const NONE: u32 = u32::MAX;

/// Appends an update whose body is `telemetry`.
pub(super) fn write(update: &Update, telemetry: &Telemetry, record: &mut Vec<u8>) {
    push_text(record, Some(update.device_id.as_str()));
    push_text(record, update.device_id.module());
    let Stamp {
        timestamp,
        received_unix_ms,
    } = &update.stamp;
    record.extend_from_slice(&received_unix_ms.to_le_bytes());
    match timestamp {
        Timestamp::UnixMs(unix_ms) => {
            push_text(record, None);
            record.extend_from_slice(&unix_ms.to_le_bytes());
        }
        Timestamp::Text(text) => push_text(record, Some(text)),
    }
    record.extend_from_slice(&offset(telemetry.len()).to_le_bytes());
    for (key, literal, value) in telemetry.iter() {
        let is_escaped = literal.len() != key.len() + 2;
        push_text(record, Some(literal));
        push_text(record, is_escaped.then_some(key));
        push_text(record, Some(value));
    }
}

/// The update that was written first, whose record is taken off the front of `records`.
pub(super) fn read(records: &mut &[u8]) -> Update {
    let mut record = Reader(records);
    let device = record.text().unwrap_or_default();
    let module = record.text();
    let device_id = DeviceName { device, module }.to_id();
    let received_unix_ms = record.i64();
    let timestamp = match record.text() {
        Some(text) => Timestamp::Text(text.into()),
        None => Timestamp::UnixMs(record.i64()),
    };
    let mut keys = Vec::new();
    let mut values = Vec::new();
    let mut body = String::new();
    for _ in 0..record.u32() {
        let literal = record.text().unwrap_or_default();
        keys.push((literal, record.text().map(Box::from)));
        let start = offset(body.len());
        body.push_str(record.text().unwrap_or_default());
        let end = offset(body.len());
        values.push(Span { start, end });
    }
    let shape = Arc::new(Shape::new(keys));
    let telemetry = Telemetry::new(body.into(), shape, values.into());
    Update::new(
        device_id.expect("it was the id of a device before"),
        Stamp {
            timestamp,
            received_unix_ms,
        },
        UpdateBody::Telemetry(telemetry),
    )
}

fn push_text(record: &mut Vec<u8>, text: Option<&str>) {
    let bytes = text.map_or(NONE, |text| offset(text.len()));
    record.extend_from_slice(&bytes.to_le_bytes());
    record.extend_from_slice(text.unwrap_or_default().as_bytes());
}

struct Reader<'a, 'b>(&'b mut &'a [u8]);

impl<'a> Reader<'a, '_> {
    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        *self.0 = rest;
        taken
    }

    fn number<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let bytes = self.take(BYTES).try_into();
        bytes.expect("as many bytes were taken")
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.number())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.number())
    }

    fn text(&mut self) -> Option<&'a str> {
        let bytes = Some(self.u32()).filter(|bytes| *bytes != NONE)?;
        let text = std::str::from_utf8(self.take(bytes as usize));
        Some(text.expect("a text was written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::DeviceId;
    use crate::domain::telemetry::tests::telemetry;

    #[test]
    fn what_was_written_is_read() {
        let members: &[&[(&str, &str)]] = &[
            &[("t", "1.50")],
            &[
                ("a\"", "[1, 2]"),
                ("é", "\"a text that is longer than a short value\""),
            ],
        ];
        let devices = [DeviceId::new("d1"), DeviceId::of_module("d\"1", "m")];
        let times = [Timestamp::UnixMs(-5), Timestamp::Text("2024-05-01".into())];
        let mut records = Vec::new();
        let mut written: Vec<Update> = Vec::new();
        for members in members {
            for (device_id, timestamp) in devices.iter().zip(&times) {
                let stamp = Stamp {
                    timestamp: timestamp.clone(),
                    received_unix_ms: 7,
                };
                let telemetry = telemetry(members);
                let body = UpdateBody::Telemetry(telemetry.clone());
                let update = Update::new(device_id.clone().unwrap(), stamp, body);
                write(&update, &telemetry, &mut records);
                written.push(update);
            }
        }
        let mut unread = records.as_slice();
        for update in written {
            let read = read(&mut unread);
            assert_eq!(format!("{read:?}"), format!("{update:?}"));
            let (UpdateBody::Telemetry(read), UpdateBody::Telemetry(update)) =
                (read.body, update.body)
            else {
                panic!("both are telemetry");
            };
            assert!(
                read.iter().eq(update.iter()),
                "keys are written as they were"
            );
        }
    }
}
