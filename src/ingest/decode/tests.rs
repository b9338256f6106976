use proptest::prelude::*;
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

fn whole_text(message: &DeviceMessage) -> Option<&str> {
    telemetry_message(message)
        .message
        .as_ref()
        .map(RawJson::as_str)
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
                content: Content::ConnectionState(true),
                ..
            }]
        ));
    }
}

#[test]
fn events_about_modules_are_ignored_but_a_devices_own_property_named_module_id_is_not() {
    let state = ("iothub-message-schema", "deviceConnectionStateNotification");
    let device = ("iothub-connection-device-id", "d1");
    let about_modules = [
        event(&[device, state, ("opType", "moduleConnected")], "{}"),
        event(
            &[
                device,
                state,
                ("opType", "deviceConnected"),
                ("moduleId", "m"),
            ],
            "{}",
        ),
        event(
            &[
                device,
                ("iothub-message-schema", "twinChangeNotification"),
                ("opType", "updateTwin"),
                ("moduleId", "m"),
            ],
            "{}",
        ),
        event(
            &[device, ("iothub-connection-module-id", "m")],
            r#"{"a":1}"#,
        ),
    ];
    for event in about_modules {
        let (messages, tally) = decode_with(DecodingConfig::default(), &event);
        assert!(messages.is_empty());
        assert_eq!((tally.ignored, tally.dropped(DropReason::Module)), (1, 1));
    }
    assert_eq!(
        decode(&event(&[device, ("moduleId", "m")], r#"{"a":1}"#)).len(),
        1
    );
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
            content: Content::ConnectionState(false),
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
        assert_eq!(whole_text(&message), Some(body.as_str()), "{value}");
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

#[test]
fn each_object_of_an_array_is_telemetry_with_its_own_device_and_time() {
    let body = r#" [{"deviceId":"a","_ts":1714557601,"t":1}, 5, {"t":2}, [{"t":9}], {"deviceId":"b","t":3}] "#;
    let messages = decode(&telemetry_event(body));
    let seen: Vec<_> = messages.iter().map(device_and_time).collect();
    let expected = [
        ("a", "2024-05-01T10:00:01.000Z"),
        ("d1", CONSUMED),
        ("b", CONSUMED),
        ("d1", CONSUMED),
    ];
    assert_eq!(
        seen,
        expected.map(|(device, time)| (device.to_owned(), time.to_owned()))
    );
    let values: Vec<_> = messages.iter().map(telemetry).collect();
    assert_eq!(
        values,
        [
            json!({"t": 1}),
            json!({"t": 2}),
            json!({"t": 3}),
            Value::Null
        ]
    );
    let wholes: Vec<_> = messages.iter().map(whole_text).collect();
    assert_eq!(wholes, [None, None, None, Some(body.trim())]);
    let states: Vec<_> = messages
        .iter()
        .map(|message| telemetry_message(message).connection_state)
        .collect();
    assert_eq!(states, [Some(true), Some(true), Some(true), None]);
}

#[test]
fn an_array_about_one_device_belongs_to_it_and_one_about_several_to_nobody_in_particular() {
    let without_envelope = |body| decode(&event(&[], body));
    let messages = without_envelope(r#"[{"deviceId":"a","t":1},{"deviceId":"a","t":2}]"#);
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[2].device_id.as_str(), "a");
    assert!(whole_text(&messages[2]).is_some());

    let messages = without_envelope(r#"[{"deviceId":"a","t":1},{"deviceId":"b","t":2}]"#);
    assert_eq!(
        messages.len(),
        2,
        "values of one device must not reach those who may see the other"
    );

    let (messages, tally) = decode_with(
        DecodingConfig::default(),
        &event(&[], r#"[{"t":1},{"deviceId":"b","t":2}]"#),
    );
    assert_eq!(tally.dropped(DropReason::MissingDeviceId), 1);
    assert_eq!(messages[0].device_id.as_str(), "b");
}

#[test]
fn other_json_goes_to_d2c_subscribers_only() {
    for body in ["5", "\"text\"", "true", "null", "-0.0e1", "[]", "[1,2]"] {
        let (messages, tally) = decode_with(DecodingConfig::default(), &telemetry_event(body));
        assert_eq!(messages.len(), 1, "{body}");
        assert_eq!(whole_text(&messages[0]), Some(body));
        assert_eq!(telemetry(&messages[0]), Value::Null);
        assert_eq!(telemetry_message(&messages[0]).connection_state, None);
        assert_eq!(tally.dropped(DropReason::Undecodable), 0);
    }
}

#[test]
fn a_body_that_is_not_json_reaches_d2c_subscribers_as_text() {
    for body in [
        "",
        "temperature=5",
        "{\"a\":1",
        "{\"a\":1}}",
        "{a:1}",
        "\"tab\tinside\"",
        "{\"a\":01}",
        "[1,]",
    ] {
        let (messages, tally) = decode_with(DecodingConfig::default(), &telemetry_event(body));
        let text: String = serde_json::from_str(whole_text(&messages[0]).unwrap()).unwrap();
        assert_eq!(text, body);
        assert_eq!(tally.dropped(DropReason::Undecodable), 1, "{body}");
    }
    let mut binary = telemetry_event("");
    binary.body = &[0xff, 0x00, 0x1f];
    let (messages, tally) = decode_with(DecodingConfig::default(), &binary);
    assert_eq!(whole_text(&messages[0]), Some("\"/wAf\""));
    assert_eq!(tally.dropped(DropReason::Undecodable), 1);
}

#[test]
fn values_pass_through_as_they_were_written() {
    let body = r#"{"big":12345678901234567890123,"e":1E+2,"z":0,"f":false,"s":"","n":null,"u":"\u00e9\/","o":{ "a" : [1] }}"#;
    let message = decode(&telemetry_event(body)).remove(0);
    let members: Vec<_> = telemetry_message(&message)
        .telemetry
        .as_ref()
        .unwrap()
        .iter()
        .collect();
    let values: Vec<_> = members.iter().map(|(_, _, value)| *value).collect();
    assert_eq!(
        values,
        [
            "12345678901234567890123",
            "1E+2",
            "0",
            "false",
            "\"\"",
            "null",
            r#""\u00e9\/""#,
            r#"{ "a" : [1] }"#
        ]
    );
}

#[test]
fn keys_are_compared_without_their_escapes_and_the_last_duplicate_wins() {
    let message = decode(&telemetry_event(
        r#"{"a":1,"q\"\\":2,"\u0061":3,"half\ud800":4}"#,
    ))
    .remove(0);
    let members: Vec<_> = telemetry_message(&message)
        .telemetry
        .as_ref()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(
        members,
        [
            ("q\"\\", r#""q\"\\""#, "2"),
            ("a", r#""\u0061""#, "3"),
            (r"half\ud800", r#""half\ud800""#, "4")
        ]
    );
    let many: Vec<_> = (0..100).map(|n| format!(r#""k{}":{n}"#, n % 40)).collect();
    let message = decode(&telemetry_event(&format!("{{{}}}", many.join(",")))).remove(0);
    let telemetry = telemetry(&message);
    assert_eq!(telemetry.as_object().unwrap().len(), 40);
    assert_eq!(
        (&telemetry["k5"], &telemetry["k25"]),
        (&json!(85), &json!(65))
    );
}

#[test]
fn nesting_and_size_are_bounded() {
    let nested = |depth: usize| {
        format!(
            r#"{{"a":{}1{}}}"#,
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    let options = DecodingConfig {
        json_depth_max: 8,
        message_bytes_max: 1_000_000,
        ..DecodingConfig::default()
    };
    let (messages, tally) = decode_with(options.clone(), &telemetry_event(&nested(8)));
    assert!(telemetry_message(&messages[0]).telemetry.is_some());
    assert_eq!(tally.dropped(DropReason::TooDeep), 0);
    for body in [
        nested(9),
        nested(100_000),
        format!("[{}]", nested(8)),
        "[".repeat(9) + &"]".repeat(9),
    ] {
        let (messages, tally) = decode_with(options.clone(), &telemetry_event(&body));
        assert!(telemetry_message(&messages[0]).telemetry.is_none());
        assert!(
            whole_text(&messages[0]).unwrap().starts_with('"'),
            "the text is passed on unparsed"
        );
        assert_eq!((messages.len(), tally.dropped(DropReason::TooDeep)), (1, 1));
    }
    let brackets_in_text = format!(r#"{{"a":["{}\"["]}}"#, "[".repeat(50));
    assert!(
        telemetry_message(&decode_with(options.clone(), &telemetry_event(&brackets_in_text)).0[0])
            .telemetry
            .is_some()
    );

    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000_000));
    let (messages, tally) = decode_with(options, &telemetry_event(&large));
    assert!(messages.is_empty());
    assert_eq!(tally.dropped(DropReason::TooLarge), 1);
}

#[test]
fn an_empty_object_is_no_telemetry_but_still_a_message() {
    let message = decode(&telemetry_event(" {} ")).remove(0);
    assert_eq!(telemetry(&message), Value::Null);
    assert_eq!(whole_text(&message), Some("{}"));
    assert_eq!(telemetry_message(&message).connection_state, Some(true));
}

#[test]
fn a_tally_starts_again_when_it_was_taken() {
    let mut decoder = Decoder::new(DecodingConfig::default());
    decoder.decode(&telemetry_event("{}"), CONSUMED_UNIX_MS, &mut Vec::new());
    assert_eq!(
        (
            decoder.take_tally().telemetry,
            decoder.take_tally().telemetry
        ),
        (1, 0)
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-z_\"\\\\\u{e9}]{0,4}", inner, 0..24)
                .prop_map(|members| Value::from(serde_json::Map::from_iter(members))),
        ]
    })
}

proptest! {
    /// The tree that `serde_json` builds is the oracle; compact and indented texts mean the same.
    #[test]
    fn telemetry_holds_exactly_the_top_level_members(value in any_json(), indented in any::<bool>()) {
        let text = if indented { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        // A parse round trip first: a float's text need not be its shortest form.
        let value: Value = serde_json::from_str(&text).unwrap();
        let messages = decode(&telemetry_event(&text));
        let expected: Vec<Value> = match &value {
            Value::Array(elements) => elements.iter().filter(|element| element.is_object()).cloned().collect(),
            Value::Object(_) => vec![value.clone()],
            _ => Vec::new(),
        };
        let telemetries: Vec<Value> = messages
            .iter()
            .map(telemetry)
            .zip(messages.iter().map(|message| telemetry_message(message).connection_state))
            .filter(|(_, state)| state.is_some())
            .map(|(telemetry, _)| if telemetry.is_null() { json!({}) } else { telemetry })
            .collect();
        prop_assert_eq!(telemetries, expected);
        let wholes: Vec<Value> =
            messages.iter().filter_map(whole_text).map(|text| serde_json::from_str(text).unwrap()).collect();
        prop_assert_eq!(wholes, [value]);
    }

    #[test]
    fn a_members_raw_value_and_key_are_those_of_the_tree(value in any_json()) {
        let text = json!({ "only\n": value }).to_string();
        let message = decode(&telemetry_event(&text)).remove(0);
        let telemetry = telemetry_message(&message).telemetry.clone().unwrap();
        let members: Vec<_> = telemetry.iter().collect();
        prop_assert_eq!(members.len(), 1);
        prop_assert_eq!(members[0].0, "only\n");
        let raw = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(members[0].2, raw.as_str());
    }

    #[test]
    fn no_bytes_make_it_panic_and_d2c_always_carries_valid_json(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[\\[\\]{}\",:a0\\\\ue.\\-]{0,60}".prop_map(String::into_bytes),
        ],
        class in prop_oneof![Just(""), Just("twinChangeEvents"), Just("deviceConnectionStateEvents")],
    ) {
        let mut event = telemetry_event("");
        event.body = &body;
        event.application_properties.message_schema = Property::Absent;
        event.application_properties.operation_type = Property::Text("updateTwin");
        event.annotations.message_source = Property::Text(class);
        let (messages, _) = decode_with(DecodingConfig::default(), &event);
        for text in messages.iter().filter_map(|message| match &message.content {
            Content::Telemetry(telemetry) => telemetry.message.as_ref(),
            Content::Twin(twin) => Some(&twin.body),
            Content::ConnectionState(_) => None,
        }) {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(text.as_str()).is_ok());
        }
    }
}
