//! What the properties and the body of an event say: its class, device, time and connection state.

mod bodies;

use serde_json::{Value, json};

use super::*;
use crate::domain::device_message::TwinEventKind;

const CONSUMED_UNIX_MS: i64 = 1_714_557_600_000;
const CONSUMED: &str = "2024-05-01T10:00:00.000Z";

/// Decodes one event with `options`.
fn decode_with(options: DecodingConfig, event: &Event<'_>) -> (Vec<DeviceMessage>, Tally) {
    let mut decoder = Decoder::new(options);
    let mut messages = Vec::new();
    decoder.decode(event, CONSUMED_UNIX_MS, &mut messages);
    (messages, decoder.take_tally())
}

fn decode(event: &Event<'_>) -> Vec<DeviceMessage> {
    decode_with(DecodingConfig::default(), event).0
}

/// An event from application properties and a body.
fn event<'a>(application_properties: &[(&str, &'a str)], body: &'a str) -> Event<'a> {
    let mut event = Event {
        body: body.as_bytes(),
        ..Event::default()
    };
    for (name, value) in application_properties {
        event
            .application_properties
            .set(name, Property::Text(value));
    }
    event
}

/// Telemetry of device `d1`.
fn telemetry_event(body: &str) -> Event<'_> {
    event(
        &[
            ("iothub-connection-device-id", "d1"),
            ("iothub-message-schema", "Telemetry"),
        ],
        body,
    )
}

fn telemetry_message(message: &DeviceMessage) -> &TelemetryMessage {
    match &message.content {
        Content::Telemetry(telemetry) => telemetry,
        other => panic!("expected telemetry, got {other:?}"),
    }
}

/// The members of a message's telemetry, re-assembled to one value; null when it has none.
fn telemetry(message: &DeviceMessage) -> Value {
    match &telemetry_message(message).telemetry {
        None => Value::Null,
        Some(telemetry) => {
            let members: Vec<_> = telemetry
                .iter()
                .map(|(_, literal, value)| format!("{literal}:{value}"))
                .collect();
            serde_json::from_str(&format!("{{{}}}", members.join(","))).unwrap()
        }
    }
}

fn whole_text(message: &DeviceMessage) -> Option<String> {
    let text = telemetry_message(message).text()?;
    Some(text.as_str().to_owned())
}

fn device_and_time(message: &DeviceMessage) -> (String, String) {
    (message.device_id.to_string(), message.timestamp.to_string())
}

#[test]
fn source_and_schema_decide_the_class_and_the_first_match_counts() {
    // (source annotation, schema property, class counted)
    let cases = [
        (None, None, "telemetry"),
        (Some(""), Some(""), "telemetry"),
        (Some("Telemetry"), None, "telemetry"),
        (None, Some("telemetry"), "telemetry"),
        (Some("Telemetry"), Some("my-own-schema"), "telemetry"),
        (Some("something"), Some("Telemetry"), "telemetry"),
        (
            Some("DEVICECONNECTIONSTATEEVENTS"),
            None,
            "connection state",
        ),
        (
            None,
            Some("deviceConnectionStateNotification"),
            "connection state",
        ),
        (
            Some("Telemetry"),
            Some("deviceConnectionStateNotification"),
            "connection state",
        ),
        (Some("twinChangeEvents"), None, "twin"),
        (None, Some("TwinChangeNotification"), "twin"),
        (
            Some("deviceLifecycleEvents"),
            Some("deviceLifecycleNotification"),
            "ignored",
        ),
        (Some("digitalTwinChangeEvents"), None, "ignored"),
        (Some("deviceJobLifecycleEvents"), None, "ignored"),
        (Some("unheardOf"), None, "ignored"),
        (None, Some("unheardOf"), "ignored"),
    ];
    for (source, schema, expected) in cases {
        let mut event = event(
            &[
                ("iothub-connection-device-id", "d1"),
                ("opType", "deviceConnected"),
            ],
            "{}",
        );
        if let Some(source) = source {
            event
                .annotations
                .set("iothub-message-source", Property::Text(source));
        }
        if let Some(schema) = schema {
            event
                .application_properties
                .set("iothub-message-schema", Property::Text(schema));
        }
        let (_, tally) = decode_with(DecodingConfig::default(), &event);
        let counted = [
            ("telemetry", tally.telemetry),
            ("connection state", tally.connection_state),
            ("twin", tally.twin),
            ("ignored", tally.ignored),
        ];
        for (class, count) in counted {
            assert_eq!(
                count,
                u64::from(class == expected),
                "{source:?} {schema:?}: {class}"
            );
        }
    }
}

#[test]
fn the_class_is_also_found_in_the_other_bag() {
    let mut by_schema = event(
        &[
            ("iothub-connection-device-id", "d1"),
            ("opType", "deviceConnected"),
        ],
        "{}",
    );
    by_schema.annotations.set(
        "iothub-message-schema",
        Property::Text("deviceConnectionStateNotification"),
    );
    let by_source = event(
        &[
            ("iothub-connection-device-id", "d1"),
            ("opType", "deviceConnected"),
            ("iothub-message-source", "deviceConnectionStateEvents"),
        ],
        "{}",
    );
    for event in [by_schema, by_source] {
        assert!(matches!(
            decode(&event)[..],
            [DeviceMessage {
                content: Content::ConnectionState {
                    connected: true,
                    ..
                },
                ..
            }]
        ));
    }
}

#[test]
fn events_about_a_module_are_the_modules_but_a_devices_own_property_named_module_id_says_nothing() {
    let state = ("iothub-message-schema", "deviceConnectionStateNotification");
    let twin = ("iothub-message-schema", "twinChangeNotification");
    let device = ("iothub-connection-device-id", "d1");
    let named = ("moduleId", "m");
    let stamped = ("iothub-connection-module-id", "m");
    let about_modules = [
        event(&[device, state, ("opType", "moduleConnected"), named], "{}"),
        event(&[device, state, ("opType", "deviceConnected"), named], "{}"),
        event(&[device, twin, ("opType", "updateTwin"), named], "{}"),
        event(&[device, twin, ("opType", "updateTwin"), stamped], "{}"),
        event(&[device, stamped], r#"{"a":1}"#),
        event(&[device, stamped], r#"[{"a":1}]"#),
        event(&[device, stamped], "5"),
    ];
    for event in about_modules {
        for message in decode(&event) {
            assert_eq!(Some(message.device_id), DeviceId::of_module("d1", "m"));
        }
        assert!(!decode(&event).is_empty());
    }
    // A gateway's module may speak for other devices, and a device may name its parts as it likes.
    for event in [
        event(&[device, stamped], r#"{"deviceId":"d1","a":1}"#),
        event(&[device, named], r#"{"a":1}"#),
    ] {
        assert_eq!(
            Some(&decode(&event)[0].device_id),
            DeviceId::new("d1").as_ref()
        );
    }
}

/// Telemetry as the hub passes it on: stamped with its sender, a module or a device, beside properties of the sender's own.
fn stamped_telemetry<'a>(
    module: Option<&'a str>,
    own: &[(&str, &'a str)],
    body: &'a str,
) -> Event<'a> {
    let mut event = event(own, body);
    for (name, value) in [
        ("iothub-message-source", Some("Telemetry")),
        ("iothub-connection-device-id", Some("sender")),
        ("iothub-connection-module-id", module),
    ] {
        let value = value.map_or(Property::Absent, Property::Text);
        event.annotations.set(name, value);
    }
    event
}

#[test]
fn telemetry_is_no_event_of_the_hub_whatever_its_sender_says() {
    let twin = r#"{"version":9,"properties":{"desired":{}}}"#;
    // (schema, operation, whether a gateway may say that)
    for (schema, operation, may_be_said) in [
        ("twinChangeNotification", "updateTwin", false),
        ("twinChangeNotification", "replaceTwin", false),
        ("deviceLifecycleNotification", "createDeviceIdentity", false),
        (
            "deviceConnectionStateNotification",
            "deviceDisconnected",
            true,
        ),
    ] {
        let own = [
            ("iothub-message-source", "twinChangeEvents"),
            ("iothub-message-schema", schema),
            ("opType", operation),
        ];
        for (key, is_telemetry) in [(Some("deviceId"), !may_be_said), (None, true)] {
            let options = DecodingConfig {
                custom_device_id_key: key.map(str::to_owned),
                ..DecodingConfig::default()
            };
            let (messages, _) = decode_with(options, &stamped_telemetry(None, &own, twin));
            let content = messages.first().map(|message| &message.content);
            assert_eq!(
                matches!(content, Some(Content::Telemetry(_))),
                is_telemetry,
                "{schema} {operation}"
            );
        }
    }
}

#[test]
fn telemetry_is_the_senders_when_devices_do_not_speak_for_others() {
    let for_another = ("iothub-connection-device-id", "another");
    let as_module = ("iothub-connection-module-id", "m2");
    // (stamped module, own property, device when it may speak for others, device when it may not)
    let cases = [
        (None, for_another, "another", "sender"),
        (Some("m1"), for_another, "another", "sender/m1"),
        (None, as_module, "sender/m2", "sender"),
        (Some("m1"), as_module, "sender/m1", "sender/m1"),
    ];
    for (module, own, claimed, sent) in cases {
        for (key, device) in [(Some("deviceId"), claimed), (None, sent)] {
            let options = DecodingConfig {
                custom_device_id_key: key.map(str::to_owned),
                ..DecodingConfig::default()
            };
            let event = stamped_telemetry(module, &[own], r#"{"a":1}"#);
            let (messages, _) = decode_with(options, &event);
            assert_eq!(messages[0].device_id.to_string(), device, "{own:?}");
        }
    }
}

#[test]
fn a_twin_begins_with_the_event_that_made_its_device() {
    let schema = ("iothub-message-schema", "deviceLifecycleNotification");
    let device = ("iothub-connection-device-id", "d1");
    let made = event(
        &[device, schema, ("opType", "createDeviceIdentity")],
        r#"{"version":2}"#,
    );
    assert!(matches!(
        &decode(&made)[0].content,
        Content::Twin(TwinEvent {
            kind: TwinEventKind::Replace,
            ..
        })
    ));
    let deleted = event(&[device, schema, ("opType", "deleteDeviceIdentity")], "{}");
    assert!(decode(&deleted).is_empty());
}

#[test]
fn a_connection_event_tells_its_place_among_those_of_its_device() {
    let properties = [
        ("iothub-connection-device-id", "d1"),
        ("iothub-message-schema", "deviceConnectionStateNotification"),
        ("opType", "deviceConnected"),
    ];
    let sequence_of = |event: &Event<'_>| {
        let Content::ConnectionState { sequence, .. } = decode(event)[0].content else {
            panic!("it is about a connection");
        };
        sequence
    };
    let numbered = r#"{"sequenceNumber":"0000A1"}"#;
    for (body, expected) in [
        (numbered, ConnectionSequence::parse("a1")),
        (r#"{"sequenceNumber":"x"}"#, None),
        (r#"{"sequenceNumber":5}"#, None),
        ("", None),
    ] {
        assert_eq!(sequence_of(&event(&properties, body)), expected, "{body}");
    }
    // A gateway that tells of its devices must not put the hub's own events about them out of use.
    let claimed = stamped_telemetry(None, &properties, numbered);
    assert_eq!(sequence_of(&claimed), None);
}

#[test]
fn the_device_id_comes_from_the_first_source_that_has_one() {
    // (body, application property, annotation, deviceId property) -> device
    let cases = [
        (
            r#"{"deviceId":"body"}"#,
            "application",
            "annotation",
            "own",
            Some("body"),
        ),
        (
            r#"{"deviceId":""}"#,
            "application",
            "annotation",
            "own",
            Some("application"),
        ),
        (
            r#"{"deviceId":7}"#,
            "application",
            "annotation",
            "own",
            Some("application"),
        ),
        (
            r#"{"deviceId":null}"#,
            "application",
            "annotation",
            "own",
            Some("application"),
        ),
        (
            r#"{"device\u0049d":"b\u006fdy"}"#,
            "application",
            "annotation",
            "own",
            Some("body"),
        ),
        ("{}", "", "annotation", "own", Some("annotation")),
        ("{}", "", "", "own", Some("own")),
        ("{}", "", "", "", None),
    ];
    for (body, application, annotation, own, expected) in cases {
        let mut event = event(
            &[
                ("iothub-connection-device-id", application),
                ("deviceId", own),
            ],
            body,
        );
        event
            .annotations
            .set("iothub-connection-device-id", Property::Text(annotation));
        let (messages, tally) = decode_with(DecodingConfig::default(), &event);
        let device = messages.first().map(|message| message.device_id.as_str());
        assert_eq!(device, expected, "{body}");
        assert_eq!(
            tally.dropped(DropReason::MissingDeviceId),
            u64::from(expected.is_none()),
            "{body}"
        );
    }
}

#[test]
fn the_body_names_the_device_only_when_configured_and_only_in_telemetry() {
    let body = r#"{"deviceId":"body","id":"custom"}"#;
    let named = |key: &str| {
        let options = DecodingConfig {
            custom_device_id_key: (!key.is_empty()).then(|| key.to_owned()),
            ..DecodingConfig::default()
        };
        decode_with(options, &telemetry_event(body)).0.remove(0)
    };
    assert_eq!(named("").device_id.as_str(), "d1");
    assert_eq!(
        telemetry(&named("")),
        json!({"deviceId": "body", "id": "custom"})
    );
    assert_eq!(named("id").device_id.as_str(), "custom");
    assert_eq!(telemetry(&named("id")), json!({"deviceId": "body"}));

    let twin = event(
        &[
            ("iothub-connection-device-id", "d1"),
            ("iothub-message-schema", "twinChangeNotification"),
            ("opType", "replaceTwin"),
        ],
        body,
    );
    assert_eq!(decode(&twin)[0].device_id.as_str(), "d1");
}

#[test]
fn a_device_id_that_is_too_long_drops_the_message() {
    let body = format!(r#"{{"deviceId":"{}"}}"#, "d".repeat(2000));
    let (messages, tally) = decode_with(DecodingConfig::default(), &telemetry_event(&body));
    assert!(messages.is_empty());
    assert_eq!(tally.dropped(DropReason::InvalidDeviceId), 1);
}

#[test]
fn the_time_comes_from_the_first_source_that_has_a_usable_one() {
    const BODY: &str = r#"{"_ts":"2024-01-01T00:00:00Z","a":1}"#;
    let all = |body| {
        let mut event = telemetry_event(body);
        event.application_properties.creation_time = Property::Text("2024-01-02T00:00:00Z");
        event.application_properties.app_creation_time = Property::Text("2024-01-03T00:00:00Z");
        event.annotations.enqueued_time = Property::TimestampMs(1_704_326_400_000);
        event.application_properties.enqueued_time = Property::Text("2024-01-05T00:00:00Z");
        event.application_properties.operation_timestamp = Property::Text("2024-01-06T00:00:00Z");
        event
    };
    let time = |event: &Event<'_>| decode(event)[0].timestamp.to_string();
    assert_eq!(time(&all(BODY)), "2024-01-01T00:00:00Z");
    let mut event = all(r#"{"a":1}"#);
    assert_eq!(time(&event), "2024-01-02T00:00:00Z");
    event.application_properties.creation_time = Property::Text("");
    event.annotations.creation_time = Property::Text("2024-01-02T12:00:00Z");
    assert_eq!(time(&event), "2024-01-02T12:00:00Z");
    event.annotations.creation_time = Property::Text("yesterday");
    assert_eq!(time(&event), "2024-01-03T00:00:00Z");
    event.application_properties.app_creation_time = Property::Absent;
    event.annotations.app_creation_time = Property::Text("2024-01-03T12:00:00Z");
    assert_eq!(time(&event), "2024-01-03T12:00:00Z");
    event.annotations.app_creation_time = Property::Other;
    assert_eq!(time(&event), "2024-01-04T00:00:00.000Z");
    event.annotations.enqueued_time = Property::TimestampMs(0);
    assert_eq!(time(&event), "2024-01-05T00:00:00Z");
    event.application_properties.enqueued_time = Property::Number(1_704_412_800_000.0);
    assert_eq!(time(&event), "2024-01-05T00:00:00.000Z");
    event.application_properties.enqueued_time = Property::Number(0.0);
    assert_eq!(time(&event), CONSUMED);
}

#[test]
fn the_operations_time_counts_only_for_events_of_the_hub() {
    let event = event(
        &[
            ("iothub-connection-device-id", "d1"),
            ("iothub-message-schema", "deviceConnectionStateNotification"),
            ("opType", "deviceDisconnected"),
            ("operationTimestamp", "2024-01-06T00:00:00.1234567Z"),
        ],
        r#"{"sequenceNumber":"0001","_ts":"2024-01-01T00:00:00Z"}"#,
    );
    let messages = decode(&event);
    assert!(matches!(
        messages[..],
        [DeviceMessage {
            content: Content::ConnectionState {
                connected: false,
                ..
            },
            ..
        }]
    ));
    assert_eq!(
        messages[0].timestamp.to_string(),
        "2024-01-06T00:00:00.1234567Z"
    );
}

#[test]
fn a_time_in_the_body_is_taken_out_only_when_it_was_used() {
    // (member value, output, used)
    let cases = [
        (
            r#""2024-05-01T10:00:00.5+02:00""#,
            "2024-05-01T10:00:00.5+02:00",
            true,
        ),
        (
            r#""2024\u002d05-01T10:00:00Z""#,
            "2024-05-01T10:00:00Z",
            true,
        ),
        ("1714557600", "2024-05-01T10:00:00.000Z", true),
        ("1714557600123", "2024-05-01T10:00:00.123Z", true),
        ("1.7145576005e9", "2024-05-01T10:00:00.500Z", true),
        ("0", CONSUMED, false),
        (r#""""#, CONSUMED, false),
        ("null", CONSUMED, false),
        ("false", CONSUMED, false),
        ("true", CONSUMED, false),
        (r#""noon""#, CONSUMED, false),
        ("1e999", CONSUMED, false),
        ("{}", CONSUMED, false),
    ];
    for (value, expected, used) in cases {
        let body = format!(r#"{{"_ts":{value},"a":1}}"#);
        let message = decode(&telemetry_event(&body)).remove(0);
        assert_eq!(message.timestamp.to_string(), expected, "{value}");
        let keys: Vec<_> = telemetry_message(&message)
            .telemetry
            .as_ref()
            .unwrap()
            .iter()
            .map(|(key, ..)| key.to_owned())
            .collect();
        assert_eq!(keys.contains(&"_ts".to_owned()), !used, "{value}");
        assert_eq!(
            whole_text(&message).as_deref(),
            Some(body.as_str()),
            "{value}"
        );
    }
    let options = DecodingConfig {
        custom_timestamp_key: None,
        ..DecodingConfig::default()
    };
    let (messages, _) = decode_with(options, &telemetry_event(r#"{"_ts":1714557600,"":1}"#));
    assert_eq!(messages[0].timestamp.to_string(), CONSUMED);
    assert_eq!(
        telemetry(&messages[0]),
        json!({"_ts": 1_714_557_600, "": 1})
    );
}

#[test]
fn the_connection_state_follows_the_documented_tree() {
    // (custom key, on telemetry, body) -> state
    let cases = [
        ("", true, r#"{"online":false}"#, Some(true)),
        ("", false, r#"{"online":false}"#, None),
        ("online", true, r#"{"online":false}"#, Some(false)),
        ("online", false, r#"{"online":true}"#, Some(true)),
        ("online", true, r#"{"online":"true"}"#, None),
        ("online", true, r#"{"online":1}"#, None),
        ("online", true, r#"{"a":1}"#, None),
    ];
    for (key, on_telemetry, body, expected) in cases {
        let options = DecodingConfig {
            custom_connection_state_key: (!key.is_empty()).then(|| key.to_owned()),
            connection_state_on_telemetry: on_telemetry,
            ..DecodingConfig::default()
        };
        let (messages, _) = decode_with(options, &telemetry_event(body));
        assert_eq!(
            telemetry_message(&messages[0]).connection_state,
            expected,
            "{key} {on_telemetry} {body}"
        );
        assert_eq!(
            telemetry(&messages[0]),
            serde_json::from_str::<Value>(body).unwrap()
        );
    }
}

#[test]
fn with_a_custom_connection_state_key_the_hubs_connection_events_say_nothing() {
    let event = event(
        &[
            ("iothub-connection-device-id", "d1"),
            ("iothub-message-schema", "deviceConnectionStateNotification"),
            ("opType", "deviceConnected"),
        ],
        "{}",
    );
    let options = DecodingConfig {
        custom_connection_state_key: Some("online".to_owned()),
        ..DecodingConfig::default()
    };
    let (messages, tally) = decode_with(options, &event);
    assert!(messages.is_empty());
    assert_eq!(tally.dropped(DropReason::ConnectionStateUnused), 1);
}

#[test]
fn twin_events_carry_their_body_as_it_came() {
    let body = r#"{ "version": 12345678901234567890123, "tags": {} }"#;
    for (operation, kind) in [
        ("updateTwin", TwinEventKind::Update),
        ("replaceTwin", TwinEventKind::Replace),
    ] {
        let properties = [
            ("deviceId", "d1"),
            ("iothub-message-schema", "twinChangeNotification"),
            ("opType", operation),
        ];
        let messages = decode(&event(&properties, body));
        let [
            DeviceMessage {
                content: Content::Twin(twin),
                ..
            },
        ] = &messages[..]
        else {
            panic!("{messages:?}")
        };
        assert_eq!((twin.kind, twin.body.as_str()), (kind, body));
    }
    for (operation, body, reason) in [
        ("createTwin", "{}", DropReason::UnknownOperation),
        ("updateTwin", "[]", DropReason::Undecodable),
        ("updateTwin", "{", DropReason::Undecodable),
    ] {
        let properties = [
            ("deviceId", "d1"),
            ("iothub-message-schema", "twinChangeNotification"),
            ("opType", operation),
        ];
        let (messages, tally) = decode_with(DecodingConfig::default(), &event(&properties, body));
        assert!(messages.is_empty());
        assert_eq!(tally.dropped(reason), 1, "{operation} {body}");
    }
}
