//! The example backends between a user and the relay: who logs in gets what the table of users allows, and no more.

use serde_json::{Value, json};

use crate::harness::{
    DeviceEvent, Language, PRIMARY_KEY, SecurityBackend, Session, Testbed, UNKNOWN_SESSION,
    connection_state, device_twin, every_key, telemetry,
};

/// The tokens of the two users in `examples/security-backend/users.json`.
const ADA: &str = "ada-demo-token";
const BOB: &str = "bob-demo-token";

/// What the relay and its backends sign grant tokens with.
const SECRET: &str = "a secret of at least thirty-two bytes";

const BODY_BYTES_MAX: usize = 16 * 1024;

async fn backend(
    language: Language,
    testbed: &Testbed,
    options: &[(&str, &str)],
) -> SecurityBackend {
    let connection = format!(
        "Endpoint={};SharedAccessKey={PRIMARY_KEY}",
        testbed.rest.url
    );
    SecurityBackend::start(language, &connection, options).await
}

/// A user logs in, is granted a device, sees it, and sees nothing more of it once the grant is revoked.
async fn takes_a_user_through(language: Language) {
    let mut testbed = Testbed::start().await;
    let backend = backend(language, &testbed, &[]).await;
    let (session, mut socket) = testbed.connected_session().await;

    for what in [telemetry("press-01", "force"), connection_state("press-01")] {
        backend.grant(ADA, &session.request(&what)).await.is(204);
        session.subscribed(&what).await;
    }
    testbed
        .inject(DeviceEvent::telemetry("press-01", &json!({"force": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"force": 1}));
    assert!(socket.next_data().await.connection_state());

    let force = session.request(&telemetry("press-01", "force"));
    backend.revoke(ADA, &force).await.is(204);
    testbed
        .inject(DeviceEvent::telemetry("press-01", &json!({"force": 2})))
        .await;
    // The telemetry of the same message would have come before it.
    assert!(socket.next_data().await.connection_state());

    let log = backend.log();
    for secret in [ADA, PRIMARY_KEY, session.id.as_str()] {
        assert!(!log.contains(secret), "a secret in the log: {log}");
    }
    assert!(log.contains("press-01"), "{log}");
}

/// Whoever is not logged in gets 401; what the table does not allow is 403; neither changes anything.
async fn refuses_who_may_not(language: Language) {
    let testbed = Testbed::start().await;
    let backend = backend(language, &testbed, &[]).await;
    let session = testbed.session().await;
    let press = session.request(&every_key("press-01"));

    backend
        .rest
        .put("/grants")
        .json(&press)
        .await
        .says(401, "Log in first");
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic ada-demo-token",
    ] {
        let call = backend.rest.put("/grants").json(&press);
        let answer = call.header("Authorization", authorization).await;
        answer.says(401, "Log in first");
    }
    let forbidden = "You may not see this device";
    for (user, what) in [
        (BOB, every_key("press-01")),
        (BOB, device_twin("tank-02")),
        (ADA, telemetry("tank-02", "level")),
        (ADA, connection_state("press-05")),
        (ADA, every_key("PRESS-01")),
        (ADA, every_key("__proto__")),
        (ADA, every_key("constructor")),
        (ADA, json!({"deviceId": "press-01", "type": "length"})),
    ] {
        let answer = backend.grant(user, &session.request(&what)).await;
        // A type that does not exist is a mistake to one and forbidden to another.
        if what["type"] == "length" {
            assert!(matches!(answer.status, 400 | 403), "{answer:?}");
        } else {
            answer.says(403, forbidden);
        }
        assert_granted_nothing(&session).await;
    }

    // A right on a device is none on its modules.
    let of_module = json!({"deviceId": "press-01", "moduleId": "vision", "type": "telemetry"});
    let answer = backend.grant(ADA, &session.request(&of_module)).await;
    answer.says(403, forbidden);
    let module = session.subscribe(&of_module).await;
    module.says(403, "subscription request not granted");

    // Of a member that comes twice, the backend must decide about the one that the relay acts upon.
    for devices in [["tank-02", "press-01"], ["press-01", "tank-02"]] {
        let [first, second] = devices;
        let body = format!(
            r#"{{"sessionId":"{}","type":"telemetry","deviceId":"{first}","deviceId":"{second}"}}"#,
            session.id
        );
        let call = backend.rest.put("/grants").bearer(ADA).json_text(body);
        let answer = call.await;
        assert!(matches!(answer.status, 204 | 400 | 403), "{answer:?}");
        let tank = session.subscribe(&every_key("tank-02")).await;
        tank.says(403, "subscription request not granted");
    }
}

async fn assert_granted_nothing(session: &Session) {
    for device in ["press-01", "press-05", "tank-02"] {
        for what in [
            every_key(device),
            connection_state(device),
            device_twin(device),
        ] {
            session.subscribe(&what).await.is(403);
        }
    }
}

/// A mistake in the request is told as what it is; a mistake of the backend's own is not blamed on the user.
async fn tells_whose_mistake_it_is(language: Language) {
    let mut testbed = Testbed::start().await;
    let backend = backend(language, &testbed, &[]).await;
    let session = testbed.session().await;
    let put = |body: &str| {
        let call = backend.rest.put("/grants").bearer(ADA);
        call.json_text(body.to_owned())
    };
    for body in ["", "{", "null", "[]", "\"press-01\"", "{}"] {
        put(body).await.is(400);
    }
    for (member, wrong) in [
        ("deviceId", json!(7)),
        ("deviceId", Value::Null),
        ("sessionId", json!({})),
        ("type", json!(["telemetry"])),
        ("telemetryKey", json!(7)),
    ] {
        let mut request = session.request(&every_key("press-01"));
        request[member] = wrong;
        backend.grant(ADA, &request).await.is(400);
    }
    put(&" ".repeat(BODY_BYTES_MAX + 1)).await.is(413);
    backend.rest.get("/elsewhere").bearer(ADA).await.is(404);

    let mut unknown = session.request(&every_key("press-01"));
    unknown["sessionId"] = json!(UNKNOWN_SESSION);
    let answer = backend.grant(ADA, &unknown).await;
    answer.says(404, "No such sessionId");

    let wrong_key = format!("Endpoint={};SharedAccessKey=wrong", testbed.rest.url);
    let misconfigured = SecurityBackend::start(language, &wrong_key, &[]).await;
    let press = session.request(&every_key("press-01"));
    let answer = misconfigured.grant(ADA, &press).await;
    answer.says(502, "The relay did not accept the call");

    testbed.relay.process.kill().await;
    let answer = backend.grant(ADA, &press).await;
    answer.says(502, "The relay is away");
}

/// A user gets a token, and with it a session that may see what the table allows.
async fn signs_a_token_that_the_relay_takes(language: Language) {
    let mut testbed = Testbed::with(&[
        ("HUBRELAY_GRANT_TOKEN_SECRET", SECRET),
        ("HUBRELAY_GRANT_TOKEN_ISSUER", "security-backend"),
        ("HUBRELAY_GRANT_TOKEN_AUDIENCE", "hubrelay"),
    ])
    .await;
    let options = [("GRANT_TOKEN_SECRET", SECRET)];
    let backend = backend(language, &testbed, &options).await;
    let ask = || backend.rest.post("/grant-token");
    ask().await.says(401, "Log in first");
    ask().bearer("wrong").await.says(401, "Log in first");
    let answer = ask().bearer(ADA).await.is(200).json();
    assert!(answer["expiresAt"].is_i64(), "{answer}");
    let token = answer["grantToken"].as_str().expect("a token");

    let admin = testbed.rest.admin(PRIMARY_KEY);
    let created = admin.relay().create_session_with_token(token).await;
    let session = Session::with_client(&testbed.rest, &created.expect("the token is taken"));
    let mut socket = session.connect().await;
    session.subscribed(&telemetry("press-01", "force")).await;
    session.subscribed(&every_key("press-05")).await;
    session.subscribed(&device_twin("press-01")).await;
    for what in [every_key("tank-02"), connection_state("press-05")] {
        session.subscribe(&what).await.is(403);
    }
    testbed
        .inject(DeviceEvent::telemetry("press-01", &json!({"force": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"force": 1}));

    session.revoked(&every_key("press-01")).await;
    session
        .subscribe(&telemetry("press-01", "force"))
        .await
        .is(403);
    assert!(!backend.log().contains(token), "the log holds the token");

    let options = [("GRANT_TOKEN_SECRET", "another secret of thirty-two bytes")];
    let other = self::backend(language, &testbed, &options).await;
    let answer = other.rest.post("/grant-token").bearer(ADA).await.json();
    let token = answer["grantToken"].as_str().expect("a token");
    let refused = admin.relay().create_session_with_token(token).await;
    let refused = refused.expect_err("the signature is not the relay's");
    assert_eq!(refused.status(), Some(401), "{refused}");

    let without = self::backend(language, &testbed, &[]).await;
    let answer = without.rest.post("/grant-token").bearer(ADA).await;
    answer.says(404, "Grant tokens are not configured");
}

/// A page of the allowed origin may call, and reads refusals as well.
async fn lets_pages_of_one_origin_call(language: Language) {
    let origin = "https://portal.example";
    let connection = "Endpoint=http://127.0.0.1:1;SharedAccessKey=k";
    let options = [("ALLOWED_ORIGIN", origin)];
    let backend = SecurityBackend::start(language, connection, &options).await;
    let preflight = backend.rest.call(reqwest::Method::OPTIONS, "/grants").await;
    let refused = backend.rest.put("/grants").json(&json!({})).await;
    for answer in [preflight.is(204), refused.is(401)] {
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, origin);
        let headers = answer.header("access-control-allow-headers").to_lowercase();
        assert!(headers.contains("authorization") && headers.contains("content-type"));
    }
}

macro_rules! every_backend {
    ($($module:ident: $language:ident),*) => {$(
        mod $module {
            use crate::harness::Language::$language;

            #[tokio::test]
            async fn takes_a_user_from_login_to_live_data_and_back() {
                super::takes_a_user_through($language).await;
            }

            #[tokio::test]
            async fn refuses_who_is_not_logged_in_and_what_is_not_allowed() {
                super::refuses_who_may_not($language).await;
            }

            #[tokio::test]
            async fn tells_whose_mistake_it_is() {
                super::tells_whose_mistake_it_is($language).await;
            }

            #[tokio::test]
            async fn signs_a_token_that_the_relay_takes() {
                super::signs_a_token_that_the_relay_takes($language).await;
            }

            #[tokio::test]
            async fn lets_pages_of_one_origin_call() {
                super::lets_pages_of_one_origin_call($language).await;
            }
        }
    )*};
}

every_backend!(node: Node, python: Python, rust: Rust);
