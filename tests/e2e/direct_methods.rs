//! Direct methods: from a session through the relay and the hub to a device written with Microsoft's SDK, and back.

use devhub::iot_hub::{
    AuthKind, AuthMethod, AuthScope, IdentityId, IdentitySettings, Listen, ToDevice,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Answer, PRIMARY_KEY, Relay, Session, Testbed, UNKNOWN_SESSION, direct_method, of_module,
};

/// Every method of a device.
fn every_method(device_id: &str) -> Value {
    json!({"deviceId": device_id, "type": "directMethod"})
}

async fn invoke(session: &Session, device_id: &str, params: Value) -> Answer {
    let call = session.rest.post("/directMethod").session(&session.id);
    let body = json!({"deviceId": device_id, "methodParams": params});
    call.json(&body).await
}

#[tokio::test]
async fn check_64_a_method_reaches_the_device_and_its_answer_the_caller() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"reboot": {"status": 202, "payload": {"in": 3}}, "fail": {"status": 500}});
    let mut device = testbed.devhub.connect_device("d1", methods).await;
    let session = testbed.session().await;
    session.granted(&direct_method("d1", "reboot")).await;
    session.granted(&direct_method("d1", "fail")).await;

    let params = json!({"methodName": "reboot", "payload": {"delay": 1}});
    let answer = invoke(&session, "d1", params).await.is(200).json();
    assert_eq!(answer, json!({"status": 202, "payload": {"in": 3}}));
    let called = loop {
        let line = device.next_line().await;
        if line["method"].is_object() {
            break line["method"].clone();
        }
    };
    assert_eq!(called, json!({"name": "reboot", "payload": {"delay": 1}}));

    // What the device thinks of it is not the relay's business.
    let failed = invoke(&session, "d1", json!({"methodName": "fail"})).await;
    assert_eq!(failed.is(200).json()["status"], 500);
}

#[tokio::test]
async fn check_65_a_method_takes_a_grant_for_it_or_for_all() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"m": {"status": 200}, "n": {"status": 200}});
    let _device = testbed.devhub.connect_device("d1", methods).await;
    let session = testbed.session().await;
    let call = async |name: &str| invoke(&session, "d1", json!({"methodName": name})).await;

    call("m").await.says(403, "Forbidden");
    session.granted(&direct_method("d1", "m")).await;
    call("m").await.is(200);
    call("n").await.says(403, "Forbidden");
    session.granted(&every_method("d1")).await;
    call("n").await.is(200);
    session.revoked(&every_method("d1")).await;
    call("m").await.says(403, "Forbidden");

    let body = json!({"deviceId": "d1", "methodParams": {"methodName": "m"}});
    let unknown = testbed.rest.post("/directMethod").session(UNKNOWN_SESSION);
    unknown.json(&body).await.says(404, "No such sessionId");
    let by_key = testbed.rest.post("/directMethod").key(PRIMARY_KEY);
    by_key.json(&body).await.says(404, "No such sessionId");
    assert_eq!(testbed.devhub.hub_requests("invokeMethod").await, 2);
}

#[tokio::test]
async fn check_66_the_hubs_status_is_handed_on() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"silent": {"silent": true}});
    let _device = testbed.devhub.connect_device("d1", methods).await;
    testbed.devhub.register(&["offline".to_owned()]).await;
    let session = testbed.session().await;
    for device in ["d1", "offline", "nobody"] {
        session.granted(&every_method(device)).await;
    }

    let unknown = invoke(&session, "nobody", json!({"methodName": "m"})).await;
    let unknown = unknown.is(404).json();
    let message = unknown["Message"].as_str().expect("the hub says why");
    assert!(
        message.contains("DeviceNotFound") || message.contains("404001"),
        "{message}"
    );

    let offline = invoke(&session, "offline", json!({"methodName": "m"})).await;
    let offline = offline.is(404).json();
    let message = offline["Message"].as_str().expect("the hub says why");
    assert!(message.contains("404103"), "{message}");

    let params = json!({"methodName": "silent", "responseTimeoutInSeconds": 5});
    let silent = invoke(&session, "d1", params).await.is(504).json();
    let message = silent["Message"].as_str().expect("the hub says why");
    assert!(message.contains("504101"), "{message}");
}

#[tokio::test]
async fn what_the_hub_does_not_take_is_refused_as_the_hub_does() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"m": {"status": 200, "payload": null}});
    let _device = testbed.devhub.connect_device("d1", methods).await;
    let session = testbed.session().await;
    session.granted(&every_method("d1")).await;
    let call = async |params: Value| invoke(&session, "d1", params).await;

    let oversized = json!({"methodName": "m", "payload": "x".repeat(129 * 1024)});
    let answer = call(oversized).await;
    assert!([400, 413].contains(&answer.status), "{}", answer.status);
    assert!(answer.json()["Message"].is_string());
    for timeouts in [
        json!({"methodName": "m", "responseTimeoutInSeconds": 4}),
        json!({"methodName": "m", "responseTimeoutInSeconds": 301}),
        json!({"methodName": "m", "connectTimeoutInSeconds": 301}),
    ] {
        assert!(call(timeouts).await.is(400).json()["Message"].is_string());
    }
    call(json!({"methodName": "m", "payload": "x".repeat(100 * 1024)}))
        .await
        .is(200);
}

#[tokio::test]
async fn a_device_that_connects_in_time_is_called() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let session = testbed.session().await;
    session.granted(&every_method("late")).await;
    let connection_strings = testbed.devhub.register(&["late".to_owned()]).await;
    let params = json!({"methodName": "m", "connectTimeoutInSeconds": 25});
    let called = invoke(&session, "late", params);
    let connecting = async {
        testbed.devhub.hub_requests_reach("invokeMethod", 1).await;
        let methods = json!({"m": {"status": 200, "payload": "here"}});
        let device = testbed.devhub.connect_as(&connection_strings[0], methods);
        device.await
    };
    let (answer, _device) = tokio::join!(called, connecting);
    assert_eq!(answer.is(200).json()["payload"], "here");
}

#[tokio::test]
async fn a_method_of_a_module_takes_a_grant_of_its_own() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"m": {"status": 200, "payload": "of the module"}});
    let _module = testbed.devhub.connect_module("d1", "m1", methods).await;
    let session = testbed.session().await;
    session.granted(&every_method("d1")).await;
    let body = json!({"deviceId": "d1", "moduleId": "m1", "methodParams": {"methodName": "m"}});
    let call = async || {
        let call = testbed.rest.post("/directMethod").session(&session.id);
        call.json(&body).await
    };
    call().await.says(403, "Forbidden");
    session.granted(&of_module(every_method("d1"), "m1")).await;
    assert_eq!(call().await.is(200).json()["payload"], "of the module");
}

/// No SDK lets a device do this, so the hub runs in this process, and the device is one of its own connections.
#[tokio::test]
async fn a_device_that_answers_no_json_fails_the_call_and_no_other() {
    let tls_directory = TempDir::new().expect("a temporary directory can be created");
    let hub = devhub::Devhub::start(devhub::Options {
        rest: Some(([127, 0, 0, 1], 0).into()),
        tls_dir: Some(tls_directory.path().to_owned()),
        ..devhub::Options::default()
    });
    let hub = hub.await.expect("the stand-in starts");
    let id = IdentityId::device("d1").expect("a device can have this id");
    let hub_side = hub.iot_hub();
    hub_side
        .create_identity(&id, IdentitySettings::default())
        .expect("the device is new");
    let authenticated = AuthMethod {
        scope: AuthScope::Device,
        kind: AuthKind::Sas,
        expires_at_ms: None,
    };
    let mut device = hub_side
        .connect(&id, authenticated)
        .expect("the device may connect");
    device
        .listen(Listen::Methods, true)
        .expect("the device is connected");
    let service = hub.iot_hub_service_connection_string();
    let authority = hub.ca_path().expect("the stand-in has certificates");
    let options = [
        (
            "IOT_HUB_SERVICE_CONNECTION_STRING",
            &*service.expect("the service API is served"),
        ),
        (
            "HUBRELAY_IOT_HUB_CA_FILE",
            authority.to_str().expect("the path is UTF-8"),
        ),
    ];
    let relay = Relay::start(&hub.event_hub_connection_string(), &options).await;
    let session = Session::create(&relay.rest).await;
    session.granted(&every_method("d1")).await;

    for (said, status) in [("{\"half\":", 502), ("NaN", 502), ("{\"whole\":1}", 200)] {
        let called = invoke(&session, "d1", json!({"methodName": "m"}));
        let answering = async {
            loop {
                if let ToDevice::Method { request_id, .. } = device.next().await {
                    let said = device.answer_method(&request_id, 200, said.into());
                    return said.expect("the device is connected");
                }
            }
        };
        let (answer, ()) = tokio::join!(called, answering);
        let answer = answer.is(status);
        assert!(!answer.body.contains("half"), "{}", answer.body);
    }
    drop(device);
    hub.stop().await;
}

/// For auditors: who tried what and why it was refused, and nothing of what was in it.
#[tokio::test]
async fn a_payload_policy_lets_through_what_it_names_and_leaves_a_line_of_the_rest() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"thingspro-api-v1": {"status": 200}});
    let _device = testbed.devhub.connect_device("d1", methods).await;
    let session = testbed.session().await;
    let mut grant = direct_method("d1", "thingspro-api-v1");
    grant["payloadPolicy"] = json!([
        {"pointer": "/method", "equals": "GET"},
        {"pointer": "/path", "matches": "/tags/*"},
    ]);
    session.granted(&grant).await;
    let call = async |payload: Value| {
        let params = json!({"methodName": "thingspro-api-v1", "payload": payload});
        invoke(&session, "d1", params).await
    };
    call(json!({"method": "GET", "path": "/tags/list"}))
        .await
        .is(200);
    for payload in [
        json!({"method": "PUT", "path": "/tags/list", "secret": "do-not-log"}),
        json!({"method": "GET", "path": "/users"}),
        json!({"method": "GET", "path": "/tags/../users"}),
        json!({"method": "GET"}),
        Value::Null,
    ] {
        call(payload).await.says(403, "Forbidden");
    }
    assert_eq!(testbed.devhub.hub_requests("invokeMethod").await, 1);
    let log = testbed.relay.process.log();
    let audit = log.lines().filter(|line| line.contains("hubrelay::audit"));
    let audit: Vec<_> = audit.collect();
    assert_eq!(audit.len(), 5, "{log}");
    for line in audit {
        for part in ["d1", "thingspro-api-v1", "payload policy"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(
            !line.contains(&session.id) && !line.contains("do-not-log"),
            "{line}"
        );
    }
}
