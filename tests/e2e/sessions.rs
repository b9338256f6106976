//! The life of a session, and its binding to a socket.

use serde_json::json;

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, SECONDARY_KEY, Session, Socket, Testbed, UNKNOWN_SESSION,
    packet::Packet, telemetry,
};

#[tokio::test]
async fn check_06_each_call_creates_a_session_of_its_own() {
    let testbed = Testbed::start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let call = testbed.rest.post("/session");
        let answer = call
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Content-Length", "0")
            .await
            .is(200);
        assert!(
            answer
                .header("content-type")
                .starts_with("application/json")
        );
        let id = answer.json()["sessionId"].as_str().map(str::to_owned);
        ids.push(id.expect("sessionId is a string"));
    }
    assert!(ids.iter().all(|id| !id.is_empty()));
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn check_07_a_wrong_key_does_not_fail_session_creation() {
    let testbed = Testbed::start().await;
    testbed.rest.post("/session").key("wrong").await.is(200);
}

#[tokio::test]
async fn check_49_deleting_a_session_disconnects_and_forgets_it() {
    let testbed = Testbed::start().await;
    let (session, mut socket) = testbed.following([telemetry("d1", "t")]).await;

    let path = format!("/sessions/{}", session.id);
    let unauthorized = testbed.rest.delete(&path).await.is(401);
    assert!(unauthorized.body.starts_with("Unauthorized"));
    testbed.rest.delete(&path).key("wrong").await.is(401);
    session.grant(&telemetry("d1", "t")).await.is(204);

    let deleted = session.delete().await.is(204);
    assert_eq!(deleted.body, "");
    assert!(socket.ends_with_disconnect().await);

    session
        .grant(&telemetry("d1", "t"))
        .await
        .says(404, "No such sessionId");
    session
        .subscribe(&telemetry("d1", "t"))
        .await
        .says(404, "No such sessionId");
    session
        .get("/lastValue/d1/t")
        .await
        .says(404, "No such sessionId");
    session.delete().await.is(204);
}

#[tokio::test]
async fn check_50_deleting_all_sessions_disconnects_every_socket() {
    let testbed = Testbed::start().await;
    let (_, mut first) = testbed.connected_session().await;
    let (_, mut second) = testbed.following([telemetry("d1", "t")]).await;
    let fresh = testbed.session().await;

    testbed.rest.delete("/sessions").await.is(401);
    testbed
        .rest
        .delete("/sessions")
        .key(SECONDARY_KEY)
        .await
        .is(204);

    assert!(first.ends_with_disconnect().await);
    assert!(second.ends_with_disconnect().await);
    fresh.grant(&telemetry("d1", "t")).await.is(404);
}

#[tokio::test]
async fn check_51_a_session_that_was_never_issued_is_not_left_connected() {
    let testbed = Testbed::start().await;
    let mut socket = Socket::knock(&testbed.rest, UNKNOWN_SESSION).await;
    // A refusal on the very first connection would stop the published client for good, so it is admitted first.
    assert!(matches!(
        socket.next_packet().await,
        Packet::Admitted { .. }
    ));
    assert!(socket.ends_with_disconnect().await);
}

#[tokio::test]
async fn a_socket_without_session_id_is_not_left_connected() {
    let testbed = Testbed::start().await;
    let mut socket = Socket::knock(&testbed.rest, "").await;
    assert!(matches!(
        socket.next_packet().await,
        Packet::Admitted { .. }
    ));
    assert!(socket.ends_with_disconnect().await);
}

#[tokio::test]
async fn check_52_a_session_with_subscriptions_does_not_survive_its_transport() {
    let testbed = Testbed::start().await;
    let (session, socket) = testbed.following([telemetry("d1", "t")]).await;
    drop(socket);

    let mut returned = Socket::knock(&testbed.rest, &session.id).await;
    assert_refused(&mut returned).await;
    session
        .subscribe(&telemetry("d1", "t"))
        .await
        .says(404, "No such sessionId");
}

#[tokio::test]
async fn a_session_with_subscriptions_is_refused_a_second_socket_and_retired() {
    let testbed = Testbed::start().await;
    let (session, mut first) = testbed.following([telemetry("d1", "t")]).await;

    let mut second = Socket::knock(&testbed.rest, &session.id).await;
    assert_refused(&mut second).await;
    session
        .grant(&telemetry("d1", "t"))
        .await
        .says(404, "No such sessionId");
    first.ended().await;
}

#[tokio::test]
async fn a_session_without_subscriptions_moves_to_its_new_socket() {
    let mut testbed = Testbed::start().await;
    let (session, mut first) = testbed.connected_session().await;
    session.grant(&telemetry("d1", "t")).await.is(204);

    let mut second = session.connect().await;
    first.ended().await;
    session.subscribe(&telemetry("d1", "t")).await.is(204);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(second.next_data().await.telemetry(), json!({"t": 1}));
}

#[tokio::test]
async fn a_deleted_session_is_refused_when_it_returns() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.delete().await.is(204);
    let mut socket = Socket::knock(&testbed.rest, &session.id).await;
    assert_refused(&mut socket).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_a_session_with_subscriptions() {
    let testbed = Testbed::start().await;
    let (session, socket) = testbed.following([telemetry("d1", "t")]).await;
    socket.send("41").await;
    assert_becomes_unknown(&session).await;
}

#[tokio::test]
async fn deleting_an_unknown_session_changes_nothing() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let path = format!("/sessions/{UNKNOWN_SESSION}");
    testbed.rest.delete(&path).key(PRIMARY_KEY).await.is(204);
    session.grant(&telemetry("d1", "t")).await.is(204);
}

async fn assert_refused(socket: &mut Socket) {
    match socket.next_packet().await {
        Packet::Refused { namespace, data } => {
            assert_eq!(namespace, "/");
            assert_eq!(data, json!({"message": "No such sessionId"}));
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

async fn assert_becomes_unknown(session: &Session) {
    let expectation = "the session ends with its client";
    session
        .rest
        .eventually(expectation, || async {
            let answer = session.grant(&telemetry("d1", "t")).await;
            (answer.status == 404).then_some(())
        })
        .await;
}
