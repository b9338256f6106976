//! The one event that clients get: `data` with one update as its argument.
//!
//! Values and keys are written as they came in, byte for byte; nothing is parsed or formatted again. Clients of ux4iot
//! 2.x get the same event in the form that they know.

use std::sync::Arc;

use super::packet::Namespace;
use crate::domain::session::Dialect;
use crate::domain::time::TimeWriter;
use crate::domain::update::{Encoding, Update, UpdateBody};
use crate::push::json_text::push_string;
use crate::push::websocket::Burst;
use crate::relay::Batch;

/// Adds the events of a batch, each as the frame of an Engine.IO text packet. Returns how many there are.
pub(super) fn write_events(batch: &Batch, namespace: &Namespace, burst: &mut Burst<'_>) -> u64 {
    match batch.dialect {
        Dialect::V3 => {
            write_events_v3(&batch.updates, namespace, burst);
            batch.updates.len() as u64
        }
        Dialect::V2 => {
            let mut writer = EventWriter::new(namespace, burst);
            let events = batch.updates.iter();
            events.map(|update| writer.event_v2(update)).sum()
        }
    }
}

/// The same for what clients of ux4iot 3.0 and later get: one event for each update.
pub(super) fn write_events_v3(
    updates: &[Arc<Update>],
    namespace: &Namespace,
    burst: &mut Burst<'_>,
) {
    burst.reserve(Update::bytes_of_all(updates));
    let mut writer = EventWriter::new(namespace, burst);
    for update in updates {
        writer.event(update);
    }
}

/// Writes events for one client.
struct EventWriter<'a, 'b> {
    namespace: &'a Namespace,
    burst: &'a mut Burst<'b>,
    times: TimeWriter,
}

impl<'a, 'b> EventWriter<'a, 'b> {
    fn new(namespace: &'a Namespace, burst: &'a mut Burst<'b>) -> Self {
        Self {
            namespace,
            burst,
            times: TimeWriter::default(),
        }
    }

    /// Whoever in the root namespace comes first writes the frame for all others, if there are others.
    fn event(&mut self, update: &Arc<Update>) {
        let is_root = self.namespace.is_root();
        if is_root && let Some(shared) = update.encoded_before(Encoding::SocketIo) {
            self.burst.frame(shared);
            return;
        }
        let start = self.burst.len();
        self.frame(update, |text| push_kind(text, &update.body));
        if is_root {
            update.share_encoding(Encoding::SocketIo, self.burst.since(start));
        }
    }

    /// The same for a client of ux4iot 2.x: every telemetry key in an event of its own, and the connection state as the
    /// object `{"connected":…}`. Written anew for each of these clients. Returns how many events there are.
    fn event_v2(&mut self, update: &Arc<Update>) -> u64 {
        match &update.body {
            UpdateBody::Telemetry(telemetry) => {
                let mut events = 0;
                for (_, key_literal, value) in telemetry.iter() {
                    let parts = ["\"telemetry\":{", key_literal, ":", value, "}"];
                    self.frame(update, |text| {
                        for part in parts {
                            text.extend_from_slice(part.as_bytes());
                        }
                    });
                    events += 1;
                }
                events
            }
            UpdateBody::ConnectionState(connected) => {
                let object: &[u8] = if *connected {
                    b"\"connectionState\":{\"connected\":true}"
                } else {
                    b"\"connectionState\":{\"connected\":false}"
                };
                self.frame(update, |text| text.extend_from_slice(object));
                1
            }
            UpdateBody::DeviceTwin(_) | UpdateBody::Message(_) => {
                self.event(update);
                1
            }
        }
    }

    /// Adds the frame of `42["data",{"deviceId":…,<the one member that tells the kind>,"timestamp":…}]`, with the namespace
    /// after `42` and with `moduleId` after `deviceId` for a module.
    fn frame(&mut self, update: &Update, push_kind: impl FnOnce(&mut Vec<u8>)) {
        let Self {
            namespace,
            burst,
            times,
        } = self;
        burst.text(update.bytes(), |text| {
            text.extend_from_slice(b"42");
            namespace.push_prefix(text);
            text.extend_from_slice(b"[\"data\",{\"deviceId\":");
            push_string(text, update.device_id.as_str());
            if let Some(module) = update.device_id.module() {
                text.extend_from_slice(b",\"moduleId\":");
                push_string(text, module);
            }
            text.push(b',');
            push_kind(text);
            text.extend_from_slice(b",\"timestamp\":\"");
            times.write(&update.stamp.timestamp, text);
            text.extend_from_slice(b"\"}]");
        });
    }
}

fn push_kind(text: &mut Vec<u8>, body: &UpdateBody) {
    match body {
        UpdateBody::Telemetry(telemetry) => {
            text.extend_from_slice(b"\"telemetry\":");
            telemetry.write_to(text);
        }
        UpdateBody::ConnectionState(true) => text.extend_from_slice(b"\"connectionState\":true"),
        UpdateBody::ConnectionState(false) => text.extend_from_slice(b"\"connectionState\":false"),
        UpdateBody::DeviceTwin(twin) => {
            text.extend_from_slice(b"\"deviceTwin\":");
            text.extend_from_slice(twin.as_str().as_bytes());
        }
        UpdateBody::Message(body) => {
            text.extend_from_slice(b"\"message\":");
            text.extend_from_slice(body.as_str().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::DeviceId;
    use crate::domain::raw_json::{RawJson, Span};
    use crate::domain::shape::Shape;
    use crate::domain::telemetry::Telemetry;
    use crate::domain::time::{Stamp, Timestamp};
    use crate::push::socket_io::packet::Packet;
    use crate::push::websocket::texts;

    fn update(device_id: &str, body: UpdateBody) -> Arc<Update> {
        let update = Update::new(
            DeviceId::new(device_id).unwrap(),
            Stamp {
                timestamp: Timestamp::UnixMs(1_714_557_600_000),
                received_unix_ms: 0,
            },
            body,
        );
        Arc::new(update)
    }

    fn written(device_id: &str, body: UpdateBody) -> String {
        let update = update(device_id, body);
        let mut events =
            texts(|burst| EventWriter::new(&Namespace::default(), burst).event(&update));
        assert_eq!(events.len(), 1);
        String::from_utf8(events.remove(0).into()).unwrap()
    }

    fn written_v2(body: UpdateBody) -> Vec<String> {
        let update = update("d1", body);
        let events = texts(|burst| {
            EventWriter::new(&Namespace::default(), burst).event_v2(&update);
        });
        events
            .into_iter()
            .map(|event| String::from_utf8(event.into()).unwrap())
            .collect()
    }

    /// Three members, written in three ways.
    fn members() -> UpdateBody {
        let body: Arc<str> = r#"{ "t" : 1.50 , "big":9007199254740993,"\u0061":"x" }"#.into();
        let shape = Shape::new([
            ("\"t\"", None),
            ("\"big\"", None),
            ("\"\\u0061\"", Some("a".into())),
        ]);
        let values = [(8, 12), (21, 37), (47, 50)].map(|(start, end)| Span { start, end });
        UpdateBody::Telemetry(Telemetry::new(body, Arc::new(shape), values.into()))
    }

    #[test]
    fn telemetry_keeps_its_text() {
        assert_eq!(
            written("d1", members()),
            r#"42["data",{"deviceId":"d1","telemetry":{"t":1.50,"big":9007199254740993,"\u0061":"x"},"timestamp":"2024-05-01T10:00:00.000Z"}]"#
        );
    }

    #[test]
    fn each_kind_has_its_one_member() {
        let json = || RawJson::from_valid("{\"v\":[1, 2]}");
        for (body, member) in [
            (
                UpdateBody::ConnectionState(true),
                "\"connectionState\":true",
            ),
            (
                UpdateBody::ConnectionState(false),
                "\"connectionState\":false",
            ),
            (
                UpdateBody::DeviceTwin(json()),
                "\"deviceTwin\":{\"v\":[1, 2]}",
            ),
            (UpdateBody::Message(json()), "\"message\":{\"v\":[1, 2]}"),
        ] {
            assert_eq!(
                written("d1", body),
                format!(
                    "42[\"data\",{{\"deviceId\":\"d1\",{member},\"timestamp\":\"2024-05-01T10:00:00.000Z\"}}]"
                )
            );
        }
    }

    #[test]
    fn a_2_x_client_gets_every_key_by_itself() {
        assert_eq!(
            written_v2(members()),
            [
                r#"42["data",{"deviceId":"d1","telemetry":{"t":1.50},"timestamp":"2024-05-01T10:00:00.000Z"}]"#,
                r#"42["data",{"deviceId":"d1","telemetry":{"big":9007199254740993},"timestamp":"2024-05-01T10:00:00.000Z"}]"#,
                r#"42["data",{"deviceId":"d1","telemetry":{"\u0061":"x"},"timestamp":"2024-05-01T10:00:00.000Z"}]"#,
            ]
        );
    }

    #[test]
    fn a_2_x_client_gets_the_connection_state_as_an_object_and_the_rest_as_everybody() {
        for connected in [true, false] {
            assert_eq!(
                written_v2(UpdateBody::ConnectionState(connected)),
                [format!(
                    r#"42["data",{{"deviceId":"d1","connectionState":{{"connected":{connected}}},"timestamp":"2024-05-01T10:00:00.000Z"}}]"#
                )]
            );
        }
        let json = || RawJson::from_valid("{\"v\":1}");
        for body in [UpdateBody::DeviceTwin(json()), UpdateBody::Message(json())] {
            assert_eq!(written_v2(body.clone()), [written("d1", body)]);
        }
    }

    #[test]
    fn a_device_id_is_escaped() {
        let text = written("a\"\\\u{1e}é", UpdateBody::ConnectionState(true));
        assert!(!text.contains('\u{1e}'), "{text}");
        let event: serde_json::Value =
            serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
        assert_eq!(event[0], "data");
        assert_eq!(event[1]["deviceId"], "a\"\\\u{1e}é");
        assert_eq!(event[1].as_object().unwrap().len(), 3);
    }

    #[test]
    fn an_update_is_written_once_for_all() {
        let update = update("d1", UpdateBody::ConnectionState(true));
        let event = || texts(|burst| EventWriter::new(&Namespace::default(), burst).event(&update));
        let first = event();
        let shared = || update.encoded_before(Encoding::SocketIo);
        assert_eq!(shared(), None, "nobody else will ask for it");
        let _others = [Arc::clone(&update), Arc::clone(&update)];
        assert_eq!(event(), first);
        assert!(shared().is_some_and(|shared| shared.ends_with(&first[0])));
        assert_eq!(event(), first);
    }

    #[test]
    fn an_event_carries_its_namespace() {
        let update = update("d1", UpdateBody::ConnectionState(true));
        let namespace = Packet::decode("0/a/b,").unwrap().namespace;
        let events = texts(|burst| EventWriter::new(&namespace, burst).event(&update));
        let event = std::str::from_utf8(&events[0]).unwrap();
        assert!(event.starts_with("42/a/b,[\"data\",{"), "{event}");
    }
}
