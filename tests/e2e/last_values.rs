//! Last telemetry values.

use serde_json::json;

use crate::harness::{DeviceEvent, PRIMARY_KEY, Testbed, UNKNOWN_SESSION, every_key, telemetry};

#[tokio::test]
async fn check_30_reading_needs_a_key_or_a_granted_session() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let rest = &testbed.rest;
    for path in ["/lastValue/d1/t", "/lastValue/d1"] {
        rest.get(path).await.says(
            401,
            "Provide either a Shared-Access-Key or a sessionId header",
        );
        session
            .get(path)
            .await
            .says(403, "Forbidden to read last value of device: missing grant");
        rest.get(path)
            .session(UNKNOWN_SESSION)
            .await
            .says(404, "No such sessionId");
        let wrong_key = "Forbidden to read last value of device: invalid shared-access-key";
        rest.get(path).key("wrong").await.says(403, wrong_key);
        rest.get(path)
            .key("wrong")
            .session(&session.id)
            .await
            .says(403, wrong_key);
    }
}

#[tokio::test]
async fn check_31_one_key_answers_the_bare_value() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 1})).await;
    let answer = testbed
        .rest
        .get("/lastValue/d1/t")
        .key(PRIMARY_KEY)
        .await
        .is(200);
    let value = answer.json();
    assert_eq!(value["deviceId"], "d1");
    assert_eq!(value["data"], json!({"t": 1}));
    let timestamp = value["timestamp"].as_str().expect("timestamp is a string");
    timestamp
        .parse::<jiff::Timestamp>()
        .expect("timestamp is ISO 8601");
}

#[tokio::test]
async fn check_32_all_keys_answer_each_value_with_its_own_time() {
    let mut testbed = Testbed::start().await;
    let first = DeviceEvent::telemetry(
        "d1",
        &json!({"_ts": "2024-05-01T10:00:00.000Z", "a": 1, "b": 1}),
    );
    let second = DeviceEvent::telemetry("d1", &json!({"_ts": "2024-05-01T10:00:01.000Z", "b": 2}));
    testbed.inject(first).await;
    testbed.inject(second).await;
    testbed.rest.last_value_becomes("d1", "b", &json!(2)).await;

    let answer = testbed
        .rest
        .get("/lastValue/d1")
        .key(PRIMARY_KEY)
        .await
        .is(200);
    assert_eq!(
        answer.json(),
        json!({
            "deviceId": "d1",
            "data": {
                "a": {"value": 1, "timestamp": "2024-05-01T10:00:00.000Z"},
                "b": {"value": 2, "timestamp": "2024-05-01T10:00:01.000Z"},
            },
            "timestamp": "",
        })
    );
}

#[tokio::test]
async fn check_33_a_key_never_seen_has_no_last_value() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 1})).await;
    for path in ["/lastValue/d1/u", "/lastValue/never-seen/t"] {
        let answer = testbed.rest.get(path).key(PRIMARY_KEY).await;
        answer.says(404, "No last telemetry found");
    }
}

#[tokio::test]
async fn check_34_a_device_never_seen_has_no_values_and_is_no_error() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.granted(&every_key("never-seen")).await;
    let answer = session.get("/lastValue/never-seen").await.is(200);
    assert_eq!(
        answer.json(),
        json!({"deviceId": "never-seen", "data": {}, "timestamp": ""})
    );
}

#[tokio::test]
async fn check_35_a_valid_key_outweighs_an_unknown_session() {
    let testbed = Testbed::start().await;
    let call = testbed.rest.get("/lastValue/d1").key(PRIMARY_KEY);
    call.session(UNKNOWN_SESSION).await.is(200);
}

#[tokio::test]
async fn check_36_deleting_the_last_values_of_a_device_forgets_them() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 1})).await;
    testbed.process("d2", json!({"t": 2})).await;

    let deleted = testbed
        .rest
        .delete("/lastValue/d1")
        .key(PRIMARY_KEY)
        .await
        .is(200);
    assert_eq!(deleted.json()["data"]["t"]["value"], 1);
    let gone = testbed.rest.get("/lastValue/d1/t").key(PRIMARY_KEY).await;
    gone.says(404, "No last telemetry found");
    testbed
        .rest
        .get("/lastValue/d2/t")
        .key(PRIMARY_KEY)
        .await
        .is(200);

    let again = testbed
        .rest
        .delete("/lastValue/d1")
        .key(PRIMARY_KEY)
        .await
        .is(200);
    assert_eq!(again.json()["data"], json!({}));
}

#[tokio::test]
async fn deleting_last_values_as_a_session_needs_a_grant_of_every_key() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 1})).await;
    let session = testbed.session().await;
    session.granted(&telemetry("d1", "t")).await;
    testbed
        .rest
        .delete("/lastValue/d1")
        .session(&session.id)
        .await
        .is(403);
    testbed.rest.delete("/lastValue/d1").await.is(401);
    session.get("/lastValue/d1/t").await.is(200);

    session.granted(&every_key("d1")).await;
    testbed
        .rest
        .delete("/lastValue/d1")
        .session(&session.id)
        .await
        .is(200);
    session.get("/lastValue/d1/t").await.is(404);
}

#[tokio::test]
async fn check_37_falsy_values_are_stored_and_answered_in_both_forms() {
    let mut testbed = Testbed::start().await;
    let falsy = json!({"zero": 0, "off": false, "empty": "", "none": null, "last": 1});
    testbed.process("d1", falsy.clone()).await;
    let all = testbed
        .rest
        .get("/lastValue/d1")
        .key(PRIMARY_KEY)
        .await
        .is(200)
        .json();
    for (key, value) in falsy.as_object().expect("an object") {
        assert_eq!(all["data"][key]["value"], *value, "{key}");
        let path = format!("/lastValue/d1/{key}");
        let one = testbed.rest.get(&path).key(PRIMARY_KEY).await.is(200);
        assert_eq!(one.json()["data"], json!({ key.as_str(): value }));
    }
}

#[tokio::test]
async fn a_session_reads_only_the_keys_it_was_granted() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"a": 1, "b": 2, "c": 3})).await;
    let session = testbed.session().await;
    session.granted(&telemetry("d1", "a")).await;
    session.granted(&telemetry("d1", "c")).await;

    let all = session.get("/lastValue/d1").await.is(200).json();
    let keys: Vec<&String> = all["data"].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["a", "c"]);
    session.get("/lastValue/d1/b").await.is(403);
}

#[tokio::test]
async fn ids_and_keys_with_unusual_characters_are_found_in_paths() {
    let mut testbed = Testbed::start().await;
    let device_id = "plant 7:a+b%c";
    testbed
        .inject(DeviceEvent::telemetry(
            device_id,
            &json!({"zone/1 ä": 1, "last": 1}),
        ))
        .await;
    let escaped = "plant%207:a+b%25c";
    testbed
        .rest
        .last_value_becomes(device_id, "last", &json!(1))
        .await;

    let path = format!("/lastValue/{escaped}/zone/1%20%C3%A4");
    let answer = testbed
        .rest
        .get(&path)
        .key(PRIMARY_KEY)
        .await
        .is(200)
        .json();
    assert_eq!(answer["deviceId"], device_id);
    assert_eq!(answer["data"], json!({"zone/1 ä": 1}));
}

#[tokio::test]
async fn integers_beyond_2_53_come_back_digit_by_digit() {
    let mut testbed = Testbed::start().await;
    let body = r#"{"n":12345678901234567890123,"last":1}"#;
    testbed
        .inject(DeviceEvent::telemetry_bytes("d1", body))
        .await;
    testbed
        .rest
        .last_value_becomes("d1", "last", &json!(1))
        .await;
    for path in ["/lastValue/d1", "/lastValue/d1/n"] {
        let answer = testbed.rest.get(path).key(PRIMARY_KEY).await.is(200);
        assert!(
            answer.body.contains("12345678901234567890123"),
            "{}",
            answer.body
        );
    }
}
