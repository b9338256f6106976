//! What a session wants, one by one and in bulk.

use serde_json::{Value, json};

use crate::harness::{
    DeviceEvent, Testbed, UNKNOWN_SESSION, connection_state, d2c_messages, device_twin, every_key,
    telemetry,
};

const NOT_ALL_VALID: &str = "Not all elements in the request body are subscription requests";

#[tokio::test]
async fn check_17_subscribing_without_grant_is_refused() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    for what in [
        telemetry("d1", "t"),
        every_key("d1"),
        device_twin("d1"),
        connection_state("d1"),
        d2c_messages("d1"),
    ] {
        let answer = session.subscribe(&what).await;
        answer.says(403, "subscription request not granted");
    }
}

#[tokio::test]
async fn check_18_unknown_sessions_and_foreign_types_are_refused() {
    let testbed = Testbed::start().await;
    let body = json!({"sessionId": UNKNOWN_SESSION, "deviceId": "d1", "type": "deviceTwin"});
    let call = testbed.rest.put("/subscription").json(&body);
    call.await.says(404, "No such sessionId");

    let session = testbed.session().await;
    for kind in ["directMethod", "desiredProperties", "foo"] {
        let answer = session
            .subscribe(&json!({"deviceId": "d1", "type": kind}))
            .await;
        answer.says(400, "unknown subscription type");
    }
}

#[tokio::test]
async fn check_19_a_grant_of_every_key_allows_one_key_and_every_key() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.grant(&every_key("d1")).await.is(204);
    let answer = session.subscribe(&telemetry("d1", "t")).await.is(204);
    assert_eq!(answer.body, "");
    session.subscribe(&every_key("d1")).await.is(204);
}

#[tokio::test]
async fn check_20_a_grant_of_one_key_allows_only_that_key() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.grant(&telemetry("d1", "t")).await.is(204);
    session.subscribe(&telemetry("d1", "t")).await.is(204);
    session.subscribe(&telemetry("d1", "u")).await.is(403);
    session.subscribe(&every_key("d1")).await.is(403);
}

#[tokio::test]
async fn check_21_an_absent_key_means_every_key() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let without_key = json!({"deviceId": "d1", "type": "telemetry"});
    session.grant(&without_key).await.is(204);
    session.subscribe(&without_key).await.is(204);
    session.subscribe(&every_key("d1")).await.is(204);
    session.subscribe(&telemetry("d1", "t")).await.is(204);

    session.revoke(&every_key("d1")).await.is(204);
    session.subscribe(&telemetry("d1", "t")).await.is(403);
}

#[tokio::test]
async fn check_23_unsubscribing_needs_the_grant_but_not_the_subscription() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.grant(&telemetry("d1", "t")).await.is(204);
    session.unsubscribe(&telemetry("d1", "t")).await.is(204);
    let refused = session.unsubscribe(&telemetry("d1", "u")).await;
    refused.says(403, "subscription request not granted");
}

#[tokio::test]
async fn check_24_bulk_of_granted_elements_answers_the_request() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let wanted = [
        telemetry("d1", "b"),
        telemetry("d1", "a"),
        device_twin("d2"),
        connection_state("d2"),
        d2c_messages("d2"),
    ];
    session.grant(&every_key("d1")).await.is(204);
    for what in &wanted[2..] {
        session.grant(what).await.is(204);
    }
    let answer = session.subscribe_all(&wanted).await.is(200);
    assert_eq!(answer.json(), session.requests(&wanted));
}

#[tokio::test]
async fn check_25_bulk_takes_the_object_form_with_the_session_in_the_header() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed.connected_session().await;
    session.grant(&every_key("d1")).await.is(204);
    let wanted = [telemetry("d1", "a"), telemetry("d1", "b")];

    let call = testbed.rest.put("/subscriptions").session(&session.id);
    let answer = call
        .json(&json!({"subscriptionRequests": wanted}))
        .await
        .is(200);
    assert_eq!(answer.json(), session.requests(&wanted));

    testbed
        .inject(DeviceEvent::telemetry(
            "d1",
            &json!({"a": 1, "b": 2, "c": 3}),
        ))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 1, "b": 2})
    );
}

#[tokio::test]
async fn check_26_bulk_skips_elements_without_grant() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed.connected_session().await;
    session.grant(&telemetry("d1", "a")).await.is(204);
    session.grant(&telemetry("d1", "c")).await.is(204);

    let wanted = [
        telemetry("d1", "a"),
        telemetry("d1", "b"),
        telemetry("d1", "c"),
    ];
    let answer = session.subscribe_all(&wanted).await.is(200);
    let applied = [telemetry("d1", "a"), telemetry("d1", "c")];
    assert_eq!(answer.json(), session.requests(&applied));

    testbed
        .inject(DeviceEvent::telemetry(
            "d1",
            &json!({"a": 1, "b": 2, "c": 3}),
        ))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 1, "c": 3})
    );
}

#[tokio::test]
async fn check_27_bulk_with_one_invalid_element_applies_nothing() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed.connected_session().await;
    session.grant(&every_key("d1")).await.is(204);
    session.follow(&d2c_messages("d1")).await;

    let invalid = json!({"deviceId": "d1", "type": "directMethod"});
    let answer = session
        .subscribe_all(&[telemetry("d1", "a"), invalid.clone()])
        .await;
    answer.says(400, NOT_ALL_VALID);
    session
        .unsubscribe_all(&[d2c_messages("d1"), invalid])
        .await
        .says(400, NOT_ALL_VALID);

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1})))
        .await;
    assert_eq!(socket.next_data().await.message(), json!({"a": 1}));
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 2})))
        .await;
    assert_eq!(socket.next_data().await.message(), json!({"a": 2}));
}

#[tokio::test]
async fn check_28_an_empty_bulk_list_answers_an_empty_list() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    assert_eq!(session.subscribe_all(&[]).await.is(200).json(), json!([]));
    assert_eq!(session.unsubscribe_all(&[]).await.is(200).json(), json!([]));
    let call = testbed.rest.put("/subscriptions").session(&session.id);
    let answer = call
        .json(&json!({"subscriptionRequests": []}))
        .await
        .is(200);
    assert_eq!(answer.json(), json!([]));
}

#[tokio::test]
async fn check_29_bulk_unsubscription_ends_delivery_of_those_keys_only() {
    let mut testbed = Testbed::start().await;
    let keys = ["a", "b", "c"].map(|key| telemetry("d1", key));
    let (session, mut socket) = testbed.following(keys).await;

    let by_body = [telemetry("d1", "a")];
    let answer = session.unsubscribe_all(&by_body).await.is(200);
    assert_eq!(answer.json(), session.requests(&by_body));
    let message = json!({"a": 1, "b": 1, "c": 1});
    testbed.inject(DeviceEvent::telemetry("d1", &message)).await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"b": 1, "c": 1})
    );

    let by_header = json!([telemetry("d1", "b")]);
    let call = testbed.rest.delete("/subscriptions").session(&session.id);
    let answer = call.json(&by_header).await.is(200);
    assert_eq!(answer.json(), session.requests(&[telemetry("d1", "b")]));
    testbed.inject(DeviceEvent::telemetry("d1", &message)).await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"c": 1}));
}

#[tokio::test]
async fn bulk_with_an_unknown_session_applies_nothing() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed.connected_session().await;
    session.grant(&every_key("d1")).await.is(204);
    session.follow(&d2c_messages("d1")).await;
    let foreign = json!({"sessionId": UNKNOWN_SESSION, "deviceId": "d1", "type": "deviceTwin"});
    let body = json!([session.request(&telemetry("d1", "a")), foreign]);
    let call = testbed.rest.put("/subscriptions").json(&body);
    call.await.says(404, "No such sessionId");

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1})))
        .await;
    assert_eq!(socket.next_data().await.message(), json!({"a": 1}));
}

#[tokio::test]
async fn bulk_elements_of_several_sessions_reach_each_its_own() {
    let mut testbed = Testbed::start().await;
    let (first, mut first_socket) = testbed.connected_session().await;
    let (second, mut second_socket) = testbed.connected_session().await;
    first.grant(&telemetry("d1", "a")).await.is(204);
    second.grant(&telemetry("d1", "b")).await.is(204);

    let body = json!([
        first.request(&telemetry("d1", "a")),
        first.request(&telemetry("d1", "b")),
        second.request(&telemetry("d1", "b")),
    ]);
    let call = testbed.rest.put("/subscriptions").session(&first.id);
    let applied = call.json(&body).await.is(200).json();
    assert_eq!(applied, json!([body[0], body[2]]));

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1, "b": 2})))
        .await;
    assert_eq!(first_socket.next_data().await.telemetry(), json!({"a": 1}));
    assert_eq!(second_socket.next_data().await.telemetry(), json!({"b": 2}));
}

#[tokio::test]
async fn ten_thousand_elements_are_one_call() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    session.grant(&every_key("d1")).await.is(204);
    let wanted: Vec<Value> = (0..10_000)
        .map(|n| telemetry("d1", &format!("key-{n}")))
        .collect();
    let answer = session.subscribe_all(&wanted).await.is(200);
    assert_eq!(answer.json(), session.requests(&wanted));
}

#[tokio::test]
async fn subscriptions_are_a_set_so_one_unsubscription_undoes_two() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed
        .following([telemetry("d1", "a"), telemetry("d1", "b")])
        .await;
    session.subscribe(&telemetry("d1", "a")).await.is(204);
    session.unsubscribe(&telemetry("d1", "a")).await.is(204);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"a": 1})))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"b": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"b": 1}));
}
