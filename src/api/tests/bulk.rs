//! Subscriptions in bulk.

use super::*;

const NOT_REQUESTS: &str = "Not all elements in the request body are subscription requests";

/// A session that may see every telemetry key of `d1`.
async fn granted(api: &Api) -> SessionId {
    let session = api.session();
    api.grant(session, r#""deviceId":"d1","type":"telemetry""#)
        .await;
    session
}

#[tokio::test]
async fn all_elements_come_back_as_they_went_in() {
    let api = Api::start();
    let session = granted(&api).await;
    let list = format!(
        r#"[{{"type":"telemetry", "telemetryKey":"a","deviceId":"d1","sessionId":"{session}","n":9007199254740993}},{{"sessionId":"{session}","deviceId":"d\u0031","type":"telemetry","telemetryKey":null,"x":{{"b":1.50,"a":[]}}}},{{"sessionId":"{session}","deviceId":"d1","type":"telemetry"}}]"#
    );
    for method in ["PUT", "PUT", "DELETE", "DELETE"] {
        api.send(call(method, "/subscriptions").body(&list))
            .await
            .is_json(&list);
        let wrapped = format!(r#" {{"other":1,"subscriptionRequests":{list}}}"#);
        api.send(call(method, "/subscriptions").body(wrapped))
            .await
            .is_json(&list);
    }
}

#[tokio::test]
async fn a_session_from_the_header_is_added_to_the_elements_that_name_none() {
    let api = Api::start();
    let session = granted(&api).await;
    let other = granted(&api).await;
    let list = format!(
        r#"[{{"deviceId":"d1","type":"telemetry","telemetryKey":"a"}},{{ "deviceId":"d1","sessionId" : null,"type":"telemetry"}},{{"deviceId":"d1","type":"telemetry","sessionId":""}},{{"deviceId":"d1","type":"telemetry","sessionId":"{other}"}}]"#
    );
    let answered = format!(
        r#"[{{"sessionId":"{session}","deviceId":"d1","type":"telemetry","telemetryKey":"a"}},{{ "deviceId":"d1","sessionId" : "{session}","type":"telemetry"}},{{"deviceId":"d1","type":"telemetry","sessionId":"{session}"}},{{"deviceId":"d1","type":"telemetry","sessionId":"{other}"}}]"#
    );
    for method in ["PUT", "DELETE"] {
        for body in [
            list.clone(),
            format!(r#"{{"subscriptionRequests":{list}}}"#),
        ] {
            let call = call(method, "/subscriptions")
                .key(PRIMARY)
                .session(session)
                .body(body);
            api.send(call).await.is_json(&answered);
        }
    }
}

#[tokio::test]
async fn an_empty_list_is_answered_with_an_empty_list() {
    let api = Api::start();
    for method in ["PUT", "DELETE"] {
        for body in ["[]", " [ ] ", r#"{"subscriptionRequests":[]}"#] {
            api.send(call(method, "/subscriptions").body(body))
                .await
                .is_json("[]");
            api.send(
                call(method, "/subscriptions")
                    .session("nonsense")
                    .body(body),
            )
            .await
            .is_json("[]");
        }
    }
}

#[tokio::test]
async fn elements_without_a_grant_are_skipped() {
    let api = Api::start();
    let session = granted(&api).await;
    let element = |device, kind| {
        format!(r#"{{"sessionId":"{session}","deviceId":"{device}","type":"{kind}"}}"#)
    };
    let list = format!(
        "[{},{},{}]",
        element("d2", "telemetry"),
        element("d1", "telemetry"),
        element("d1", "deviceTwin")
    );
    for method in ["PUT", "DELETE"] {
        let answer = api.send(call(method, "/subscriptions").body(&list)).await;
        answer.is_json(&format!("[{}]", element("d1", "telemetry")));
        let none = format!("[{}]", element("d2", "d2cMessages"));
        api.send(call(method, "/subscriptions").body(none))
            .await
            .is_json("[]");
    }
}

#[tokio::test]
async fn one_bad_element_spoils_the_list_and_nothing_is_applied() {
    let api = Api::start();
    let session = granted(&api).await;
    let good = format!(r#"{{"sessionId":"{session}","deviceId":"d1","type":"telemetry"}}"#);
    for bad in [
        "null".to_owned(),
        "1".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        good.replace("telemetry", "directMethod"),
        good.replace("\"d1\"", "1"),
        good.replace(&format!("\"{session}\""), "5"),
        good.replace("telemetry\"", "telemetry\",\"telemetryKey\":\"\""),
        r#"{"deviceId":"d1","type":"telemetry"}"#.to_owned(),
    ] {
        for method in ["PUT", "DELETE"] {
            let list = format!("[{good},{bad}]");
            api.send(call(method, "/subscriptions").body(&list))
                .await
                .is(400, NOT_REQUESTS);
        }
    }
    for body in [
        "",
        "{",
        "null",
        "{}",
        "\"x\"",
        r#"{"subscriptionRequests":{}}"#,
        "[1",
        "[] []",
    ] {
        for method in ["PUT", "DELETE"] {
            let call = call(method, "/subscriptions").session(session).body(body);
            api.send(call).await.is(400, NOT_REQUESTS);
        }
    }
    assert_eq!(api.metrics.sessions.subscriptions.get(), 0);
}

#[tokio::test]
async fn an_unknown_session_anywhere_refuses_the_list_after_bad_elements_do() {
    let api = Api::start();
    let session = granted(&api).await;
    let unknown = unknown_session();
    let element = |session: &str| {
        format!(r#"{{"sessionId":"{session}","deviceId":"d1","type":"telemetry"}}"#)
    };
    let list = format!(
        "[{},{}]",
        element(&session.to_string()),
        element(&unknown.to_string())
    );
    for method in ["PUT", "DELETE"] {
        api.send(call(method, "/subscriptions").body(&list))
            .await
            .is(404, "No such sessionId");
        let bad = list.replace(']', ",{}]");
        api.send(call(method, "/subscriptions").body(bad))
            .await
            .is(400, NOT_REQUESTS);
        let header = call(method, "/subscriptions")
            .session(unknown)
            .body(r#"[{"deviceId":"d1","type":"telemetry"}]"#);
        api.send(header).await.is(404, "No such sessionId");
    }
    assert_eq!(api.metrics.sessions.subscriptions.get(), 0);
}

#[tokio::test]
async fn a_list_of_10000_elements_is_applied() {
    let api = Api::start();
    let session = granted(&api).await;
    let elements: Vec<_> = (0..10_000)
        .map(|number| {
            format!(r#"{{"sessionId":"{session}","deviceId":"d1","type":"telemetry","telemetryKey":"key-{number}"}}"#)
        })
        .collect();
    let list = format!("[{}]", elements.join(","));
    for method in ["PUT", "DELETE"] {
        let answer = api.send(call(method, "/subscriptions").body(&list)).await;
        let subscriptions = if method == "PUT" { 10_000 } else { 0 };
        assert_eq!(api.metrics.sessions.subscriptions.get(), subscriptions);
        assert!(
            answer.status == 200 && answer.body == list,
            "{}",
            answer.status
        );
    }
}
