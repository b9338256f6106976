//! Who may do what.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Fixture, device, sent};

#[tokio::test]
async fn each_policy_opens_what_azure_lets_it_open() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    let cases = [
        ("iothubowner", [true, true, true]),
        ("service", [false, false, true]),
        ("device", [false, false, false]),
        ("registryRead", [true, false, false]),
        ("registryReadWrite", [true, true, false]),
    ];
    for (policy, allowed) in cases {
        let form = json!({ "deviceId": "d" });
        let requests = [
            fixture.bare(&Method::GET, "/devices/d?api-version=2018-06-30"),
            fixture
                .bare(&Method::PUT, "/devices/d?api-version=2018-06-30")
                .header("if-match", "*")
                .json(&form),
            fixture.bare(&Method::GET, "/twins/d?api-version=2018-06-30"),
        ];
        for (request, is_allowed) in requests.into_iter().zip(allowed) {
            let request = request.header("authorization", fixture.token(policy));
            let answer = sent(request).await;
            if is_allowed {
                assert_eq!(answer.status, 200, "{policy}");
            } else {
                assert_eq!(answer.refusal(), (401, "IotHubUnauthorized"), "{policy}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_token_that_holds_nothing_is_told() {
    let fixture = Fixture::start().await;
    let old = fixture.token_until("service", Duration::ZERO);
    let other_key = Fixture::start().await.token("service");
    let tokens = [
        None,
        Some(""),
        Some("Bearer x"),
        Some("SharedAccessSignature sr=x"),
        Some(&old),
        Some(&other_key),
    ];
    for token in tokens {
        let mut request = fixture.bare(&Method::GET, "/twins/d?api-version=1");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let answer = sent(request).await;
        assert_eq!(answer.refusal(), (401, "IotHubUnauthorized"), "{token:?}");
    }
}

#[tokio::test]
async fn the_api_version_is_required() {
    let fixture = Fixture::start().await;
    for path in ["/twins/d", "/twins/d?api-version=", "/twins/d?version=1"] {
        let request = fixture
            .bare(&Method::GET, path)
            .header("authorization", fixture.token("service"));
        let answer = sent(request).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_have_their_own_errors() {
    let fixture = Fixture::start().await;
    assert_eq!(
        fixture.get("/jobs/v2").await.refusal(),
        (404, "GenericNotFound")
    );
    let answer = sent(fixture.request(&Method::POST, "/twins/d")).await;
    assert_eq!(answer.refusal(), (405, "GenericMethodNotAllowed"));
}

#[tokio::test]
async fn plain_http_is_not_spoken_and_a_stop_does_not_wait_for_callers() {
    let fixture = Fixture::start().await;
    let address = fixture.devhub.rest_address().unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));

    fixture.create(&device("d"));
    let mut link = fixture.connect(&device("d"));
    let body = json!({ "methodName": "m", "responseTimeoutInSeconds": 300 });
    let request = fixture
        .request(&Method::POST, "/twins/d/methods")
        .json(&body);
    let waiting = tokio::spawn(request.send());
    link.next().await;
    tokio::time::timeout(Duration::from_secs(10), fixture.devhub.stop())
        .await
        .expect("it stops");
    assert!(waiting.await.unwrap().is_err());
}
