//! The one event that clients get: `data` with one update as its argument.
//!
//! Values and keys are written as they came in, byte for byte; nothing is parsed or formatted again. Clients of ux4iot
//! 2.x get the same event in the form that they know.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::domain::update::{Encoding, Update, UpdateBody};

/// The update as an Engine.IO text packet for the root namespace. It is written for the first caller only.
pub(super) fn data_event(update: &Update) -> Bytes {
    Bytes::copy_from_slice(update.encoded(Encoding::SocketIo, |update| {
        encode_data_event(update).into()
    }))
}

/// The same for a client of ux4iot 2.x: every telemetry key in an event of its own, and the connection state as the
/// object `{"connected":…}`. Written anew for each of these clients.
pub(super) fn data_events_v2(update: &Update) -> Vec<Bytes> {
    match &update.body {
        UpdateBody::Telemetry(telemetry) => telemetry
            .iter()
            .map(|(_, key_literal, value)| {
                encode(update, |text| push_telemetry(text, [(key_literal, value)]))
            })
            .collect(),
        UpdateBody::ConnectionState(connected) => {
            vec![encode(update, |text| {
                write!(text, "\"connectionState\":{{\"connected\":{connected}}}").expect(WRITABLE);
            })]
        }
        UpdateBody::DeviceTwin(_) | UpdateBody::Message(_) => vec![data_event(update)],
    }
}

const WRITABLE: &str = "writing to a text cannot fail";

fn encode_data_event(update: &Update) -> Bytes {
    encode(update, |text| match &update.body {
        UpdateBody::Telemetry(telemetry) => {
            let members = telemetry.iter().map(|(_, literal, value)| (literal, value));
            push_telemetry(text, members);
        }
        UpdateBody::ConnectionState(connected) => {
            write!(text, "\"connectionState\":{connected}").expect(WRITABLE);
        }
        UpdateBody::DeviceTwin(twin) => {
            text.push_str("\"deviceTwin\":");
            text.push_str(twin.as_str());
        }
        UpdateBody::Message(body) => {
            text.push_str("\"message\":");
            text.push_str(body.as_str());
        }
    })
}

/// Writes `42["data",{"deviceId":…,<the one member that tells the kind>,"timestamp":…}]`, with `moduleId` after `deviceId`
/// for a module.
fn encode(update: &Update, push_kind: impl FnOnce(&mut String)) -> Bytes {
    let mut text = String::with_capacity(update.bytes());
    text.push_str("42[\"data\",{\"deviceId\":");
    push_string(&mut text, update.device_id.as_str());
    if let Some(module) = update.device_id.module() {
        text.push_str(",\"moduleId\":");
        push_string(&mut text, module);
    }
    text.push(',');
    push_kind(&mut text);
    write!(text, ",\"timestamp\":\"{}\"}}]", update.stamp.timestamp).expect(WRITABLE);
    text.into()
}

fn push_string(text: &mut String, value: &str) {
    text.push_str(&serde_json::to_string(value).expect("a text can be written as JSON"));
}

fn push_telemetry<'a>(text: &mut String, members: impl IntoIterator<Item = (&'a str, &'a str)>) {
    text.push_str("\"telemetry\":{");
    for (place, (key_literal, value)) in members.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(key_literal);
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::id::DeviceId;
    use crate::domain::raw_json::{RawJson, Span};
    use crate::domain::shape::Shape;
    use crate::domain::telemetry::Telemetry;
    use crate::domain::time::{Stamp, Timestamp};

    fn update(device_id: &str, body: UpdateBody) -> Update {
        Update::new(
            DeviceId::new(device_id).unwrap(),
            Stamp {
                timestamp: Timestamp::UnixMs(1_714_557_600_000),
                received_unix_ms: 0,
            },
            body,
        )
    }

    fn written(device_id: &str, body: UpdateBody) -> String {
        String::from_utf8(data_event(&update(device_id, body)).to_vec()).unwrap()
    }

    fn written_v2(body: UpdateBody) -> Vec<String> {
        data_events_v2(&update("d1", body))
            .into_iter()
            .map(|event| String::from_utf8(event.to_vec()).unwrap())
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
    fn an_update_is_written_once() {
        let update = update("d1", UpdateBody::ConnectionState(true));
        let first = data_event(&update);
        let second = update.encoded(Encoding::SocketIo, |_| {
            unreachable!("it was written before")
        });
        assert_eq!(first, second);
    }
}
