//! What bodies become: arrays, other JSON, text, and random ones against a tree as the oracle.

use proptest::prelude::*;

use super::*;

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
    assert_eq!(wholes, [None, None, None, Some(body.trim().to_owned())]);
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
        assert_eq!(whole_text(&messages[0]).as_deref(), Some(body));
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
        let text: String = serde_json::from_str(&whole_text(&messages[0]).unwrap()).unwrap();
        assert_eq!(text, body);
        assert_eq!(tally.dropped(DropReason::Undecodable), 1, "{body}");
    }
    let mut binary = telemetry_event("");
    binary.body = &[0xff, 0x00, 0x1f];
    let (messages, tally) = decode_with(DecodingConfig::default(), &binary);
    assert_eq!(whole_text(&messages[0]).as_deref(), Some("\"/wAf\""));
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
    assert_eq!(whole_text(&message).as_deref(), Some("{}"));
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
            messages.iter().filter_map(whole_text).map(|text| serde_json::from_str(&text).unwrap()).collect();
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
            Content::Telemetry(telemetry) => telemetry.text(),
            Content::Twin(twin) => Some(twin.body.clone()),
            Content::ConnectionState { connected: _, .. } => None,
        }) {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(text.as_str()).is_ok());
        }
    }
}
