//! Calls to devices: what is refused before the hub is asked, in which order, and what is made of its answers.

use serde_json::{Value, json};

use super::*;
use crate::iot_hub::tests::hub::Answer as HubAnswer;

const DISABLED: &str = "IoT Hub API disabled, cannot invoke direct method";

const METHOD: &str = r#"{"deviceId":"d1","methodParams":{"methodName":"reboot","payload":{"delay":1},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}}"#;
const DESIRED: &str = r#"{"deviceId":"d1","desiredPropertyPatch":{"a":null}}"#;
const TAGS: &str = r#"{"deviceId":"d1","tagPatch":{"a":null}}"#;

/// A twin as the hub answers with it.
const TWIN: &str = r#"{"deviceId":"d1","etag":"AAAAAAAAAAI=","version":7,"connectionState":"Connected","tags":{"site":"x"},"properties":{"desired":{"a":1.50,"b":2,"$version":3},"reported":{"r":1,"$version":1}}}"#;

fn method() -> Call {
    call("POST", "/directMethod")
}

fn desired() -> Call {
    call("PATCH", "/deviceTwinDesiredProperties")
}

fn tags() -> Call {
    call("PATCH", "/deviceTwinTags")
}

/// A hub that gives these answers, an API that calls it, and a session with grants.
async fn bed<const N: usize>(
    answers: impl IntoIterator<Item = HubAnswer>,
    grants: [&str; N],
) -> (Hub, Api, SessionId) {
    let hub = Hub::start(answers).await;
    let api = Api::calling(Some(&hub), |_| {});
    let session = api.session();
    for grant in grants {
        api.grant(session, grant).await;
    }
    (hub, api, session)
}

#[tokio::test]
async fn calls_are_checked_in_order_and_then_say_that_the_hub_is_disabled() {
    let api = Api::start();
    let session = api.session();
    for (call, good, malformed) in [
        (method(), METHOD, "Malformed direct method request"),
        (desired(), DESIRED, "Malformed desired properties request"),
        (tags(), TAGS, "Malformed tags request"),
    ] {
        for missing in [
            call.clone(),
            call.clone().session(""),
            call.clone().session("nonsense"),
            call.clone().session(unknown_session()),
        ] {
            let answer = api.send(missing.clone().key(PRIMARY).body(good)).await;
            answer.is(404, "No such sessionId");
            let answer = api.send(missing.body("{")).await;
            answer.is(404, "No such sessionId");
        }
        let answer = api.send(call.clone().session(session).body("{")).await;
        answer.is(400, malformed);
        let answer = api.send(call.clone().session(session).body(good)).await;
        answer.is(400, DISABLED);
    }
}

#[tokio::test]
async fn malformed_calls_are_refused_and_reach_no_hub() {
    let every = r#""deviceId":"d1","type":"directMethod""#;
    let (hub, api, session) = bed([], [every]).await;
    for bad in [
        "",
        "{",
        "[]",
        r#"{"deviceId":"d1"}"#,
        r#"{"deviceId":"","methodParams":{"methodName":"m"}}"#,
        r#"{"deviceId":5,"methodParams":{"methodName":"m"}}"#,
        r#"{"deviceId":"d1","moduleId":"","methodParams":{"methodName":"m"}}"#,
        r#"{"deviceId":"d1","moduleId":7,"methodParams":{"methodName":"m"}}"#,
        r#"{"deviceId":"d1","deviceId":"d2","methodParams":{"methodName":"m"}}"#,
        r#"{"deviceId":"d1","methodParams":{}}"#,
        r#"{"deviceId":"d1","methodParams":["m"]}"#,
        r#"{"deviceId":"d1","methodParams":{"methodName":""}}"#,
        r#"{"deviceId":"d1","methodParams":{"methodName":7}}"#,
        r#"{"deviceId":"d1","methodParams":{"methodName":"m","methodName":"n"}}"#,
        r#"{"deviceId":"d1","methodParams":{"methodName":"m","responseTimeoutInSeconds":"30"}}"#,
        r#"{"deviceId":"d1","methodParams":{"methodName":"m","responseTimeoutInSeconds":-1}}"#,
        r#"{"deviceId":"d1","methodParams":{"methodName":"m","connectTimeoutInSeconds":1.5}}"#,
    ] {
        let answer = api.send(method().session(session).body(bad)).await;
        answer.is(400, "Malformed direct method request");
    }
    let name = "m".repeat(1025);
    let long = format!(r#"{{"deviceId":"d1","methodParams":{{"methodName":"{name}"}}}}"#);
    let answer = api.send(method().session(session).body(long)).await;
    answer.is(400, "Malformed direct method request");
    for bad in [
        "{}",
        r#"{"deviceId":"d1"}"#,
        r#"{"deviceId":"d1","desiredPropertyPatch":null}"#,
        r#"{"deviceId":"d1","desiredPropertyPatch":[]}"#,
        r#"{"deviceId":"d1","desiredPropertyPatch":"{}"}"#,
        r#"{"deviceId":"d1","tagPatch":{}}"#,
        r#"{"deviceId":null,"desiredPropertyPatch":{}}"#,
        r#"{"deviceId":"d1","desiredPropertyPatch":{},"ifMatch":7}"#,
        r#"{"deviceId":"d1","desiredPropertyPatch":{},"ifMatch":"a b"}"#,
        r#"{"deviceId":"d1","desiredPropertyPatch":{},"ifMatch":""}"#,
    ] {
        let answer = api.send(desired().session(session).body(bad)).await;
        answer.is(400, "Malformed desired properties request");
    }
    for bad in [DESIRED, r#"{"deviceId":"d1","tagPatch":[{}]}"#] {
        let answer = api.send(tags().session(session).body(bad)).await;
        answer.is(400, "Malformed tags request");
    }
    assert_eq!(hub.requests(), 0);
}

#[tokio::test]
async fn without_a_grant_for_it_a_call_is_forbidden_and_reaches_no_hub() {
    let (hub, api, session) = bed(
        [],
        [
            r#""deviceId":"d1","type":"directMethod","directMethodName":"echo""#,
            r#""deviceId":"d2","type":"directMethod""#,
            r#""deviceId":"d2","type":"desiredProperties""#,
            r#""deviceId":"d1","type":"deviceTwin""#,
        ],
    )
    .await;
    for (call, body) in [(method(), METHOD), (desired(), DESIRED), (tags(), TAGS)] {
        let answer = api
            .send(call.session(session).key(PRIMARY).body(body))
            .await;
        answer.is(403, "Forbidden");
    }
    let of_a_module = r#"{"deviceId":"d2","moduleId":"m","methodParams":{"methodName":"m"}}"#;
    let answer = api.send(method().session(session).body(of_a_module)).await;
    answer.is(403, "Forbidden");
    assert_eq!(hub.requests(), 0);
}

#[tokio::test]
async fn a_method_goes_out_with_the_defaults_and_comes_back_as_the_device_wrote_it() {
    let answered = r#"{"status":500,"payload":{"n":1.50,"big":12345678901234567890}}"#;
    let (hub, api, session) = bed(
        [HubAnswer::ok(answered), HubAnswer::ok(answered)],
        [r#""deviceId":"d1","type":"directMethod","directMethodName":"m""#],
    )
    .await;
    let body = r#"{"extra":1,"deviceId":"d1","methodParams":{"methodName":"m","payload":[1.0, 1e400],"more":{}}}"#;
    let answer = api.send(method().session(session).body(body)).await;
    answer.is_json(answered);
    assert_eq!(
        hub.request().body,
        r#"{"methodName":"m","payload":[1.0, 1e400],"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}"#
    );
    let body = r#"{"deviceId":"d1","methodParams":{"methodName":"m","responseTimeoutInSeconds":7,"connectTimeoutInSeconds":3}}"#;
    let answer = api.send(method().session(session).body(body)).await;
    answer.is_json(answered);
    assert_eq!(
        hub.request().body,
        r#"{"methodName":"m","payload":null,"responseTimeoutInSeconds":7,"connectTimeoutInSeconds":3}"#
    );
}

#[tokio::test]
async fn what_the_hub_refuses_comes_back_with_its_status_and_words() {
    let said =
        json!({"Message": "ErrorCode:DeviceNotFound;no", "ExceptionMessage": "Tracking ID:1"});
    let private = json!({"Message": "ErrorCode:IotHubUnauthorizedAccess;hub.example.net"});
    let (_hub, api, session) = bed(
        [
            HubAnswer::json(404, &said),
            HubAnswer::json(401, &private),
            HubAnswer::text(429, "").with("Retry-After", "9"),
            HubAnswer::ok("no json"),
        ],
        [r#""deviceId":"d1","type":"directMethod""#],
    )
    .await;
    let send = async || api.send(method().session(session).body(METHOD)).await;
    let answer = send().await;
    assert_eq!(answer.status, 404);
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), said);
    send().await.is(500, "IoTHub Response: error");
    let answer = send().await;
    answer.is(429, "Too many calls to the IoT hub, try again later");
    assert_eq!(answer.headers["retry-after"], "9");
    send().await.is(502, "IoTHub Response: error");
}

/// A session with fewer or narrowed grants sees less: `domain::grant`.
#[tokio::test]
async fn the_answer_to_a_patch_is_the_twin_in_the_form_that_clients_get() {
    let (hub, api, session) = bed(
        [HubAnswer::ok(TWIN)],
        [
            r#""deviceId":"d1","type":"desiredProperties""#,
            r#""deviceId":"d1","type":"deviceTwin""#,
        ],
    )
    .await;
    let patch = r#"{"deviceId":"d1","desiredPropertyPatch":{"a":1.50},"ifMatch":"AAAAAAAAAAE="}"#;
    let answer = api.send(desired().session(session).body(patch)).await;
    answer.is_json(
        r#"{"status":200,"payload":{"version":7,"properties":{"reported":{"r":1,"$version":1},"desired":{"a":1.50,"b":2,"$version":3}},"tags":{"site":"x"}}}"#,
    );
    let request = hub.request();
    assert_eq!(request.header("if-match"), "\"AAAAAAAAAAE=\"");
    assert_eq!(request.body, r#"{"properties":{"desired":{"a":1.50}}}"#);
}

/// What is kept is never older than what the session itself brought about.
#[tokio::test]
async fn a_patch_renews_the_twin_that_is_kept() {
    let old = TWIN.replace("\"version\":7", "\"version\":6");
    let hub = Hub::start([HubAnswer::ok(&old), HubAnswer::ok(TWIN)]).await;
    let api = Api::calling(Some(&hub), |config| {
        config.device_twin_cache = DeviceTwinCache::Forever;
    });
    let session = api.session();
    let grant = r#""deviceId":"d1","type":"desiredProperties""#;
    api.grant(session, grant).await;
    let version = async || {
        let answer = api.send(call("GET", "/deviceTwin/d1").key(PRIMARY)).await;
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        answer["data"]["version"].as_u64()
    };
    assert_eq!(version().await, Some(6));
    let answer = api.send(desired().session(session).body(DESIRED)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(version().await, Some(7));
    assert_eq!(hub.requests(), 2);
}

#[tokio::test]
async fn a_failed_patch_says_what_its_caller_can_change() {
    let stale = json!({"Message": "ErrorCode:PreconditionFailed;etag", "ExceptionMessage": ""});
    let (_hub, api, session) = bed(
        [
            HubAnswer::json(412, &stale),
            HubAnswer::text(403, ""),
            HubAnswer::text(503, "boom   at Microsoft"),
            HubAnswer::ok("[]"),
        ],
        [r#""deviceId":"d1","type":"desiredProperties""#],
    )
    .await;
    let send = async || api.send(desired().session(session).body(DESIRED)).await;
    let answer = send().await;
    assert_eq!(answer.status, 412);
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), stale);
    for _ in 0..3 {
        send().await.is(500, "IoTHub Response: error");
    }
}

#[tokio::test]
async fn one_session_that_calls_in_a_loop_is_refused_and_another_is_served() {
    let answers = std::iter::repeat_n(HubAnswer::ok("{}"), 200);
    let grant = r#""deviceId":"d1","type":"directMethod""#;
    let (_hub, api, session) = bed(answers, [grant]).await;
    let send = async |session| api.send(method().session(session).body(METHOD)).await;
    let mut passed = 0;
    let refused = loop {
        let answer = send(session).await;
        if answer.status != 200 {
            break answer;
        }
        passed += 1;
    };
    assert!(passed >= 60, "{passed}");
    refused.is(429, "Too many calls to the IoT hub, try again later");
    assert_eq!(refused.headers["retry-after"], "1");

    let other = api.session();
    api.grant(other, grant).await;
    send(other).await.is_json("{}");
}
