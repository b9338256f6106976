//! Grant tokens in hellos and authorizations. What makes a token right or wrong is tested where tokens are verified.

use jsonwebtoken::{EncodingKey, Header, encode};
use relay_protocol::native::{
    ClientMessage, EndReason, ErrorCode, GrantToken, Hello, Resume, ServerMessage,
};
use serde_json::{Value, json};

use super::harness::{Client, EVERY_KEY, Server, every_key, roomy};
use crate::domain::limits::SessionLimits;
use crate::push::Settings;
use crate::relay;

const SECRET: &str = "a secret of at least thirty-two bytes";

async fn server() -> Server {
    Server::with_tokens(Settings::default(), roomy(), Some(SECRET)).await
}

/// A token for all telemetry of some devices, which expires in so many seconds.
fn token(server: &Server, devices: &[&str], expires_in_s: i64, session: &Value) -> GrantToken {
    let grants: Vec<_> = devices
        .iter()
        .map(|device| json!({"deviceId": device, "type": "telemetry"}))
        .collect();
    let now_s = server.relay.unix_ms() / 1000;
    let claims = json!({
        "iat": now_s,
        "exp": now_s + expires_in_s,
        "hubrelay": {"grants": grants, "session": session},
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), &claims, &key).unwrap().into()
}

fn with(token: GrantToken) -> Hello {
    Hello {
        token: Some(token),
        ..Hello::default()
    }
}

async fn authorize(client: &mut Client, token: GrantToken) -> ServerMessage {
    let id = client.next_id();
    client.send(&ClientMessage::Authorize { id, token }).await;
    client.message().await
}

#[tokio::test]
async fn a_token_brings_a_session_with_its_grants() {
    let server = server().await;
    let mut client = server.client().await;
    client
        .hello(with(token(&server, &["d1"], 60, &json!({}))))
        .await;
    let subscribed = client
        .subscribe([every_key("d1").into(), every_key("d2").into()])
        .await;
    assert_eq!(subscribed.refused.len(), 1);
    server.send(1).await;
    assert_eq!(client.numbers().await, [1]);
    let more = token(&server, &["d2"], 60, &json!({}));
    let authorized = authorize(&mut client, more).await;
    assert!(matches!(authorized, ServerMessage::Authorized { id: 2 }));
    let subscribed = client.subscribe([every_key("d2").into()]).await;
    assert_eq!(subscribed.refused, []);
}

#[tokio::test]
async fn a_token_constrains_the_session() {
    let server = server().await;
    let mut client = server.client().await;
    let session = json!({"subscriptionsMax": 1});
    client
        .hello(with(token(&server, &["d1", "d2"], 60, &session)))
        .await;
    client.subscribe([every_key("d1").into()]).await;
    client.ask_to_subscribe([every_key("d2").into()]).await;
    assert_eq!(client.error().await.code, ErrorCode::TooManySubscriptions);
}

#[tokio::test]
async fn a_refused_token_says_why_and_leaves_no_session_behind() {
    let server = server().await;
    let expired = token(&server, &["d1"], -3600, &json!({}));
    let forged = GrantToken::from(format!("{}x", expired.as_str()));
    for (token, code) in [
        (expired.clone(), ErrorCode::TokenExpired),
        (forged, ErrorCode::TokenSignature),
        ("nonsense".into(), ErrorCode::TokenMalformed),
    ] {
        let mut client = server.client().await;
        client.send(&ClientMessage::Hello(with(token))).await;
        let error = client.error().await;
        assert_eq!(error.code, code);
        assert_eq!(error.field.as_deref(), Some("token"));
        assert_eq!(client.end().await.close_code, Some(4403));
    }
    assert_eq!(server.metrics.sessions.active.get(), 0);
    let mut client = server.client().await;
    client
        .hello(with(token(&server, &["d1"], 60, &json!({}))))
        .await;
    match authorize(&mut client, expired).await {
        ServerMessage::Error(error) => assert_eq!(error.code, ErrorCode::TokenExpired),
        other => panic!("{other:?}"),
    }
    client.still_answers().await;
}

#[tokio::test]
async fn grants_end_with_their_token_unless_a_fresh_one_comes_first() {
    let server = server().await;
    let mut client = server.client().await;
    client
        .hello(with(token(&server, &["d1", "d2"], 2, &json!({}))))
        .await;
    client
        .subscribe([every_key("d1").into(), every_key("d2").into()])
        .await;
    let fresh = token(&server, &["d1"], 60, &json!({}));
    authorize(&mut client, fresh).await;
    match client.message().await {
        ServerMessage::Ended(ended) => {
            assert_eq!(ended.reason, EndReason::Expired);
            assert_eq!(ended.subscriptions, [every_key("d2")]);
        }
        other => panic!("{other:?}"),
    }
    server.send_telemetry("d2", &[("n", "1")]).await;
    server.send(2).await;
    assert_eq!(client.numbers().await, [2]);
}

#[tokio::test]
async fn a_session_that_is_gone_is_made_anew_from_the_token() {
    let server = server().await;
    let mut client = server.client().await;
    let hello = Hello {
        token: Some(token(&server, &["d1"], 60, &json!({}))),
        session_id: Some("0190163d-8694-739b-aea5-966c26f8ad91".into()),
        resume: Some(Resume {
            epoch: 1,
            sequence: 7,
        }),
    };
    let answer = client.hello(hello.clone()).await;
    assert_ne!(Some(&answer.session_id), hello.session_id.as_ref());
    assert_eq!((answer.recovered, answer.snapshot), (Some(false), None));
    let subscribed = client.subscribe([every_key("d1").into()]).await;
    assert_eq!(subscribed.refused, []);
}

#[tokio::test]
async fn a_token_adds_to_a_session_that_is_named() {
    let server = server().await;
    let session = server.relay.create_session().unwrap();
    server.grant(session, "d1", EVERY_KEY).await;
    let mut client = server.client().await;
    let hello = Hello {
        token: Some(token(&server, &["d2"], 60, &json!({}))),
        session_id: Some(session.to_string().as_str().into()),
        resume: None,
    };
    client.hello(hello).await;
    let subscribed = client
        .subscribe([every_key("d1").into(), every_key("d2").into()])
        .await;
    assert_eq!(subscribed.refused, []);
}

#[tokio::test]
async fn a_token_with_more_grants_than_fit_adds_none() {
    let settings = relay::Settings {
        session_limits: SessionLimits {
            grants_max: 1,
            subscriptions_max: 10,
        },
        ..roomy()
    };
    let server = Server::with_tokens(Settings::default(), settings, Some(SECRET)).await;
    let mut client = server.client().await;
    let both = token(&server, &["d1", "d2"], 60, &json!({}));
    client.send(&ClientMessage::Hello(with(both))).await;
    assert_eq!(client.error().await.code, ErrorCode::TooManyGrants);
    client.end().await;
    assert_eq!(server.metrics.sessions.active.get(), 0);
}
