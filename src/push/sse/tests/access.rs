//! Who may read, and what is said to the others.

use std::fmt::Write as _;

use reqwest::Method;
use serde_json::json;

use super::harness::{EVERY_KEY, KEY, Server, all_of_d1, device, key, token};
use crate::domain::session::SessionConstraints;
use crate::domain::subscription::Subscription;
use crate::push::Settings;
use crate::relay::{Authorization, SubscriptionRequest};
use crate::telemetry::metrics::ConnectionRefusal;

const KEY_HEADER: &str = "Shared-Access-Key";

#[tokio::test]
async fn a_token_in_the_header_or_in_the_query_opens_a_session_of_its_own() {
    let server = Server::start().await;
    let token = token(60_000, &all_of_d1());
    let mut sessions = Vec::new();
    for (number, request) in [
        (1, server.get("telemetry=d1/n").bearer_auth(&token)),
        (2, server.get(&format!("telemetry=d1/n&token={token}"))),
    ] {
        let mut events = server.open(request).await;
        let snapshot = events.next_of("snapshot").await;
        sessions.push(snapshot.data["sessionId"].clone());
        server.send(number).await;
        assert_eq!(events.numbers_until(number).await, [number]);
    }
    assert_ne!(sessions[0], sessions[1]);
}

#[tokio::test]
async fn what_is_not_granted_is_named_and_the_rest_flows() {
    let server = Server::start().await;
    let session = server.session([key("n")]).await;
    let query = format!(
        "sessionId={session}&telemetry=d1/m&telemetry=d1/n&connectionState=d1&telemetry=d1"
    );
    let mut events = server.open(server.get(&query)).await;
    let snapshot = events.next_of("snapshot").await;
    let refused = json!([
        {"index": 0, "telemetryKeys": ["m"], "code": "notGranted", "message": "no grant covers it"},
        {"index": 2, "code": "notGranted", "message": "no grant covers it"},
        {"index": 3, "code": "notGranted", "message": "no grant covers it"},
    ]);
    assert_eq!(snapshot.data["refused"], refused);
    server.send_telemetry(&[("m", "1"), ("n", "2")]).await;
    let updates = events.next_of("updates").await;
    assert_eq!(updates.data["updates"][0]["telemetry"], json!({"n": 2}));
}

#[tokio::test]
async fn operators_get_what_they_ask_for() {
    let server = Server::start().await;
    let request = server.get("telemetry=d1&connectionState=d2");
    let mut events = server.open(request.header(KEY_HEADER, KEY)).await;
    let snapshot = events.next_of("snapshot").await;
    assert_eq!(snapshot.data.get("refused"), None);
    server.send(1).await;
    assert_eq!(events.numbers_until(1).await, [1]);
}

#[tokio::test]
async fn a_token_adds_its_grants_to_the_session_that_is_named() {
    let server = Server::start().await;
    let session = server.session([key("n")]).await;
    let grants = json!([{"deviceId": "d1", "type": "telemetry", "telemetryKey": "m"}]);
    let token = token(60_000, &grants);
    let query = format!("sessionId={session}&telemetry=d1/m&telemetry=d1/n&token={token}");
    let mut events = server.open(server.get(&query)).await;
    let snapshot = events.next_of("snapshot").await;
    assert_eq!(snapshot.data["sessionId"], session.to_string());
    assert_eq!(snapshot.data.get("refused"), None);
}

#[tokio::test]
async fn a_session_that_is_subscribed_otherwise_needs_to_ask_for_nothing() {
    let server = Server::start().await;
    let session = server.session([EVERY_KEY]).await;
    let request = server.get(&format!("sessionId={session}"));
    let mut events = server.open(request).await;
    let snapshot = events.next_of("snapshot").await;
    assert_eq!(snapshot.data["snapshot"], json!([]));
    let subscription = SubscriptionRequest {
        session,
        device: device("d1"),
        subscription: Subscription::Telemetry(None),
    };
    server.relay.subscribe(subscription).await.unwrap();
    server.send(1).await;
    assert_eq!(events.numbers_until(1).await, [1]);
}

#[tokio::test]
async fn who_may_not_read_is_told_why_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let session = server.session([key("n")]).await;
    let nothing = token(60_000, &json!([]));
    let (signed, _) = nothing.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(43));
    let expired = token(0, &all_of_d1());
    let active = server.metrics.sessions.active.get();
    let d1 = || server.get("telemetry=d1");
    let missing = "Provide a sessionId, a grant token or a Shared-Access-Key";
    let wrong_key = "Unauthorized: invalid shared-access-key";
    let no_token = "Unauthorized: the grant token is malformed: it does not have three parts with a dot between them";
    let cases = [
        (d1(), 401, missing),
        (d1().header(KEY_HEADER, ""), 401, missing),
        (d1().header("Authorization", "Basic eDp5"), 401, missing),
        (d1().header(KEY_HEADER, "wrong"), 401, wrong_key),
        (
            d1().header(KEY_HEADER, "wrong").bearer_auth(&nothing),
            401,
            wrong_key,
        ),
        (
            d1().bearer_auth(&forged),
            401,
            "Unauthorized: the signature of the grant token is wrong",
        ),
        (
            d1().bearer_auth(&expired),
            401,
            "Unauthorized: the grant token has expired (`exp`)",
        ),
        (server.get("telemetry=d1&token="), 401, no_token),
        (
            d1().bearer_auth(&nothing),
            403,
            "subscription request not granted",
        ),
        (
            server.get(&format!("telemetry=d1&sessionId={session}")),
            403,
            "subscription request not granted",
        ),
        (
            server.get("telemetry=d1&sessionId=00000000-0000-4000-8000-000000000000"),
            404,
            "No such sessionId",
        ),
        (
            server.get("telemetry=d1&sessionId="),
            404,
            "No such sessionId",
        ),
    ];
    let count = cases.len() as u64;
    for (request, status, text) in cases {
        assert_eq!(server.refusal(request).await, (status, text.to_owned()));
    }
    let queries = [
        (
            "",
            "The query asks for nothing: name what is wanted, such as telemetry=deviceId/telemetryKey",
        ),
        (
            "telemetry=",
            "The query member `telemetry` is not a deviceId, or a deviceId, a slash and a telemetryKey of 1 to 4096 bytes",
        ),
        (
            "telemetry=%ff",
            "The query is not valid UTF-8 after its escapes are decoded",
        ),
        (
            "deviceTwin=",
            "The query member `deviceTwin` is not a deviceId of 1 to 1024 bytes",
        ),
        (
            "telemetry=d1&minIntervalMs=soon",
            "The query member `minIntervalMs` is not a whole number from 0 to 86400000",
        ),
        (
            "telemetry=d1&changesOnly=1",
            "The query member `changesOnly` is neither true nor false",
        ),
    ];
    for (query, text) in queries {
        let request = server.get(query).header(KEY_HEADER, KEY);
        assert_eq!(server.refusal(request).await, (400, text.to_owned()));
    }
    assert_eq!(server.metrics.sessions.active.get(), active);
    server.connections_become(0).await;
    let refused = &server.metrics.push.refused;
    assert_eq!(refused.get(ConnectionRefusal::Session).get(), count);
    let malformed = refused.get(ConnectionRefusal::BadHandshake).get();
    assert_eq!(malformed, queries.len() as u64);
}

#[tokio::test]
async fn events_are_only_read() {
    let server = Server::start().await;
    let url = format!("http://{}/events?telemetry=d1", server.address);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for method in [Method::POST, Method::HEAD, Method::DELETE] {
        let request = http.request(method, &url).header(KEY_HEADER, KEY);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET");
    }
    assert_eq!(server.metrics.sessions.active.get(), 0);
}

#[tokio::test]
async fn every_limit_is_said() {
    let settings = Settings {
        connections_max: 1,
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let session = server.session([EVERY_KEY]).await;
    let bounded = Authorization {
        constraints: SessionConstraints {
            subscriptions_max: Some(1),
            ..SessionConstraints::default()
        },
        ..Authorization::default()
    };
    server.relay.authorize(session, bounded).await.unwrap();
    let query = format!("sessionId={session}&telemetry=d1/n&telemetry=d1/m");
    let expected = (429, "Too many subscriptions in this session".to_owned());
    assert_eq!(server.refusal(server.get(&query)).await, expected);
    server.connections_become(0).await;

    let mut query = String::new();
    for n in 0..=100 {
        write!(query, "&deviceTwin=d{n}").unwrap();
    }
    let request = server.get(&query).header(KEY_HEADER, KEY);
    let expected = (429, "Too many grants in this session".to_owned());
    assert_eq!(server.refusal(request).await, expected);
    server.connections_become(0).await;

    let _first = server.following().await;
    let request = server.get("telemetry=d1").header(KEY_HEADER, KEY);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(response.text().await.unwrap(), "Too many connections");
}
