//! An IoT hub that refuses, fails, throttles, breaks off or is not there: each call ends with the documented status, and
//! nothing of the inside is in an answer.

use serde_json::{Value, json};

use crate::harness::{Answer, Devhub, Hubrelay, PRIMARY_KEY, Session, Testbed, desired_properties};

const FAILED: &str = "IoTHub Response: error";

/// A session that may call every method of `d1` and patch its desired properties.
async fn allowed_session(testbed: &Testbed) -> Session {
    let session = testbed.session().await;
    allow(&session).await;
    session
}

async fn allow(session: &Session) {
    let methods = json!({"deviceId": "d1", "type": "directMethod"});
    session.granted(&methods).await;
    session.granted(&desired_properties("d1")).await;
}

async fn invoke(session: &Session) -> Answer {
    let call = session.rest.post("/directMethod").session(&session.id);
    let body = json!({"deviceId": "d1", "methodParams": {"methodName": "m"}});
    call.json(&body).await
}

async fn patch(session: &Session) -> Answer {
    let call = session.rest.patch("/deviceTwinDesiredProperties");
    let body = json!({"deviceId": "d1", "desiredPropertyPatch": {"a": 1}});
    call.session(&session.id).json(&body).await
}

async fn read(session: &Session) -> Answer {
    session.rest.get("/deviceTwin/d1").key(PRIMARY_KEY).await
}

/// A relay and a hub with the device `d1`, where every call works, until `fault` is on.
async fn testbed(fault: Value) -> (Testbed, Session) {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let session = allowed_session(&testbed).await;
    read(&session).await.is(200);
    testbed.devhub.hub_fault(fault).await;
    (testbed, session)
}

/// Nothing of where the hub is, and of how the relay is admitted, is in an answer or in the log.
fn keeps_its_secrets(testbed: &Testbed, answers: &[Answer]) {
    let connection_string = testbed.devhub.service_connection_string();
    let log = testbed.relay.process.log();
    for (name, value) in connection_string
        .split(';')
        .filter_map(|part| part.split_once('='))
    {
        for answer in answers {
            assert!(!answer.body.contains(value), "{name} in {}", answer.body);
        }
        if name == "SharedAccessKey" {
            assert!(!log.contains(value), "{name} in the log");
        }
    }
    assert!(!log.contains("sig="), "a signature in the log");
}

#[tokio::test]
async fn own_credentials_that_are_not_accepted_are_not_the_callers_fault() {
    let devhub = Devhub::start().await;
    devhub.register(&["d1".to_owned()]).await;
    let right = devhub.service_connection_string();
    let (before, _) = right.split_once("SharedAccessKey=").expect("it has a key");
    let wrong = format!("{before}SharedAccessKey=d3Jvbmc=");
    let authority = devhub.ca_certificate();
    let options = [
        ("IOT_HUB_SERVICE_CONNECTION_STRING", &*wrong),
        (
            "HUBRELAY_IOT_HUB_CA_FILE",
            authority.to_str().expect("the path is UTF-8"),
        ),
    ];
    let testbed = Testbed::around(devhub, &options).await;
    let session = allowed_session(&testbed).await;
    let answers = [
        invoke(&session).await.says(500, FAILED),
        patch(&session).await.says(500, FAILED),
        read(&session).await.says(502, FAILED),
    ];
    keeps_its_secrets(&testbed, &answers);
    let log = testbed.relay.process.log();
    assert!(log.contains("does not accept the policy"), "{log}");
}

#[tokio::test]
async fn a_hub_that_forbids_is_told_to_callers_of_methods_alone() {
    let (testbed, session) = testbed(json!({"status": 403})).await;
    let answers = [
        invoke(&session).await.is(403),
        patch(&session).await.says(500, FAILED),
        read(&session).await.says(502, FAILED),
    ];
    keeps_its_secrets(&testbed, &answers);
}

#[tokio::test]
async fn a_hub_that_throttles_is_not_asked_again_and_its_delay_is_handed_on() {
    let (testbed, session) = testbed(json!({"status": 429, "retryAfterS": 7})).await;
    for answer in [
        invoke(&session).await,
        patch(&session).await,
        read(&session).await,
    ] {
        let answer = answer.is(429);
        assert_eq!(answer.header("Retry-After"), "7");
    }
    assert_eq!(testbed.devhub.hub_requests("invokeMethod").await, 1);
    assert_eq!(testbed.devhub.hub_requests("updateTwin").await, 1);
}

#[tokio::test]
async fn a_hub_that_fails_for_a_moment_is_read_again_and_a_method_is_not_called_twice() {
    let (testbed, session) = testbed(json!({"status": 503, "requests": 2})).await;
    read(&session).await.is(200);
    assert_eq!(testbed.devhub.hub_requests("readTwin").await, 1 + 3);

    testbed
        .devhub
        .hub_fault(json!({"status": 503, "requests": 1}))
        .await;
    let failed = invoke(&session).await.says(503, FAILED);
    assert_eq!(testbed.devhub.hub_requests("invokeMethod").await, 1);
    testbed
        .devhub
        .hub_fault(json!({"status": 500, "requests": 1}))
        .await;
    let refused = patch(&session).await.says(500, FAILED);
    assert_eq!(testbed.devhub.hub_requests("updateTwin").await, 1);
    patch(&session).await.is(200);
    keeps_its_secrets(&testbed, &[failed, refused]);
}

#[tokio::test]
async fn a_hub_that_hangs_up_is_read_again_and_a_method_is_not_called_twice() {
    let (testbed, session) = testbed(json!({"dropConnection": true, "requests": 1})).await;
    let failed = invoke(&session).await.says(502, FAILED);
    assert_eq!(testbed.devhub.hub_requests("invokeMethod").await, 1);

    let once = json!({"dropConnection": true, "requests": 1});
    testbed.devhub.hub_fault(once.clone()).await;
    read(&session).await.is(200);
    testbed.devhub.hub_fault(once).await;
    let refused = patch(&session).await.says(500, FAILED);
    assert_eq!(testbed.devhub.hub_requests("updateTwin").await, 1);
    keeps_its_secrets(&testbed, &[failed, refused]);
}

#[tokio::test]
async fn a_hub_that_is_gone_is_told_and_the_relay_goes_on() {
    let (mut testbed, session) = testbed(json!({})).await;
    testbed.devhub.kill().await;
    let answers = [
        invoke(&session).await.says(502, FAILED),
        patch(&session).await.says(500, FAILED),
        read(&session).await.says(502, FAILED),
    ];
    keeps_its_secrets(&testbed, &answers);
    testbed.rest.get("/version").await.is(200);
}

#[tokio::test]
async fn a_hub_whose_certificate_is_not_trusted_is_not_called() {
    let devhub = Devhub::start().await;
    devhub.register(&["d1".to_owned()]).await;
    let service = devhub.service_connection_string();
    let testbed = Testbed::around(devhub, &[("IOT_HUB_SERVICE_CONNECTION_STRING", &service)]).await;
    let session = allowed_session(&testbed).await;
    let answers = [
        invoke(&session).await.says(502, FAILED),
        patch(&session).await.says(500, FAILED),
        read(&session).await.says(502, FAILED),
    ];
    keeps_its_secrets(&testbed, &answers);
    let log = testbed.relay.process.log();
    assert!(log.contains("invalid peer certificate"), "{log}");
    for kind in ["invokeMethod", "updateTwin", "readTwin"] {
        assert_eq!(testbed.devhub.hub_requests(kind).await, 0, "{kind}");
    }
}

/// As the operating system's trust store is replaced everywhere else.
#[tokio::test]
async fn the_trust_store_of_the_environment_holds_for_the_hub_too() {
    let devhub = Devhub::start().await;
    devhub.register(&["d1".to_owned()]).await;
    let service = devhub.service_connection_string();
    let authority = devhub.ca_certificate();
    let options = [
        ("IOT_HUB_SERVICE_CONNECTION_STRING", &*service),
        (
            "SSL_CERT_FILE",
            authority.to_str().expect("the path is UTF-8"),
        ),
    ];
    let testbed = Testbed::around(devhub, &options).await;
    let session = testbed.session().await;
    read(&session).await.is(200);
}

#[tokio::test]
async fn calls_beyond_the_budget_are_refused_before_the_hub_and_others_are_served() {
    let (testbed, greedy) = testbed(json!({})).await;
    let mut passed = 0;
    let refused = loop {
        let answer = patch(&greedy).await;
        if answer.status == 429 {
            break answer;
        }
        answer.is(200);
        passed += 1;
        assert!(passed < 10_000, "nothing limits the session");
    };
    assert!(
        refused
            .header("Retry-After")
            .parse::<u64>()
            .is_ok_and(|s| s > 0)
    );
    let asked = testbed.devhub.hub_requests("updateTwin").await;
    assert_eq!(asked, passed, "the refused call did not reach the hub");
    let modest = allowed_session(&testbed).await;
    patch(&modest).await.is(200);
}

/// A call under way does not hold up the end of the relay.
#[tokio::test]
async fn a_relay_that_stops_cuts_off_calls_under_way() {
    let (mut testbed, session) = testbed(json!({"delayMs": 60_000})).await;
    let call = tokio::spawn(async move { invoke_until_cut(&session).await });
    testbed.devhub.hub_requests_reach("invokeMethod", 1).await;
    testbed.relay.process.signal_termination().await;
    let status = testbed.relay.process.ended().await;
    assert!(status.success(), "{status}");
    assert!(call.await.expect("the caller does not panic"));
}

/// Whether the call got no success.
async fn invoke_until_cut(session: &Session) -> bool {
    let url = format!("http://{}/directMethod", session.rest.authority());
    let body = json!({"deviceId": "d1", "methodParams": {"methodName": "m"}});
    let call = reqwest::Client::new()
        .post(url)
        .header("sessionId", &session.id);
    let answer = call.json(&body).send().await;
    answer.map_or(true, |answer| !answer.status().is_success())
}

/// The file is named for a reason, so the relay does not start without it.
#[tokio::test]
async fn a_file_of_authorities_that_holds_none_stops_the_start() {
    let devhub = Devhub::start().await;
    let service = devhub.service_connection_string();
    let empty = tempfile::NamedTempFile::new().expect("a file can be created");
    let environment = [
        (
            "IOT_HUB_EVENT_HUB_CONNECTION_STRING",
            &*devhub.event_hub_connection_string,
        ),
        ("IOT_HUB_SERVICE_CONNECTION_STRING", &service),
        (
            "HUBRELAY_IOT_HUB_CA_FILE",
            empty.path().to_str().expect("the path is UTF-8"),
        ),
    ];
    let arguments = ["serve", "--listen", "127.0.0.1:0"];
    let output = Hubrelay::run(&arguments, &environment).await;
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("no certificate"), "{log}");
}
