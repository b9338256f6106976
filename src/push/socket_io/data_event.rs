//! The one event that clients get: `data` with one update as its argument.
//!
//! Values and keys are written as they came in, byte for byte; nothing is parsed or formatted again.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::domain::update::{Encoding, Update, UpdateBody};

/// The update as an Engine.IO text packet for the root namespace. It is written for the first caller only.
pub(super) fn data_event(update: &Update) -> Bytes {
    update.encoded(Encoding::SocketIo, encode_data_event)
}

/// Writes `42["data",{"deviceId":…,<the one member that tells the kind>,"timestamp":…}]`.
fn encode_data_event(update: &Update) -> Bytes {
    let mut text = String::with_capacity(update.bytes());
    text.push_str("42[\"data\",{\"deviceId\":");
    text.push_str(
        &serde_json::to_string(update.device_id.as_str()).expect("a text can be written as JSON"),
    );
    match &update.body {
        UpdateBody::Telemetry(telemetry) => {
            text.push_str(",\"telemetry\":{");
            for (place, (_, key_literal, value)) in telemetry.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                text.push_str(key_literal);
                text.push(':');
                text.push_str(value);
            }
            text.push('}');
        }
        UpdateBody::ConnectionState(connected) => {
            text.push_str(if *connected {
                ",\"connectionState\":true"
            } else {
                ",\"connectionState\":false"
            });
        }
        UpdateBody::DeviceTwin(twin) => {
            text.push_str(",\"deviceTwin\":");
            text.push_str(twin.as_str());
        }
        UpdateBody::Message(body) => {
            text.push_str(",\"message\":");
            text.push_str(body.as_str());
        }
    }
    write!(text, ",\"timestamp\":\"{}\"}}]", update.stamp.timestamp)
        .expect("writing to a text cannot fail");
    text.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::id::DeviceId;
    use crate::domain::raw_json::{RawJson, Span};
    use crate::domain::telemetry::{Member, Telemetry};
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

    #[test]
    fn telemetry_keeps_its_text() {
        let body: Arc<str> = r#"{ "t" : 1.50 , "big":9007199254740993,"\u0061":"x" }"#.into();
        let member = |key: (u32, u32), value: (u32, u32), unescaped_key: Option<&str>| Member {
            key: Span {
                start: key.0,
                end: key.1,
            },
            unescaped_key: unescaped_key.map(Into::into),
            value: Span {
                start: value.0,
                end: value.1,
            },
        };
        let members = vec![
            member((2, 5), (8, 12), None),
            member((15, 20), (21, 37), None),
            member((38, 46), (47, 50), Some("a")),
        ];
        assert_eq!(
            written("d1", UpdateBody::Telemetry(Telemetry::new(body, members))),
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
        let (first, second) = (data_event(&update), data_event(&update));
        assert_eq!(first.as_ptr(), second.as_ptr());
    }
}
