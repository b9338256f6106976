//! The client against a hub that misbehaves: a server in the same process, over real sockets, without TLS. TLS, and a hub
//! that behaves, are in `tests/e2e`.

mod faults;
pub(crate) mod hub;
mod limits;

use std::sync::Arc;

use serde_json::{Value, json};

use self::hub::{Answer, Hub};
use super::*;
use crate::config::IotHubTier;

const ECHO: MethodCall<'_> = MethodCall {
    name: "echo",
    payload: r#"{ "n": 1.50, "n": 12345678901234567890 }"#,
    response_timeout_s: 30,
    connect_timeout_s: 5,
};

fn device() -> DeviceId {
    DeviceId::new("press/01").unwrap()
}

fn session(number: u8) -> SessionId {
    SessionId::issue(0, [number; 10])
}

fn refusal(error: HubError) -> Refusal {
    match error {
        HubError::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_method_goes_out_as_the_hub_wants_it_and_its_answer_comes_back_as_written() {
    let answer = r#"{"status": 500, "payload": {"n": 2.50e1} }"#;
    let hub = Hub::start([Answer::ok(answer)]).await;
    let client = hub.client();
    let answered = client.invoke_method(session(1), &device(), ECHO).await;
    assert_eq!(answered.unwrap().as_str(), answer);

    let request = hub.request();
    assert_eq!(request.method, "POST");
    assert_eq!(
        request.uri,
        "/twins/press%2F01/methods?api-version=2021-04-12"
    );
    assert_eq!(request.body, ECHO.to_json());
    let token = request.header("authorization");
    assert!(
        token.starts_with("SharedAccessSignature sr=hub.example.net&sig="),
        "{token}"
    );
    assert_eq!(
        request.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(hub.count("direct_method", "succeeded"), 1);
}

#[tokio::test]
async fn what_the_client_shows_of_itself_holds_no_key_and_no_token() {
    let hub = Hub::start([Answer::ok("{}")]).await;
    let client = hub.client();
    client
        .invoke_method(session(1), &device(), ECHO)
        .await
        .unwrap();
    let logged = format!("{client:?}");
    assert!(!logged.contains("c2VjcmV0"), "{logged}");
    assert!(!logged.contains("sig="), "{logged}");
}

#[tokio::test]
async fn a_patch_goes_out_for_any_etag_or_for_the_one_given() {
    let twin = r#"{"version":3,"properties":{}}"#;
    let hub = Hub::start([Answer::ok(twin), Answer::ok(twin)]).await;
    let client = hub.client();
    let patch = r#"{"interval": 5.0, "gone": null}"#;
    let patched = client
        .patch_twin(
            session(1),
            &device(),
            TwinSection::DesiredProperties,
            patch,
            None,
        )
        .await;
    assert_eq!(patched.unwrap().twin.as_str(), twin);
    let request = hub.request();
    assert_eq!(request.method, "PATCH");
    assert_eq!(request.uri, "/twins/press%2F01?api-version=2021-04-12");
    assert_eq!(request.header("if-match"), "*");
    assert_eq!(
        request.body,
        r#"{"properties":{"desired":{"interval": 5.0, "gone": null}}}"#
    );

    let etag = HeaderValue::from_static("\"AAAAAAAAAAE=\"");
    client
        .patch_twin(session(1), &device(), TwinSection::Tags, patch, Some(etag))
        .await
        .unwrap();
    let request = hub.request();
    assert_eq!(request.header("if-match"), "\"AAAAAAAAAAE=\"");
    assert_eq!(request.body, r#"{"tags":{"interval": 5.0, "gone": null}}"#);
}

#[tokio::test]
async fn a_twin_is_read_with_its_connection_state() {
    let twin = r#"{"deviceId":"press/01","version":3,"connectionState":"Connected","lastActivityTime":"2024-03-14T09:54:49Z"}"#;
    let hub = Hub::start([Answer::ok(twin)]).await;
    let read = hub.client().read_twin(None, &device()).await.unwrap();
    assert_eq!(read.twin.as_str(), twin);
    assert!(read.connected);
    assert_eq!(hub.request().method, "GET");
}

#[tokio::test]
async fn an_unknown_device_and_an_offline_one_are_told_apart() {
    let unknown = json!({"Message": "ErrorCode:DeviceNotFound;E2E-device", "ExceptionMessage": ""});
    let offline = json!({"Message": json!({"errorCode": 404_103, "message": "not online"}).to_string(), "ExceptionMessage": ""});
    let hub = Hub::start([Answer::json(404, &unknown), Answer::json(404, &offline)]).await;
    let client = hub.client();
    for (cause, body) in [
        (Cause::NoSuchDevice, unknown),
        (Cause::DeviceOffline, offline),
    ] {
        let refused = client.invoke_method(session(1), &device(), ECHO).await;
        let refused = refusal(refused.unwrap_err());
        assert_eq!((refused.status, refused.cause), (404, cause));
        let told: Value = serde_json::from_str(&refused.body.unwrap()).unwrap();
        assert_eq!(told, body);
    }
    assert_eq!(hub.count("direct_method", "no_such_device"), 1);
    assert_eq!(hub.count("direct_method", "device_offline"), 1);
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_signed_anew_and_never_handed_on() {
    let body = "Unauthorized: SharedAccessSignature sr=hub.example.net&sig=x";
    let hub = Hub::start([Answer::text(401, body), Answer::ok("{}")]).await;
    let client = hub.client();
    let refused = client.read_twin(None, &device()).await.unwrap_err();
    let refused = refusal(refused);
    assert_eq!((refused.cause, refused.body), (Cause::Credentials, None));
    let first = hub.request().header("authorization").to_owned();
    hub.clock.advance(Duration::from_secs(1));
    client.read_twin(None, &device()).await.unwrap();
    assert_ne!(hub.request().header("authorization"), first);
}

#[tokio::test]
async fn a_name_that_no_path_can_carry_is_no_device_and_is_not_asked_for() {
    let hub = Hub::start([]).await;
    let dots = DeviceId::new("..").unwrap();
    let refused = hub.client().invoke_method(session(1), &dots, ECHO).await;
    assert_eq!(refused, Err(HubError::ImpossibleId));
    assert_eq!(hub.requests(), 0);
}
