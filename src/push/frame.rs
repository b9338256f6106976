//! The JSON texts that carry device values in the native protocol.
//!
//! Values and keys are written as they came in, byte for byte: a text is put together from what is there, without a tree
//! of values in between. An update is written once, whoever gets it. The shapes are those of
//! [`relay_protocol::native`], which the tests hold against them.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use relay_protocol::native::{Refused, ServerHello, ServerMessage};

use crate::domain::id::{DeviceId, SessionId};
use crate::domain::outbox::Skipped;
use crate::domain::snapshot::DeviceSnapshot;
use crate::domain::time::{Stamp, TimeWriter};
use crate::domain::update::{Encoding, Update, UpdateBody};
use crate::push::json_text::{push_integer, push_json, push_string};

/// About how many bytes an `updates` message takes beside its updates. Too many rather than too few.
const UPDATES_ENVELOPE_BYTES: usize = 96;

/// About how many bytes a value takes beside key and text.
const VALUE_ENVELOPE_BYTES: usize = 96;

/// About how many bytes an `updates` message takes.
pub(super) fn updates_bytes(updates: &[Arc<Update>]) -> usize {
    UPDATES_ENVELOPE_BYTES + Update::bytes_of_all(updates)
}

/// Appends an `updates` message with all of `updates`; `sequence` is the number of the last of them.
pub(super) fn push_updates(
    text: &mut Vec<u8>,
    updates: &[Arc<Update>],
    sequence: u64,
    skipped: Skipped,
    time_unix_ms: i64,
) {
    let mut text = Text::new(text);
    text.str(r#"{"type":"updates","sequence":"#);
    push_json(text.bytes, &sequence);
    text.str(r#","time":"#);
    push_integer(text.bytes, time_unix_ms);
    text.str(r#","updates":"#);
    text.array(updates, push_update);
    if skipped != Skipped::default() {
        let Skipped { conflated, dropped } = skipped;
        text.put(format_args!(
            r#","skipped":{{"conflated":{conflated},"dropped":{dropped}}}"#
        ));
    }
    text.bytes.push(b'}');
}

/// A `subscribed` message.
pub(super) fn subscribed(
    id: u64,
    sequence: u64,
    snapshot: &[DeviceSnapshot],
    refused: &[Refused],
    time_unix_ms: i64,
) -> Bytes {
    object(128 + snapshot_bytes(snapshot), |text| {
        text.put(format_args!(
            r#"{{"type":"subscribed","id":{id},"time":{time_unix_ms},"sequence":{sequence},"snapshot":"#
        ));
        text.snapshot(snapshot);
        text.refused(refused);
    })
}

/// A `lastValues` message.
pub(super) fn last_values(
    id: u64,
    values: &[DeviceSnapshot],
    refused: &[Refused],
    time_unix_ms: i64,
) -> Bytes {
    object(128 + snapshot_bytes(values), |text| {
        text.put(format_args!(
            r#"{{"type":"lastValues","id":{id},"time":{time_unix_ms},"values":"#
        ));
        text.snapshot(values);
        text.refused(refused);
    })
}

/// A `hello` message, with the snapshot in it if there is one. `hello` itself must not hold one.
pub(super) fn hello(hello: ServerHello, snapshot: Option<&[DeviceSnapshot]>) -> Bytes {
    debug_assert!(
        hello.snapshot.is_none(),
        "the snapshot is handed in beside it"
    );
    object(512 + snapshot.map_or(0, snapshot_bytes), |text| {
        text.json(&ServerMessage::Hello(hello));
        text.bytes.pop();
        if let Some(snapshot) = snapshot {
            text.str(r#","snapshot":"#);
            text.snapshot(snapshot);
        }
    })
}

/// What a stream of server-sent events begins with. `recovered` tells what became of a wish to resume; when it did,
/// there is no snapshot.
pub(super) fn stream_start(start: &StreamStart<'_>) -> Bytes {
    let StreamStart {
        session,
        epoch,
        sequence,
        time_unix_ms,
        recovered,
        snapshot,
        refused,
    } = start;
    object(192 + snapshot.map_or(0, snapshot_bytes), |text| {
        text.put(format_args!(
            r#"{{"type":"snapshot","sessionId":"{session}","epoch":{epoch},"sequence":{sequence},"time":{time_unix_ms}"#
        ));
        if let Some(recovered) = recovered {
            text.put(format_args!(r#","recovered":{recovered}"#));
        }
        if let Some(snapshot) = snapshot {
            text.str(r#","snapshot":"#);
            text.snapshot(snapshot);
        }
        text.refused(refused);
    })
}

/// The beginning of a stream of server-sent events.
#[derive(Debug)]
pub(super) struct StreamStart<'a> {
    /// The session.
    pub(super) session: SessionId,
    /// The stream of updates that follows.
    pub(super) epoch: u64,
    /// The number of the last update before it.
    pub(super) sequence: u64,
    /// The clock here.
    pub(super) time_unix_ms: i64,
    /// Whether the stream goes on where it was; `None` when nobody asked for that.
    pub(super) recovered: Option<bool>,
    /// What is known of what was asked for; `None` when the stream goes on where it was.
    pub(super) snapshot: Option<&'a [DeviceSnapshot]>,
    /// What was asked for in vain.
    pub(super) refused: &'a [Refused],
}

/// A message without device values.
pub(super) fn message(message: &ServerMessage) -> Bytes {
    let mut text = Vec::with_capacity(128);
    push_json(&mut text, message);
    text.into()
}

/// Whoever comes first writes the update for all others, if there are others.
fn push_update(text: &mut Text<'_>, update: &Arc<Update>) {
    if let Some(shared) = update.encoded_before(Encoding::Native) {
        text.bytes.extend_from_slice(shared);
        return;
    }
    let start = text.bytes.len();
    write_update(text, update);
    update.share_encoding(Encoding::Native, &text.bytes[start..]);
}

/// Writes `{"deviceId":…,<the one member that tells the kind>,"timestamp":…,"receivedAt":…}`, with `moduleId` after
/// `deviceId` for a module.
fn write_update(text: &mut Text<'_>, update: &Update) {
    text.device(&update.device_id);
    match &update.body {
        UpdateBody::Telemetry(telemetry) => {
            text.str(r#","telemetry":"#);
            telemetry.write_to(text.bytes);
        }
        UpdateBody::ConnectionState(true) => text.str(r#","connectionState":true"#),
        UpdateBody::ConnectionState(false) => text.str(r#","connectionState":false"#),
        UpdateBody::DeviceTwin(twin) => {
            text.str(r#","deviceTwin":"#);
            text.str(twin.as_str());
        }
        UpdateBody::Message(body) => {
            text.str(r#","message":"#);
            text.str(body.as_str());
        }
    }
    text.stamp(&update.stamp);
    text.bytes.push(b'}');
}

/// About how many bytes a snapshot takes.
fn snapshot_bytes(snapshot: &[DeviceSnapshot]) -> usize {
    let device = |device: &DeviceSnapshot| {
        let telemetry = device
            .telemetry
            .iter()
            .map(|last| last.key.as_str().len() + last.value.as_str().len() + VALUE_ENVELOPE_BYTES);
        let twin = device
            .device_twin
            .as_ref()
            .map_or(0, |twin| twin.value.as_str().len());
        telemetry.sum::<usize>() + twin + device.device_id.as_str().len() + 2 * VALUE_ENVELOPE_BYTES
    };
    snapshot.iter().map(device).sum()
}

/// A JSON text in the making.
struct Text<'a> {
    bytes: &'a mut Vec<u8>,
    times: TimeWriter,
}

impl<'a> Text<'a> {
    fn new(bytes: &'a mut Vec<u8>) -> Self {
        let times = TimeWriter::default();
        Self { bytes, times }
    }

    fn str(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// For what has to be formatted; [`str`](Self::str) costs less.
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.bytes
            .write_fmt(text)
            .expect("writing to memory cannot fail");
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        push_json(self.bytes, value);
    }

    fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.bytes.push(b'[');
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.bytes.push(b',');
            }
            write(self, item);
        }
        self.bytes.push(b']');
    }

    /// The beginning of an object about a device, or a module of one.
    fn device(&mut self, device: &DeviceId) {
        self.str(r#"{"deviceId":"#);
        push_string(self.bytes, device.as_str());
        if let Some(module) = device.module() {
            self.str(r#","moduleId":"#);
            push_string(self.bytes, module);
        }
    }

    fn stamp(&mut self, stamp: &Stamp) {
        self.str(r#","timestamp":""#);
        self.times.write(&stamp.timestamp, self.bytes);
        self.str(r#"","receivedAt":"#);
        push_integer(self.bytes, stamp.received_unix_ms);
    }

    fn aged_value(&mut self, value: &str, stamp: &Stamp) {
        self.str(r#"{"value":"#);
        self.str(value);
        self.stamp(stamp);
        self.bytes.push(b'}');
    }

    fn snapshot(&mut self, devices: &[DeviceSnapshot]) {
        self.array(devices, |text, device| {
            text.device(&device.device_id);
            if !device.telemetry.is_empty() {
                text.str(r#","telemetry":{"#);
                for (place, last) in device.telemetry.iter().enumerate() {
                    if place > 0 {
                        text.bytes.push(b',');
                    }
                    push_string(text.bytes, last.key.as_str());
                    text.bytes.push(b':');
                    text.aged_value(last.value.as_str(), &last.stamp);
                }
                text.bytes.push(b'}');
            }
            if let Some(connected) = &device.connection_state {
                text.str(r#","connectionState":"#);
                let value = if connected.value { "true" } else { "false" };
                text.aged_value(value, &connected.stamp);
            }
            if let Some(twin) = &device.device_twin {
                text.str(r#","deviceTwin":"#);
                text.aged_value(twin.value.as_str(), &twin.stamp);
            }
            text.bytes.push(b'}');
        });
    }

    fn refused(&mut self, refused: &[Refused]) {
        if !refused.is_empty() {
            self.str(r#","refused":"#);
            self.json(&refused);
        }
    }
}

/// A JSON object in about so many bytes; `write` leaves out the brace at its end.
fn object(bytes: usize, write: impl FnOnce(&mut Text<'_>)) -> Bytes {
    let mut text = Vec::with_capacity(bytes);
    write(&mut Text::new(&mut text));
    text.push(b'}');
    text.into()
}

#[cfg(test)]
mod tests {
    use relay_protocol::native::{ErrorCode, Limits, ServerFacts};

    use super::*;
    use crate::domain::id::TelemetryKey;
    use crate::domain::last_value::LastValue;
    use crate::domain::raw_json::RawJson;
    use crate::domain::telemetry::tests::telemetry;
    use crate::domain::time::{Stamped, Timestamp};

    fn stamp() -> Stamp {
        Stamp {
            timestamp: Timestamp::UnixMs(1_714_557_600_000),
            received_unix_ms: 1_714_557_600_123,
        }
    }

    fn update(device_id: &str, body: UpdateBody) -> Arc<Update> {
        Arc::new(Update::new(
            DeviceId::new(device_id).unwrap(),
            stamp(),
            body,
        ))
    }

    fn snapshot() -> Vec<DeviceSnapshot> {
        let last = |key: &str, value: &str| LastValue {
            key: TelemetryKey::new(key).unwrap(),
            value: RawJson::from_valid(value),
            stamp: stamp(),
        };
        let everything = DeviceSnapshot {
            device_id: DeviceId::new("d\"1").unwrap(),
            telemetry: vec![last("a\\", "1.50"), last("b", "{ \"x\":[1, 2] }")],
            connection_state: Some(Stamped {
                value: true,
                stamp: stamp(),
            }),
            device_twin: Some(Stamped {
                value: RawJson::from_valid("{\"version\":7}"),
                stamp: stamp(),
            }),
        };
        let state_only = DeviceSnapshot {
            device_id: DeviceId::new("d2").unwrap(),
            telemetry: Vec::new(),
            device_twin: None,
            connection_state: Some(Stamped {
                value: false,
                stamp: stamp(),
            }),
        };
        vec![everything, state_only]
    }

    fn refused() -> Vec<Refused> {
        vec![Refused {
            index: 0,
            telemetry_keys: vec!["b".to_owned()],
            telemetry_key_patterns: Vec::new(),
            code: ErrorCode::NotGranted,
            message: "no".to_owned(),
        }]
    }

    /// The text, after it was read as a message and written again without a difference.
    #[track_caller]
    fn checked(frame: &Bytes) -> String {
        let text = std::str::from_utf8(frame).unwrap();
        let message: ServerMessage = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
        text.to_owned()
    }

    fn updates(updates: &[Arc<Update>], sequence: u64, skipped: Skipped) -> Bytes {
        let mut text = Vec::new();
        push_updates(&mut text, updates, sequence, skipped, 5);
        text.into()
    }

    #[test]
    fn updates_of_every_kind_keep_their_text() {
        let json = || RawJson::from_valid("{\"v\":[1, 2]}");
        let all = [
            update(
                "d1",
                UpdateBody::Telemetry(telemetry(&[("a", "1.50"), ("b", "9007199254740993")])),
            ),
            update("a\"\\\u{1e}é", UpdateBody::ConnectionState(true)),
            update("d1", UpdateBody::DeviceTwin(json())),
            update("d1", UpdateBody::Message(json())),
        ];
        let text = checked(&updates(&all, 44, Skipped::default()));
        assert_eq!(
            text,
            r#"{"type":"updates","sequence":44,"time":5,"updates":[{"deviceId":"d1","telemetry":{"a":1.50,"b":9007199254740993},"timestamp":"2024-05-01T10:00:00.000Z","receivedAt":1714557600123},{"deviceId":"a\"\\\u001eé","connectionState":true,"timestamp":"2024-05-01T10:00:00.000Z","receivedAt":1714557600123},{"deviceId":"d1","deviceTwin":{"v":[1, 2]},"timestamp":"2024-05-01T10:00:00.000Z","receivedAt":1714557600123},{"deviceId":"d1","message":{"v":[1, 2]},"timestamp":"2024-05-01T10:00:00.000Z","receivedAt":1714557600123}]}"#
        );
    }

    #[test]
    fn what_was_skipped_is_told_when_there_is_something() {
        let all = [update("d1", UpdateBody::ConnectionState(false))];
        let skipped = Skipped {
            conflated: 3,
            dropped: 1,
        };
        let text = checked(&updates(&all, 1, skipped));
        assert!(
            text.ends_with(r#""skipped":{"conflated":3,"dropped":1}}"#),
            "{text}"
        );
    }

    #[test]
    fn what_is_about_a_module_names_it() {
        let device_id = DeviceId::of_module("d\"1", "m\"1").unwrap();
        let body = UpdateBody::ConnectionState(true);
        let update = Arc::new(Update::new(device_id.clone(), stamp(), body));
        let text = checked(&updates(&[update], 1, Skipped::default()));
        let named = r#"{"deviceId":"d\"1","moduleId":"m\"1","connectionState":true,"#;
        assert!(text.contains(named), "{text}");

        let mut snapshot = snapshot();
        snapshot[0].device_id = device_id;
        let text = checked(&subscribed(2, 42, &snapshot, &[], 5));
        let named = r#"[{"deviceId":"d\"1","moduleId":"m\"1","telemetry":{"#;
        assert!(text.contains(named), "{text}");
    }

    #[test]
    fn an_update_is_written_once_for_all() {
        let all = [update("d1", UpdateBody::ConnectionState(true))];
        let first = updates(&all, 1, Skipped::default());
        let shared = || all[0].encoded_before(Encoding::Native);
        assert_eq!(shared(), None, "nobody else will ask for it");
        let _others = [Arc::clone(&all[0]), Arc::clone(&all[0])];
        assert_eq!(updates(&all, 1, Skipped::default()), first);
        let shared = shared().unwrap();
        assert!(first.windows(shared.len()).any(|part| part == shared));
        assert_eq!(updates(&all, 1, Skipped::default()), first);
    }

    #[test]
    fn snapshots_keep_their_text() {
        let text = checked(&subscribed(2, 42, &snapshot(), &refused(), 5));
        assert!(
            text.contains(r#""b":{"value":{ "x":[1, 2] },"timestamp""#),
            "{text}"
        );
        assert!(text.contains(r#""a\\":{"value":1.50,"#), "{text}");
        assert!(text.contains(r#""refused":[{"index":0,"#), "{text}");
        checked(&last_values(2, &snapshot(), &[], 5));
        checked(&subscribed(2, 42, &[], &[], 5));
    }

    #[test]
    fn a_stream_starts_with_a_snapshot_or_goes_on() {
        let session = SessionId::issue(1_714_557_600_000, [7; 10]);
        let snapshot = snapshot();
        let start = StreamStart {
            session,
            epoch: 3,
            sequence: 4,
            time_unix_ms: 5,
            recovered: None,
            snapshot: Some(&snapshot),
            refused: &refused(),
        };
        let text = String::from_utf8(stream_start(&start).to_vec()).unwrap();
        let subscribed = String::from_utf8(subscribed(2, 4, &snapshot, &refused(), 5).to_vec());
        let (_, shared) = subscribed
            .as_ref()
            .unwrap()
            .split_once(r#","snapshot""#)
            .unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"type":"snapshot","sessionId":"{session}","epoch":3,"sequence":4,"time":5,"snapshot"{shared}"#
            )
        );
        let on = StreamStart {
            recovered: Some(true),
            snapshot: None,
            refused: &[],
            ..start
        };
        assert!(stream_start(&on).ends_with(br#""time":5,"recovered":true}"#));
    }

    #[test]
    fn a_hello_may_carry_a_snapshot() {
        let plain = ServerHello {
            protocol: 1,
            session_id: "s".into(),
            epoch: 1,
            sequence: 2,
            time: 3,
            server: ServerFacts {
                name: "hubrelay".to_owned(),
                version: "0".to_owned(),
            },
            limits: Limits {
                message_bytes_max: 1,
                keys_per_message_max: 2,
                subscriptions_max: 3,
            },
            ping_interval_ms: 4,
            resume_window_ms: 5,
            recovered: Some(false),
            snapshot: None,
        };
        checked(&hello(plain.clone(), None));
        for snapshot in [snapshot(), Vec::new()] {
            let text = checked(&hello(plain.clone(), Some(&snapshot)));
            assert!(text.contains(r#""recovered":false,"snapshot":["#), "{text}");
        }
    }
}
