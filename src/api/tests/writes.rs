//! Sessions, grants and single subscriptions.

use std::time::Duration;

use super::*;
use crate::http::BodyTimedOut;

#[tokio::test]
async fn anybody_creates_sessions_whatever_they_send_along() {
    let api = Api::start();
    let create =
        call("POST", "/session").header("Content-Type", "application/x-www-form-urlencoded");
    let mut ids = std::collections::HashSet::new();
    for create in [
        create.clone(),
        create.clone().header("Content-Length", 0),
        create.clone().key("wrong"),
        create.body("{"),
    ] {
        let answer = api.send(create).await;
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let id = body["sessionId"].as_str().unwrap();
        answer.is_json(&format!(r#"{{"sessionId":"{id}"}}"#));
        assert!(api.relay.has_session(SessionId::parse(id).unwrap()));
        assert!(ids.insert(id.to_owned()));
    }
}

#[tokio::test]
async fn an_honest_client_creates_2000_sessions_at_once() {
    let api = Api::start();
    for _ in 0..2000 {
        assert_eq!(api.send(call("POST", "/session")).await.status, 200);
    }
}

#[tokio::test]
async fn one_address_creates_sessions_only_so_fast_and_is_told_when_to_come_back() {
    let api = Api::with(|config| {
        config.limits.session_burst_per_address = 2;
        config.limits.session_rate_per_address_per_s = 1;
    });
    for _ in 0..2 {
        assert_eq!(api.send(call("POST", "/session")).await.status, 200);
    }
    let refused = api.send(call("POST", "/session")).await;
    refused.is(429, "Too many sessions created, try again later");
    let retry_after_s = refused.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        refused.headers["access-control-expose-headers"],
        "retry-after"
    );
    api.clock.advance(Duration::from_secs(retry_after_s));
    assert_eq!(api.send(call("POST", "/session")).await.status, 200);
}

#[tokio::test]
async fn sessions_are_capped() {
    let api = Api::with(|config| config.limits.sessions_max = 1);
    assert_eq!(api.send(call("POST", "/session")).await.status, 200);
    api.send(call("POST", "/session"))
        .await
        .is(503, "Too many sessions");
}

#[tokio::test]
async fn sessions_are_deleted_singly_or_all_and_unknown_ones_are_no_error() {
    let api = Api::start();
    let (first, second) = (api.session(), api.session());
    for id in [
        first.to_string(),
        first.to_string(),
        unknown_session().to_string(),
        "%zz".to_owned(),
    ] {
        api.send(call("DELETE", format!("/sessions/{id}")).key(PRIMARY))
            .await
            .is(204, "");
    }
    assert!(!api.relay.has_session(first));
    assert!(api.relay.has_session(second));
    api.send(call("DELETE", "/sessions").key(SECONDARY).body("ignored"))
        .await
        .is(204, "");
    assert!(!api.relay.has_session(second));
}

#[tokio::test]
async fn every_type_of_grant_is_stored_and_revoked() {
    let api = Api::with_hub();
    let session = api.session();
    for grant in [
        r#""type":"telemetry""#,
        r#""type":"telemetry","telemetryKey":null"#,
        r#""type":"telemetry","telemetryKey":"t""#,
        r#""type":"deviceTwin","telemetryKey":5"#,
        r#""type":"connectionState","unknown":{"deep":[1]}"#,
        r#""type":"d2cMessages""#,
        r#""type":"desiredProperties""#,
        r#""type":"directMethod""#,
        r#""type":"directMethod","directMethodName":null"#,
        r#""type":"directMethod","directMethodName":"reboot""#,
    ] {
        let body = format!(r#" {{"sessionId":"{session}","deviceId":"d1",{grant}}}"#);
        for method in ["PUT", "PUT", "DELETE", "DELETE"] {
            api.send(call(method, "/grants").key(PRIMARY).body(&body))
                .await
                .is(204, "");
        }
    }
}

#[tokio::test]
async fn what_is_no_grant_request_is_refused_before_an_unknown_session() {
    let api = Api::with_hub();
    let unknown = unknown_session();
    let long = "x".repeat(2000);
    for body in [
        "",
        "{",
        "null",
        "[]",
        &format!(r#"["{unknown}","d1","telemetry"]"#),
        "\u{feff}{}",
        &format!(r#"{{"sessionId":"{unknown}","type":"telemetry"}}"#),
        &format!(r#"{{"sessionId":"{unknown}","deviceId":"","type":"telemetry"}}"#),
        &format!(r#"{{"sessionId":"{unknown}","deviceId":5,"type":"telemetry"}}"#),
        &format!(r#"{{"sessionId":"{unknown}","deviceId":"{long}","type":"telemetry"}}"#),
        &format!(r#"{{"sessionId":"{unknown}","deviceId":"d1"}}"#),
        &format!(r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"foo"}}"#),
        &format!(r#"{{"sessionId":"{unknown}","deviceId":"d1","type":null}}"#),
        &format!(
            r#"{{"sessionId":"{unknown}","deviceId":"d1","grantType":"subscribeToTelemetry"}}"#
        ),
        &format!(
            r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"telemetry","telemetryKey":""}}"#
        ),
        &format!(
            r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"telemetry","telemetryKey":5}}"#
        ),
        &format!(
            r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"directMethod","directMethodName":""}}"#
        ),
        &format!(
            r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"directMethod","directMethodName":{{}}}}"#
        ),
        &format!(r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"telemetry"}} x"#),
        r#"{"sessionId":"","deviceId":"d1","type":"telemetry"}"#,
        r#"{"sessionId":5,"deviceId":"d1","type":"telemetry"}"#,
        r#"{"deviceId":"d1","type":"telemetry"}"#,
    ] {
        for method in ["PUT", "DELETE"] {
            api.send(call(method, "/grants").key(PRIMARY).body(body))
                .await
                .is(400, "unknown grant type");
        }
    }
    for session in [
        unknown.to_string(),
        "nonsense".to_owned(),
        api.session().to_string().to_uppercase(),
    ] {
        let body = format!(r#"{{"sessionId":"{session}","deviceId":"d1","type":"telemetry"}}"#);
        for method in ["PUT", "DELETE"] {
            api.send(call(method, "/grants").key(PRIMARY).body(&body))
                .await
                .is(404, "No such sessionId");
        }
    }
}

#[tokio::test]
async fn without_the_hub_api_grants_that_need_it_are_unavailable_once_the_session_is_known() {
    let api = Api::start();
    let session = api.session();
    for kind in ["directMethod", "desiredProperties"] {
        for method in ["PUT", "DELETE"] {
            let body =
                |session| format!(r#"{{"sessionId":"{session}","deviceId":"d1","type":"{kind}"}}"#);
            let known = call(method, "/grants").key(PRIMARY).body(body(session));
            api.send(known).await.is(400, "Grant unavailable");
            let unknown = call(method, "/grants")
                .key(PRIMARY)
                .body(body(unknown_session()));
            api.send(unknown).await.is(404, "No such sessionId");
        }
    }
    api.grant(session, r#""deviceId":"d1","type":"deviceTwin""#)
        .await;
}

#[tokio::test]
async fn grants_and_subscriptions_of_a_session_are_capped() {
    let api = Api::with(|config| {
        config.limits.grants_per_session_max = 1;
        config.limits.subscriptions_per_session_max = 1;
    });
    let session = api.session();
    api.grant(session, r#""deviceId":"d1","type":"telemetry""#)
        .await;
    let grant = format!(r#"{{"sessionId":"{session}","deviceId":"d2","type":"telemetry"}}"#);
    let answer = api
        .send(call("PUT", "/grants").key(PRIMARY).body(grant))
        .await;
    answer.is(429, "Too many grants in this session");
    let subscription = |key| {
        format!(
            r#"{{"sessionId":"{session}","deviceId":"d1","type":"telemetry","telemetryKey":"{key}"}}"#
        )
    };
    api.send(call("PUT", "/subscription").body(subscription("a")))
        .await
        .is(204, "");
    let answer = api
        .send(call("PUT", "/subscription").body(subscription("b")))
        .await;
    answer.is(429, "Too many subscriptions in this session");
}

#[tokio::test]
async fn a_subscription_needs_a_covering_grant_to_come_and_to_go() {
    let api = Api::start();
    let session = api.session();
    let subscribe = async |subscription: &str| {
        let body = format!(r#"{{"sessionId":"{session}",{subscription}}}"#);
        let put = api.send(call("PUT", "/subscription").body(&body)).await;
        let delete = api.send(call("DELETE", "/subscription").body(&body)).await;
        assert_eq!(
            (put.status, &put.body),
            (delete.status, &delete.body),
            "{subscription}"
        );
        (put.status, put.body)
    };
    let key = |key: &str| format!(r#""deviceId":"d1","type":"telemetry","telemetryKey":{key}"#);
    let ok = (204, String::new());
    let not_granted = (403, "subscription request not granted".to_owned());

    assert_eq!(subscribe(&key("\"t\"")).await, not_granted);
    api.grant(session, &key("\"t\"")).await;
    assert_eq!(subscribe(&key("\"t\"")).await, ok);
    assert_eq!(subscribe(&key("\"u\"")).await, not_granted);
    assert_eq!(subscribe(&key("null")).await, not_granted);

    api.grant(session, r#""deviceId":"d1","type":"telemetry""#)
        .await;
    assert_eq!(subscribe(&key("\"u\"")).await, ok);
    assert_eq!(subscribe(&key("null")).await, ok);
    assert_eq!(
        subscribe(r#""deviceId":"d2","type":"telemetry""#).await,
        not_granted
    );

    for kind in ["deviceTwin", "connectionState", "d2cMessages"] {
        let subscription = format!(r#""deviceId":"d1","type":"{kind}""#);
        assert_eq!(subscribe(&subscription).await, not_granted);
        api.grant(session, &subscription).await;
        assert_eq!(subscribe(&subscription).await, ok);
    }
}

#[tokio::test]
async fn a_revoked_grant_takes_its_access_with_it() {
    let api = Api::start();
    api.telemetry("d1", &[("t", "1")]).await;
    let session = api.session();
    api.grant(
        session,
        r#""deviceId":"d1","type":"telemetry","telemetryKey":"t""#,
    )
    .await;
    api.grant(session, r#""deviceId":"d1","type":"telemetry""#)
        .await;
    let read = call("GET", "/lastValue/d1/t").session(session);
    assert_eq!(api.send(read.clone()).await.status, 200);
    let revoke = format!(
        r#"{{"sessionId":"{session}","deviceId":"d1","type":"telemetry","telemetryKey":null}}"#
    );
    api.send(call("DELETE", "/grants").key(PRIMARY).body(revoke))
        .await
        .is(204, "");
    api.send(read)
        .await
        .is(403, "Forbidden to read last value of device: missing grant");
}

#[tokio::test]
async fn what_is_no_subscription_request_is_refused_before_an_unknown_session() {
    let api = Api::start();
    let unknown = unknown_session();
    for body in [
        String::new(),
        "[]".to_owned(),
        format!(r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"directMethod"}}"#),
        format!(r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"desiredProperties"}}"#),
        format!(r#"{{"sessionId":"{unknown}","deviceId":["d1"],"type":"telemetry"}}"#),
        format!(
            r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"telemetry","telemetryKey":false}}"#
        ),
        format!(r#"{{"sessionId":["{unknown}"],"deviceId":"d1","type":"telemetry"}}"#),
        r#"{"deviceId":"d1","type":"telemetry"}"#.to_owned(),
    ] {
        for method in ["PUT", "DELETE"] {
            let answer = api.send(call(method, "/subscription").body(&body)).await;
            answer.is(400, "unknown subscription type");
        }
    }
    let body = format!(r#"{{"sessionId":"{unknown}","deviceId":"d1","type":"telemetry"}}"#);
    for method in ["PUT", "DELETE"] {
        api.send(call(method, "/subscription").body(&body))
            .await
            .is(404, "No such sessionId");
    }
}

#[tokio::test]
async fn a_subscription_may_name_its_session_in_the_header() {
    let api = Api::start();
    let session = api.session();
    api.grant(session, r#""deviceId":"d1","type":"telemetry""#)
        .await;
    let body = r#"{"deviceId":"d1","type":"telemetry","telemetryKey":"t"}"#;
    api.send(call("PUT", "/subscription").session(session).body(body))
        .await
        .is(204, "");
    let unknown = call("PUT", "/subscription").session("nonsense").body(body);
    api.send(unknown).await.is(404, "No such sessionId");
}

#[tokio::test]
async fn a_body_longer_than_allowed_is_refused_whether_announced_or_not() {
    let api = Api::with(|config| config.limits.body_bytes_max = 1024);
    let text = "Request body is longer than 1024 bytes";
    let long = " ".repeat(1025);
    for (method, path) in [
        ("PUT", "/grants"),
        ("DELETE", "/grants"),
        ("PUT", "/subscription"),
        ("PUT", "/subscriptions"),
        ("DELETE", "/subscriptions"),
    ] {
        api.send(call(method, path).key(PRIMARY).body(&long))
            .await
            .is(413, text);
    }
    let chunk = || Ok::<_, BodyTimedOut>(" ".repeat(400));
    let (status, body) = send_body(&api, vec![chunk(), chunk(), chunk()]).await;
    assert_eq!((status, &*body), (413, text));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_refused_for_its_reason() {
    let api = Api::start();
    let (status, body) = send_body(&api, vec![Ok("{".to_owned()), Err(BodyTimedOut)]).await;
    assert_eq!(
        (status, &*body),
        (408, "Request body did not arrive in time")
    );
    let broken = std::io::Error::other("cut");
    let (status, body) = send_body(&api, vec![Ok("{".to_owned()), Err(broken)]).await;
    assert_eq!((status, &*body), (400, "Request body could not be read"));
}

/// Sends a body whose length is not announced.
async fn send_body<E>(api: &Api, chunks: Vec<Result<String, E>>) -> (u16, String)
where
    E: std::error::Error + Send + Sync + 'static,
{
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let request = Request::put("/subscription").body(body).unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
