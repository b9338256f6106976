//! Last values, connection states and twins.

use super::*;

#[tokio::test]
async fn a_last_value_stands_as_the_device_wrote_it_and_is_wrapped_with_its_time_among_others() {
    let api = Api::start();
    let members = [
        ("zero", "0"),
        ("no", "false"),
        ("empty", "\"\""),
        ("null", "null"),
        ("big", "9007199254740993"),
        ("precise", "21.50e+1"),
        ("nested", r#"{"b":[1, 2],"a":{"b":1}}"#),
        ("quoted \"key\"", "\"\\u00e9\\/\""),
    ];
    api.telemetry("d1", &members).await;
    for (key, value) in members {
        let path = format!(
            "/lastValue/d1/{}",
            key.replace(' ', "%20").replace('"', "%22")
        );
        let answer = api.send(call("GET", path).key(PRIMARY)).await;
        let key = serde_json::to_string(key).unwrap();
        answer.is_json(&format!(
            r#"{{"deviceId":"d1","data":{{{key}:{value}}},"timestamp":"{SENT_AT}"}}"#
        ));
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let wrapped: Vec<_> = members
        .iter()
        .map(|(key, value)| {
            let key = serde_json::to_string(key).unwrap();
            format!(r#"{key}:{{"value":{value},"timestamp":"{SENT_AT}"}}"#)
        })
        .collect();
    let all = format!(
        r#"{{"deviceId":"d1","data":{{{}}},"timestamp":""}}"#,
        wrapped.join(",")
    );
    for path in ["/lastValue/d1", "/lastValue/d1/"] {
        api.send(call("GET", path).key(PRIMARY)).await.is_json(&all);
    }
}

#[tokio::test]
async fn a_value_that_never_came_is_404_by_key_and_nothing_among_all() {
    let api = Api::start();
    let session = api.session();
    api.grant(session, r#""deviceId":"new","type":"telemetry""#)
        .await;
    for read in [
        call("GET", "/lastValue/new").session(session),
        call("GET", "/lastValue/new").key(PRIMARY),
    ] {
        api.send(read)
            .await
            .is_json(r#"{"deviceId":"new","data":{},"timestamp":""}"#);
    }
    for key in ["t", "null", "undefined"] {
        let answer = api
            .send(call("GET", format!("/lastValue/new/{key}")).session(session))
            .await;
        answer.is(404, "No last telemetry found");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn a_session_sees_the_keys_it_was_granted() {
    let api = Api::start();
    api.telemetry("d1", &[("a", "1"), ("b", "2")]).await;
    let session = api.session();
    api.grant(
        session,
        r#""deviceId":"d1","type":"telemetry","telemetryKey":"b""#,
    )
    .await;
    let all = api
        .send(call("GET", "/lastValue/d1").session(session))
        .await;
    all.is_json(&format!(
        r#"{{"deviceId":"d1","data":{{"b":{{"value":2,"timestamp":"{SENT_AT}"}}}},"timestamp":""}}"#
    ));
    let one = api
        .send(call("GET", "/lastValue/d1/a").session(session))
        .await;
    one.is(403, "Forbidden to read last value of device: missing grant");
}

#[tokio::test]
async fn names_in_paths_are_decoded_once_and_keys_may_hold_slashes() {
    let api = Api::start();
    for (device, key, path) in [
        ("a+b", "c+d", "/lastValue/a+b/c+d"),
        ("a b", "c d", "/lastValue/a%20b/c%20d"),
        ("100%", "50%", "/lastValue/100%/50%"),
        ("a%20b", "t", "/lastValue/a%2520b/t"),
        ("a/b", "c/d", "/lastValue/a%2Fb/c%2Fd"),
        ("d", "x/y//z/", "/lastValue/d/x/y//z/"),
        ("d", "/x", "/lastValue/d//x"),
        ("%(device)$", "{*key}", "/lastValue/%(device)$/%7B*key%7D"),
        ("é", "ü", "/lastValue/%C3%A9/%C3%BC"),
    ] {
        api.telemetry(device, &[(key, "1")]).await;
        let answer = api.send(call("GET", path).key(PRIMARY)).await;
        let expected =
            serde_json::json!({"deviceId": device, "data": {key: 1}, "timestamp": SENT_AT});
        answer.is(200, &answer.body);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&answer.body).unwrap(),
            expected,
            "{path}"
        );
    }
    let long = "x".repeat(5000);
    for path in [
        format!("/lastValue/{long}"),
        format!("/lastValue/d/{long}"),
        format!("/deviceTwin/{long}"),
    ] {
        let answer = api.send(call("GET", path).key(PRIMARY)).await;
        answer.is(
            400,
            "The deviceId or telemetryKey in the path is empty or too long",
        );
    }
}

#[tokio::test]
async fn deleted_last_values_are_answered_and_gone() {
    let api = Api::start();
    let members = [("a", "1"), ("b", "2"), ("c", "3")];
    api.telemetry("d1", &members).await;
    api.message(
        "d1",
        Content::ConnectionState {
            connected: true,
            sequence: None,
        },
    )
    .await;
    let wrapped = |keys: &[usize]| {
        let members: Vec<_> = keys
            .iter()
            .map(|key| {
                let (key, value) = members[*key];
                format!(r#""{key}":{{"value":{value},"timestamp":"{SENT_AT}"}}"#)
            })
            .collect();
        format!(
            r#"{{"deviceId":"d1","data":{{{}}},"timestamp":""}}"#,
            members.join(",")
        )
    };
    api.send(call("DELETE", "/lastValue/d1/b").key(PRIMARY))
        .await
        .is_json(&wrapped(&[1]));
    api.send(call("DELETE", "/lastValue/d1/b").key(PRIMARY))
        .await
        .is_json(&wrapped(&[]));
    api.send(call("DELETE", "/lastValue/d1").key(PRIMARY))
        .await
        .is_json(&wrapped(&[0, 2]));
    api.send(call("GET", "/lastValue/d1/a").key(PRIMARY))
        .await
        .is(404, "No last telemetry found");
    assert_eq!(
        api.send(call("GET", "/connectionState/d1").key(PRIMARY))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_session_deletes_last_values_only_with_the_grant_for_every_key() {
    let api = Api::start();
    api.telemetry("d1", &[("a", "1")]).await;
    let session = api.session();
    api.grant(
        session,
        r#""deviceId":"d1","type":"telemetry","telemetryKey":"a""#,
    )
    .await;
    for path in ["/lastValue/d1", "/lastValue/d1/a"] {
        let answer = api.send(call("DELETE", path).session(session)).await;
        answer.is(403, "Forbidden to read last value of device: missing grant");
    }
    api.grant(session, r#""deviceId":"d1","type":"telemetry""#)
        .await;
    assert_eq!(
        api.send(call("DELETE", "/lastValue/d1").session(session))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_connection_state_is_answered_from_what_is_known() {
    let api = Api::start();
    let read = call("GET", "/connectionState/d1").key(PRIMARY);
    api.send(read.clone())
        .await
        .is(400, "IoT Hub API disabled, cannot read connection state");
    for connected in [true, false] {
        api.message(
            "d1",
            Content::ConnectionState {
                connected,
                sequence: None,
            },
        )
        .await;
        let answer = api.send(read.clone()).await;
        answer.is_json(&format!(
            r#"{{"deviceId":"d1","data":{connected},"timestamp":"{SENT_AT}"}}"#
        ));
    }
    let custom =
        Api::with(|config| config.decoding.custom_connection_state_key = Some("online".into()));
    custom.send(read).await.is(404, "No device found");
}

#[tokio::test]
async fn a_twin_is_answered_from_the_cache_when_there_is_one() {
    let body = r#"{"version":7,"properties":{"reported":{"n":9007199254740993},"desired":{}}}"#;
    let read = call("GET", "/deviceTwin/d1").key(PRIMARY);
    let disabled = "IoT Hub API disabled, cannot read device twin";

    let caching = Api::with(|config| config.device_twin_cache = DeviceTwinCache::Forever);
    caching.send(read.clone()).await.is(400, disabled);
    caching.message("d1", twin(body)).await;
    let answer = caching.send(read.clone()).await;
    answer.is_json(&format!(
        r#"{{"deviceId":"d1","data":{body},"timestamp":"{SENT_AT}"}}"#
    ));
    let session = caching.session();
    let answer = caching
        .send(call("GET", "/deviceTwin/d1").session(session))
        .await;
    answer.is(403, "Forbidden to read last value of device: missing grant");

    let not_caching = Api::start();
    not_caching.message("d1", twin(body)).await;
    not_caching.send(read).await.is(400, disabled);
}
