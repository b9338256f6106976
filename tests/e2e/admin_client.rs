//! The Rust client of security backends, against the relay itself.

use admin_client::{AdminClient, ConnectionString, Error, LogLevel};
use relay_protocol::{DeviceId, Grant, GrantRequest, Subscription, SubscriptionRequest};
use serde_json::json;

use crate::harness::{DeviceEvent, PRIMARY_KEY, SECONDARY_KEY, Socket, Testbed};

fn client(testbed: &Testbed, key: &str) -> AdminClient {
    let connection: ConnectionString =
        format!("Endpoint={};SharedAccessKey={key}", testbed.rest.url)
            .parse()
            .expect("the documented form");
    AdminClient::new(&connection).expect("a client")
}

fn every_key() -> Grant {
    Grant::Telemetry {
        telemetry_key: None,
    }
}

fn key(name: &str) -> Subscription {
    Subscription::Telemetry {
        telemetry_key: Some(name.to_owned()),
    }
}

#[tokio::test]
async fn a_security_backend_takes_a_session_through_its_life() {
    let mut testbed = Testbed::start().await;
    let client = client(&testbed, PRIMARY_KEY);
    let device_id = DeviceId::from("d1");
    let session_id = client.create_session().await.unwrap();
    let mut socket = Socket::connect(&testbed.rest, session_id.as_str()).await;

    let grant = GrantRequest {
        session_id: session_id.clone(),
        device_id: device_id.clone(),
        grant: every_key(),
    };
    let request = |subscription| SubscriptionRequest {
        session_id: Some(session_id.clone()),
        device_id: device_id.clone(),
        subscription,
    };
    let refused = client.subscribe(&request(key("a"))).await;
    assert!(
        matches!(refused, Err(Error::Status { status: 403, .. })),
        "{refused:?}"
    );
    client.grant(&grant).await.unwrap();
    client.subscribe(&request(key("a"))).await.unwrap();

    let wanted = vec![request(key("b")), request(Subscription::DeviceTwin)];
    let applied = client.subscribe_all(&session_id, wanted).await.unwrap();
    assert_eq!(applied, [request(key("b"))]);

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

    client.unsubscribe(&request(key("a"))).await.unwrap();
    let removed = client
        .unsubscribe_all(&session_id, &[request(key("b"))])
        .await
        .unwrap();
    assert_eq!(removed, [request(key("b"))]);
    client.revoke(&grant).await.unwrap();
    let refused = client.subscribe(&request(key("a"))).await;
    assert!(
        matches!(refused, Err(Error::Status { status: 403, .. })),
        "{refused:?}"
    );

    client.delete_session(&session_id).await.unwrap();
    assert!(socket.ends_with_disconnect().await);
    let gone = client.grant(&grant).await;
    let Err(Error::Status {
        status: 404,
        message,
    }) = gone
    else {
        panic!("expected 404, got {gone:?}");
    };
    assert_eq!(message, "No such sessionId");
    client.delete_all_sessions().await.unwrap();
}

#[tokio::test]
async fn last_values_are_read_and_deleted() {
    let mut testbed = Testbed::start().await;
    let client = client(&testbed, SECONDARY_KEY);
    let device_id = DeviceId::from("plant/7 %");
    let body = r#"{"n":12345678901234567890123,"last":true}"#;
    testbed
        .inject(DeviceEvent::telemetry_bytes("plant/7 %", body))
        .await;
    testbed
        .rest
        .last_value_becomes("plant%2F7%20%25", "last", &json!(true))
        .await;

    let one = client.last_value(&device_id, "n").await.unwrap();
    assert_eq!(one.device_id, device_id);
    assert_eq!(one.data["n"].as_str(), "12345678901234567890123");
    let all = client.last_values(&device_id).await.unwrap();
    assert_eq!(all.data["n"].value.as_str(), "12345678901234567890123");
    assert_eq!(all.timestamp, "");
    assert!(client.connection_state(&device_id).await.unwrap().data);

    let deleted = client.delete_last_values(&device_id).await.unwrap();
    assert_eq!(deleted.data, all.data);
    let gone = client.last_value(&device_id, "n").await;
    assert!(
        matches!(gone, Err(Error::Status { status: 404, .. })),
        "{gone:?}"
    );
    let twin = client.device_twin(&device_id).await;
    assert!(
        matches!(twin, Err(Error::Status { status: 400, .. })),
        "{twin:?}"
    );
}

#[tokio::test]
async fn operations_need_the_right_key() {
    let testbed = Testbed::start().await;
    let right = client(&testbed, PRIMARY_KEY);
    assert_eq!(
        right.version().await.unwrap(),
        testbed.rest.get("/version").await.body
    );
    right.status().await.unwrap();
    right.set_log_level(LogLevel::Debug).await.unwrap();

    let wrong = client(&testbed, "wrong");
    let refused = wrong.set_log_level(LogLevel::Debug).await;
    let Err(Error::Status {
        status: 401,
        message,
    }) = refused
    else {
        panic!("expected 401, got {refused:?}");
    };
    assert!(message.starts_with("Unauthorized"), "{message}");
}
