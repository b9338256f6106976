//! Direct methods, with devices in process.

use bytes::Bytes;
use devhub::iot_hub::{DeviceLink, IdentityId, ToDevice};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Fixture, device, module, sent};

async fn taken(link: &mut DeviceLink) -> (String, String, Bytes) {
    match link.next().await {
        ToDevice::Method {
            request_id,
            name,
            payload,
        } => (request_id, name, payload),
        other => panic!("{other:?}"),
    }
}

async fn call(fixture: &Fixture, path: &str, body: &Value) -> Answer {
    fixture.send(&Method::POST, path, body).await
}

#[tokio::test]
async fn payloads_pass_unchanged_in_both_directions_for_devices_and_modules() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    fixture.create(&module("d", "m"));
    let identities: [(IdentityId, &str); 2] = [
        (device("d"), "/twins/d/methods"),
        (module("d", "m"), "/twins/d/modules/m/methods"),
    ];
    for (id, path) in identities {
        let mut link = fixture.connect(&id);
        let request = fixture.request(&Method::POST, path).body(
            r#"{"methodName":"echo","payload":{"big":12345678901234567890123,"x": 1.50},"responseTimeoutInSeconds":5}"#,
        );
        let (answer, ()) = tokio::join!(request.send(), async {
            let (request_id, name, payload) = taken(&mut link).await;
            assert_eq!(name, "echo");
            assert_eq!(payload, r#"{"big":12345678901234567890123,"x": 1.50}"#);
            link.answer_method(&request_id, 418, payload).unwrap();
        });
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "whatever the device says");
        assert_eq!(
            answer.text().await.unwrap(),
            r#"{"status":418,"payload":{"big":12345678901234567890123,"x": 1.50}}"#
        );
    }
}

#[tokio::test]
async fn without_payload_the_device_gets_null() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    let mut link = fixture.connect(&device("d"));
    let body = json!({ "methodName": "reboot" });
    let (answer, ()) = tokio::join!(call(&fixture, "/twins/d/methods", &body), async {
        let (request_id, _, payload) = taken(&mut link).await;
        assert_eq!(payload, "null");
        link.answer_method(&request_id, 200, Bytes::new()).unwrap();
    });
    assert_eq!(answer.body, json!({ "status": 200, "payload": null }));
}

#[tokio::test]
async fn unknown_and_offline_differ_only_by_their_code() {
    let fixture = Fixture::start().await;
    let body = json!({ "methodName": "m" });
    let unknown = call(&fixture, "/twins/d/methods", &body).await;
    assert_eq!(unknown.refusal(), (404, "DeviceNotFound"));
    assert_eq!(unknown.method_error()["errorCode"], 404_001);
    fixture.create(&device("d"));
    let offline = call(&fixture, "/twins/d/methods", &body).await;
    assert_eq!(offline.refusal(), (404, "DeviceNotOnline"));
    let error = offline.method_error();
    assert_eq!(error["errorCode"], 404_103);
    assert_eq!(error["info"], json!({ "timeout": "00:00:00" }));
    assert_eq!(offline.body["ExceptionMessage"], "");
    let unknown = call(&fixture, "/twins/d/modules/m/methods", &body).await;
    assert_eq!(unknown.method_error()["errorCode"], 404_010);
}

#[tokio::test]
async fn a_device_that_goes_and_one_that_answers_rubbish_are_told_apart() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    let mut link = fixture.connect(&device("d"));
    let body = json!({ "methodName": "m" });
    let (answer, ()) = tokio::join!(call(&fixture, "/twins/d/methods", &body), async {
        let (request_id, ..) = taken(&mut link).await;
        link.answer_method(&request_id, 200, Bytes::from_static(b"{oops"))
            .unwrap();
    });
    assert_eq!(answer.refusal(), (502, "BadDeviceResponse"));
    let (answer, ()) = tokio::join!(call(&fixture, "/twins/d/methods", &body), async {
        taken(&mut link).await;
        drop(link);
    });
    assert_eq!(answer.refusal(), (404, "DeviceConnectionClosedRemotely"));
    assert_eq!(answer.method_error()["errorCode"], 404_104);
}

#[tokio::test]
async fn a_device_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    let mut link = fixture.connect(&device("d"));
    let body = json!({ "methodName": "m", "responseTimeoutInSeconds": 5 });
    let (answer, _) = tokio::join!(call(&fixture, "/twins/d/methods", &body), taken(&mut link));
    assert_eq!(answer.refusal(), (504, "GatewayTimeout"));
    let error = answer.method_error();
    assert_eq!(error["errorCode"], 504_101);
    assert_eq!(error["info"], json!({ "timeout": "00:00:05" }));
}

#[tokio::test]
async fn bad_calls_never_reach_the_device() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    let mut link = fixture.connect(&device("d"));
    let path = "/twins/d/methods";
    for body in [
        json!({}),
        json!({ "methodName": "" }),
        json!({ "methodName": 5 }),
        json!({ "methodName": "m".repeat(1025) }),
        json!({ "methodName": "m\u{0}" }),
        json!({ "methodName": "m", "responseTimeoutInSeconds": 4 }),
        json!({ "methodName": "m", "responseTimeoutInSeconds": 301 }),
        json!({ "methodName": "m", "responseTimeoutInSeconds": -1 }),
        json!({ "methodName": "m", "connectTimeoutInSeconds": 301 }),
    ] {
        let answer = call(&fixture, path, &body).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{body}");
        assert_eq!(answer.method_error()["errorCode"], 400_004);
    }
    let large = json!({ "methodName": "m", "payload": "x".repeat(128 * 1024) });
    assert_eq!(
        call(&fixture, path, &large).await.refusal(),
        (413, "MessageTooLarge")
    );
    let broken = fixture
        .request(&Method::POST, path)
        .body(r#"{"methodName":"m","payload":"#);
    assert_eq!(sent(broken).await.refusal(), (400, "ArgumentInvalid"));

    let body = json!({ "methodName": "good" });
    let (answer, ()) = tokio::join!(call(&fixture, path, &body), async {
        let (request_id, name, _) = taken(&mut link).await;
        assert_eq!(name, "good", "the first that arrives");
        link.answer_method(&request_id, 200, Bytes::new()).unwrap();
    });
    assert_eq!(answer.status, 200);
}
