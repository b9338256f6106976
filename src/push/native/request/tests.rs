//! What clients send, right and wrong.

use super::*;

fn refusal(text: &str) -> ErrorMessage {
    read(text).expect_err(text)
}

/// Texts, and the code, id and field of what is wrong with them.
const WRONG: &[(&str, &str, Option<u64>, Option<&str>)] = &[
    ("", "malformedJson", None, None),
    (r#"{"type":"ping","#, "malformedJson", None, None),
    (r#"{"type":"ping","id":1} x"#, "malformedJson", None, None),
    (r#"["ping",1]"#, "invalidMessage", None, None),
    ("5", "invalidMessage", None, None),
    ("{}", "invalidMessage", None, Some("type")),
    (r#"{"id":3}"#, "invalidMessage", Some(3), Some("type")),
    (
        r#"{"type":7,"id":3}"#,
        "invalidMessage",
        Some(3),
        Some("type"),
    ),
    (
        r#"{"type":"pong","id":3}"#,
        "unknownType",
        Some(3),
        Some("type"),
    ),
    (r#"{"type":"ping"}"#, "invalidMessage", None, None),
    (
        r#"{"type":"ping","id":0}"#,
        "invalidMessage",
        None,
        Some("id"),
    ),
    (
        r#"{"type":"ping","id":-1}"#,
        "invalidMessage",
        None,
        Some("id"),
    ),
    (
        r#"{"type":"ping","id":1.5}"#,
        "invalidMessage",
        None,
        Some("id"),
    ),
    (
        r#"{"type":"ping","id":"1"}"#,
        "invalidMessage",
        None,
        Some("id"),
    ),
    (
        r#"{"type":"ping","id":9007199254740992}"#,
        "invalidMessage",
        None,
        Some("id"),
    ),
    (
        r#"{"type":"ping","id":1,"id":2}"#,
        "invalidMessage",
        None,
        None,
    ),
    (
        r#"{"type":"ping","id":1e999}"#,
        "invalidMessage",
        None,
        Some("id"),
    ),
    (
        r#"{"type":"hello","token":"\ud800"}"#,
        "invalidMessage",
        None,
        Some("token"),
    ),
    (
        r#"{"type":"hello","token":5}"#,
        "invalidMessage",
        None,
        Some("token"),
    ),
    (
        r#"{"type":"hello","resume":{"epoch":1,"sequence":2}}"#,
        "invalidMessage",
        None,
        Some("sessionId"),
    ),
    (
        r#"{"type":"hello","sessionId":"s","resume":{"epoch":-1,"sequence":2}}"#,
        "invalidMessage",
        None,
        Some("resume.epoch"),
    ),
    (
        r#"{"type":"subscribe","id":2}"#,
        "invalidMessage",
        Some(2),
        None,
    ),
];

/// Subscriptions of a request with the id 2, and the code and field of what is wrong with them.
const WRONG_SUBSCRIPTIONS: &[(&str, &str, &str)] = &[
    (
        r#"{"type":"deviceTwin","deviceId":"d"},{"type":"deviceTwin","deviceId":5}"#,
        "invalidMessage",
        "subscriptions[1].deviceId",
    ),
    (
        r#"{"type":"telemetry","deviceId":"d","telemetryKeys":["\ud800"]}"#,
        "invalidMessage",
        "subscriptions[0].telemetryKeys[0]",
    ),
    (
        r#"{"type":"telemetry","deviceId":"d","telemetryKeyPatterns":["*\udfff"]}"#,
        "invalidMessage",
        "subscriptions[0].telemetryKeyPatterns[0]",
    ),
    (
        r#"{"type":"x","deviceId":"d"}"#,
        "invalidMessage",
        "subscriptions[0].type",
    ),
    (
        r#"{"type":"deviceTwin","deviceId":""}"#,
        "invalidDeviceId",
        "subscriptions[0].deviceId",
    ),
    (
        r#"{"type":"telemetry","deviceId":"d","telemetryKeys":["a",""]}"#,
        "invalidTelemetryKey",
        "subscriptions[0].telemetryKeys[1]",
    ),
    (
        r#"{"type":"telemetry","deviceId":"d","telemetryKeyPatterns":["*********"]}"#,
        "invalidPattern",
        "subscriptions[0].telemetryKeyPatterns[0]",
    ),
    (
        r#"{"type":"deviceTwin","deviceId":"d","minIntervalMs":5}"#,
        "invalidSelector",
        "subscriptions[0].minIntervalMs",
    ),
    (
        r#"{"type":"deviceTwin","deviceId":"d","changesOnly":true}"#,
        "invalidSelector",
        "subscriptions[0].changesOnly",
    ),
    (
        r#"{"type":"telemetry","deviceId":"d","minIntervalMs":86400001}"#,
        "invalidSelector",
        "subscriptions[0].minIntervalMs",
    ),
];

#[test]
fn what_is_wrong_is_told_with_code_id_and_field() {
    for (text, code, id, field) in WRONG {
        let error = refusal(text);
        let told = (error.code.as_str(), error.id, error.field.as_deref());
        assert_eq!(told, (*code, *id, *field), "{text}: {error:?}");
    }
    for (subscriptions, code, field) in WRONG_SUBSCRIPTIONS {
        let text = format!(r#"{{"type":"subscribe","id":2,"subscriptions":[{subscriptions}]}}"#);
        let error = refusal(&text);
        let told = (error.code.as_str(), error.id, error.field.as_deref());
        assert_eq!(told, (*code, Some(2), Some(*field)), "{text}: {error:?}");
    }
    let error =
        refusal(r#"{"type":"lastValues","id":2,"of":[{"type":"d2cMessages","deviceId":"d"}]}"#);
    assert_eq!(error.code, ErrorCode::InvalidSelector);
    assert_eq!(error.field.as_deref(), Some("of[0].type"));
}

#[test]
fn errors_are_short_whatever_the_client_sent() {
    let text = format!(r#"{{"type":"ping","id":"{}"}}"#, "ä".repeat(100_000));
    let error = refusal(&text);
    assert!(
        error.message.len() <= MESSAGE_BYTES_MAX,
        "{}",
        error.message.len()
    );
}

#[test]
fn a_message_names_at_most_ten_thousand_keys() {
    let keys = |count: usize| {
        let keys: Vec<_> = (0..count).map(|number| format!("\"k{number}\"")).collect();
        format!(
            r#"{{"type":"subscribe","id":2,"subscriptions":[{{"type":"connectionState","deviceId":"d"}},{{"type":"telemetry","deviceId":"d","telemetryKeys":[{}]}}]}}"#,
            keys.join(",")
        )
    };
    let Ok(Incoming::Request(Request {
        body: RequestBody::Subscribe(wanted, _),
        ..
    })) = read(&keys(KEYS_PER_MESSAGE_MAX - 1))
    else {
        panic!("ten thousand are allowed");
    };
    assert_eq!(wanted.len(), KEYS_PER_MESSAGE_MAX);
    let error = refusal(&keys(KEYS_PER_MESSAGE_MAX));
    assert_eq!((error.code, error.id), (ErrorCode::TooManyKeys, Some(2)));
}

#[test]
fn each_selector_is_its_keys_then_its_patterns_or_the_whole() {
    let text = r#"{"type":"subscribe","id":1,"subscriptions":[
        {"type":"telemetry","deviceId":"d1","telemetryKeys":["a","b"],"telemetryKeyPatterns":["t*"],"minIntervalMs":9,"changesOnly":true},
        {"type":"telemetry","deviceId":"d2"},{"type":"deviceTwin","deviceId":"d2"}]}"#;
    let Ok(Incoming::Request(Request {
        body: RequestBody::Subscribe(wanted, selectors),
        ..
    })) = read(text)
    else {
        panic!("it is a request");
    };
    let key = |name| Subscription::Telemetry(TelemetryKey::new(name));
    let pattern = Subscription::TelemetryPattern(KeyPattern::new("t*").unwrap());
    let places: Vec<_> = wanted
        .iter()
        .map(|wanted| (wanted.device.as_str(), wanted.subscription.clone()))
        .collect();
    assert_eq!(
        places,
        [
            ("d1", key("a")),
            ("d1", key("b")),
            ("d1", pattern),
            ("d2", Subscription::Telemetry(None)),
            ("d2", Subscription::DeviceTwin)
        ]
    );
    assert_eq!(wanted[0].delivery.min_interval_ms, 9);
    assert!(wanted[2].delivery.changes_only && !wanted[3].delivery.changes_only);

    assert_eq!(selectors.refused(&[Ok(()); 5]), []);
    let no = Err(SubscribeRefusal::NotGranted);
    let refused = selectors.refused(&[Ok(()), no, no, Ok(()), no]);
    assert_eq!(refused.len(), 2);
    assert_eq!(
        (refused[0].index, &*refused[0].telemetry_keys),
        (0, &["b".to_owned()][..])
    );
    assert_eq!(refused[0].telemetry_key_patterns, ["t*"]);
    assert_eq!((refused[1].index, refused[1].telemetry_keys.len()), (2, 0));

    let full = Err(SubscribeRefusal::TooManyDeliveries);
    let refused = selectors.refused(&[full, no, full, Ok(()), Ok(())]);
    let codes: Vec<_> = refused
        .iter()
        .map(|refused| refused.code.as_str())
        .collect();
    assert_eq!(codes, ["tooManyDeliveries", "notGranted"]);
    assert_eq!(
        (&*refused[0].telemetry_keys, &*refused[1].telemetry_keys),
        (&["a".to_owned()][..], &["b".to_owned()][..])
    );
}
