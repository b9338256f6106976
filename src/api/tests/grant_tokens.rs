//! `POST /session` with a grant token.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::config::KeySetLocation;
use crate::domain::grant::Access;

const SECRET: &str = "a secret that is long enough to sign with";
const NOW_S: i64 = SENT_AT_MS / 1000;

fn api() -> Api {
    Api::with(|config| {
        config.grant_tokens.secret = Some(Secret::new(SECRET));
        config.limits.grants_per_session_max = 3;
    })
}

fn token(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), claims, &key).unwrap()
}

fn token_of(grants: &Value) -> String {
    token(&json!({"exp": NOW_S + 60, "hubrelay": {"grants": grants}}))
}

fn ask(credentials: impl ToString) -> Call {
    call("POST", "/session").header("Authorization", credentials)
}

fn session_of(answer: &Answer) -> SessionId {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    SessionId::parse(body["sessionId"].as_str().unwrap()).unwrap()
}

fn sessions(api: &Api) -> i64 {
    api.metrics.sessions.active.get()
}

#[tokio::test]
async fn a_token_gives_a_new_session_its_grants() {
    let api = api();
    let token = token_of(&json!([
        {"deviceId": "d1", "type": "telemetry", "telemetryKey": "t"},
        {"deviceId": "d2", "type": "connectionState"},
    ]));
    for scheme in ["Bearer ", "bearer ", "BEARER  "] {
        let answer = api.send(ask(format!("{scheme}{token}"))).await;
        let session = session_of(&answer);
        answer.is_json(&format!(r#"{{"sessionId":"{session}"}}"#));
        let device = DeviceId::new("d2").unwrap();
        let granted = api
            .relay
            .is_granted(session, &device, &Access::ConnectionState);
        assert!(granted.await.unwrap());
    }
    assert_eq!(api.metrics.grant_tokens.accepted.get(), 3);
}

#[tokio::test]
async fn a_refused_token_says_why_and_leaves_no_session() {
    let api = api();
    let good = token_of(&json!([]));
    let device = json!({"deviceId": "d1", "type": "deviceTwin"});
    for (token, reason) in [
        (
            String::new(),
            "the grant token is malformed: it does not have three parts with a dot between them",
        ),
        (
            "x y z".to_owned(),
            "the grant token is malformed: it does not have three parts with a dot between them",
        ),
        (
            "\u{ff}.a.b".to_owned(),
            "the grant token is malformed: its header is not base64url",
        ),
        (
            format!("{good}A"),
            "the signature of the grant token is wrong",
        ),
        (
            token(&json!({"exp": NOW_S - 1, "hubrelay": {}})),
            "the grant token has expired (`exp`)",
        ),
        (
            token(&json!({"exp": NOW_S + 60})),
            "the claim `hubrelay` of the grant token is missing",
        ),
        (
            token_of(&json!([device, device, device, device])),
            "the grant token carries more than 3 grants",
        ),
    ] {
        let answer = api.send(ask(format!("Bearer {token}"))).await;
        answer.is(401, &format!("Unauthorized: {reason}"));
        assert_eq!(
            answer.headers["www-authenticate"],
            "Bearer error=\"invalid_token\""
        );
    }
    assert_eq!(sessions(&api), 0);
}

#[tokio::test]
async fn other_credentials_are_nobodys_business() {
    let api = api();
    for credentials in [
        "Basic dXNlcjpwYXNz",
        "Bearerx.y.z",
        "",
        "Digest a=b",
        "Token Bearer",
    ] {
        api.send(ask(credentials)).await.is_a_session();
    }
    api.send(call("POST", "/session").body("Bearer x"))
        .await
        .is_a_session();
    assert_eq!(sessions(&api), 6);
}

#[tokio::test]
async fn without_keys_no_token_is_accepted() {
    let api = Api::start();
    let answer = api
        .send(ask(format!("Bearer {}", token_of(&json!([])))))
        .await;
    answer.is(
        401,
        "Unauthorized: grant tokens are not accepted: neither a secret nor a key set is configured",
    );
    assert_eq!(sessions(&api), 0);
}

#[tokio::test]
async fn keys_that_are_not_there_yet_are_not_the_tokens_fault() {
    let directory = tempfile::tempdir().unwrap();
    let api = Api::with(|config| {
        let absent = directory.path().join("absent.json");
        config.grant_tokens.key_set = Some(KeySetLocation::File(absent));
    });
    let header = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ";
    let answer = api.send(ask(format!("Bearer {header}.e30.AAAA"))).await;
    answer.is(
        503,
        "the keys of grant tokens are not available yet, try again later",
    );
    assert_eq!(answer.headers["retry-after"], "10");
    assert!(!answer.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn a_relay_that_is_full_refuses_good_tokens_as_well() {
    let api = Api::with(|config| {
        config.grant_tokens.secret = Some(Secret::new(SECRET));
        config.limits.sessions_max = 1;
    });
    let credentials = format!("Bearer {}", token_of(&json!([])));
    api.send(ask(&credentials)).await.is_a_session();
    api.send(ask(&credentials))
        .await
        .is(503, "Too many sessions");
}

impl Answer {
    #[track_caller]
    fn is_a_session(&self) {
        assert_eq!(self.status, 200, "{}", self.body);
        session_of(self);
    }
}
