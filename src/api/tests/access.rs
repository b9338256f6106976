//! Who may call what, and from where.

use super::*;

#[tokio::test]
async fn administrative_calls_need_one_of_the_two_keys_before_anything_else_is_looked_at() {
    let api = Api::start();
    let session = api.session();
    let calls = [
        call("PUT", "/logLevel/loud"),
        call("PUT", "/grants").body("{"),
        call("DELETE", "/grants").body("{"),
        call("DELETE", "/sessions"),
        call("DELETE", format!("/sessions/{session}")),
    ];
    for call in calls {
        api.send(call.clone())
            .await
            .is(401, "Unauthorized: missing shared-access-key");
        api.send(call.clone().key(""))
            .await
            .is(401, "Unauthorized: missing shared-access-key");
        for wrong in ["cHJpbWFyeQ", "cHJpbWFyeQ== x", "primary"] {
            api.send(call.clone().key(wrong))
                .await
                .is(401, "Unauthorized: invalid shared-access-key");
        }
        api.send(call.session(session))
            .await
            .is(401, "Unauthorized: missing shared-access-key");
    }
    assert!(api.relay.has_session(session));
    let text = api.metrics.render();
    assert!(
        text.contains(r#"hubrelay_api_rejected_requests_total{reason="unauthorized"} 30"#),
        "{text}"
    );
}

#[tokio::test]
async fn keys_that_are_not_configured_match_nothing() {
    let api = Api::with(|config| {
        config.admin_keys = AdminKeys::new(Secret::new(""), Secret::new(""));
    });
    api.send(call("DELETE", "/sessions").key(""))
        .await
        .is(401, "Unauthorized: missing shared-access-key");
    api.send(call("GET", "/lastValue/d1").key("").session(""))
        .await
        .is(
            401,
            "Provide either a Shared-Access-Key or a sessionId header",
        );
}

#[tokio::test]
async fn a_read_is_allowed_by_a_key_or_by_the_grant_of_a_session() {
    let api = Api::start();
    api.telemetry("d1", &[("t", "1")]).await;
    api.message(
        "d1",
        Content::ConnectionState {
            connected: true,
            sequence: None,
        },
    )
    .await;
    let reads = [
        (
            "/lastValue/d1/t",
            r#""type":"telemetry","telemetryKey":"t""#,
        ),
        ("/lastValue/d1", r#""type":"telemetry""#),
        ("/connectionState/d1", r#""type":"connectionState""#),
    ];
    for (path, grant) in reads {
        let session = api.session();
        let read = call("GET", path);
        let missing = api.send(read.clone()).await;
        missing.is(
            401,
            "Provide either a Shared-Access-Key or a sessionId header",
        );
        let wrong_key = api.send(read.clone().key("wrong").session(session)).await;
        wrong_key.is(
            403,
            "Forbidden to read last value of device: invalid shared-access-key",
        );
        for unknown in [unknown_session().to_string(), "nonsense".to_owned()] {
            api.send(read.clone().session(&unknown))
                .await
                .is(404, "No such sessionId");
            assert_eq!(
                api.send(read.clone().key(SECONDARY).session(&unknown))
                    .await
                    .status,
                200
            );
        }
        let not_granted = api.send(read.clone().session(session)).await;
        not_granted.is(403, "Forbidden to read last value of device: missing grant");
        api.grant(session, &format!(r#""deviceId":"d1",{grant}"#))
            .await;
        assert_eq!(api.send(read.clone().session(session)).await.status, 200);
        assert_eq!(
            api.send(read.key("").session(session)).await.status,
            200,
            "an empty key is none"
        );
        let other = api
            .send(call("GET", path.replace("d1", "d2")).session(session))
            .await;
        other.is(403, "Forbidden to read last value of device: missing grant");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_for_every_path_and_allows_what_it_asks_for() {
    let api = Api::start();
    for path in [
        "/grants",
        "/session",
        "/lastValue/d1/t",
        "/beside",
        "/socket.io/",
        "/nowhere",
    ] {
        let preflight = call("OPTIONS", path)
            .header("Origin", "https://app.example")
            .header("Access-Control-Request-Method", "DELETE")
            .header(
                "Access-Control-Request-Headers",
                "content-type,sessionid,shared-access-key,traceparent",
            );
        let answer = api.send(preflight).await;
        answer.is(204, "");
        let headers = &answer.headers;
        assert_eq!(
            headers["access-control-allow-methods"],
            "GET, POST, PUT, PATCH, DELETE, OPTIONS"
        );
        assert_eq!(
            headers["access-control-allow-headers"],
            "content-type,sessionid,shared-access-key,traceparent"
        );
        assert_eq!(headers["access-control-max-age"], "86400");
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }
    let bare = api.send(call("OPTIONS", "/grants")).await;
    assert_eq!(
        bare.headers["access-control-allow-headers"],
        "content-type, sessionid, shared-access-key"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_plain_text() {
    let api = Api::start();
    for path in [
        "/",
        "/nowhere",
        "/lastValue",
        "/lastValue/",
        "/version/1",
        "/grants/",
        "//grants",
    ] {
        api.send(call("GET", path)).await.is(404, "Not found");
    }
    for (method, path, allow) in [
        ("GET", "/grants", "PUT,DELETE"),
        ("POST", "/grants", "PUT,DELETE"),
        ("GET", "/session", "POST"),
        ("POST", "/sessions", "DELETE"),
        ("PUT", "/lastValue/d1/t", "GET,HEAD,DELETE"),
        ("DELETE", "/version", "GET,HEAD"),
    ] {
        let answer = api.send(call(method, path)).await;
        answer.is(405, "Method not allowed");
        assert_eq!(answer.headers["allow"], allow, "{method} {path}");
    }
}

#[tokio::test]
async fn routes_beside_the_api_are_served_for_any_origin_too() {
    let api = Api::start();
    api.send(call("GET", "/beside")).await.is(200, "beside");
}
