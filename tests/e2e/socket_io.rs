//! Engine.IO 4 and Socket.IO 5 on the wire.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, http::StatusCode};

use crate::harness::{
    DeviceEvent, Socket, Testbed,
    packet::Packet,
    polling::Polling,
    socket::{Pings, handshake},
    telemetry,
};

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn check_38_only_engine_io_4_is_spoken() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let query = |version: u8| format!("sessionId={}&EIO={version}&transport=websocket", session.id);

    let stream = handshake(&testbed.rest, &query(4))
        .await
        .expect("version 4 is upgraded");
    let mut socket = Socket::from_stream(stream, Pings::Answered);
    let Packet::Open(open) = socket.next_packet().await else {
        panic!("the first packet is not open");
    };
    assert!(
        open["sid"].as_str().is_some_and(|sid| !sid.is_empty()),
        "{open}"
    );
    assert_eq!(open["upgrades"], json!([]));
    assert!(
        open["pingInterval"].is_u64() && open["pingTimeout"].is_u64(),
        "{open}"
    );

    let refused = handshake(&testbed.rest, &query(3))
        .await
        .expect_err("version 3 is refused");
    let tungstenite::Error::Http(response) = refused else {
        panic!("expected an HTTP answer, got {refused}");
    };
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let polling = format!(
        "/socket.io/?sessionId={}&EIO=3&transport=polling",
        session.id
    );
    let answer = testbed.rest.get(&polling).await.is(400);
    assert_eq!(
        answer.json(),
        json!({"code": 5, "message": "Unsupported protocol version"})
    );
}

#[tokio::test]
async fn check_39_an_admitted_socket_stays_open_with_pings() {
    let testbed = Testbed::with(&[
        ("HUBRELAY_PING_INTERVAL_MS", "200"),
        ("HUBRELAY_PING_TIMEOUT_MS", "10000"),
    ])
    .await;
    let (_, mut socket) = testbed.connected_session().await;
    for _ in 0..5 {
        assert_eq!(socket.next_packet().await, Packet::Ping);
    }
}

/// The slow one: a minute of real time, with the intervals of production.
#[tokio::test]
async fn check_39_an_admitted_socket_stays_open_for_a_minute() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "t")]).await;
    let connected = Instant::now();
    assert!(socket.data_within(MINUTE).await.is_empty());
    assert!(connected.elapsed() >= MINUTE);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_disconnected() {
    let testbed = Testbed::with(&[
        ("HUBRELAY_PING_INTERVAL_MS", "200"),
        ("HUBRELAY_PING_TIMEOUT_MS", "300"),
    ])
    .await;
    let session = testbed.session().await;
    let mut silent = Socket::connect_silent(&testbed.rest, &session.id).await;
    silent.ended().await;
}

#[tokio::test]
async fn check_40_a_polling_client_upgrades_and_receives_events() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let mut polling = Polling::connect(&testbed.rest, &session.id).await;
    session.follow(&telemetry("d1", "t")).await;

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(polling.next_data().await.telemetry(), json!({"t": 1}));

    let mut socket = polling.upgrade().await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 2}));
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_over_an_upgrade_under_load() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let mut polling = Polling::connect(&testbed.rest, &session.id).await;
    session.follow(&telemetry("d1", "n")).await;
    let flood = testbed.injector.flood("d1", "n");

    let first = polling.next_data().await.telemetry()["n"]
        .as_u64()
        .expect("a count");
    let mut last = first;
    while last < first + 20 {
        last += 1;
        assert_eq!(polling.next_data().await.telemetry()["n"], last);
    }
    let mut socket = upgrade_counting(polling, &mut last).await;
    for _ in 0..20 {
        last += 1;
        assert_eq!(socket.next_data().await.telemetry()["n"], last);
    }
    flood.stop().await;
}

/// Upgrades while events flow: the poll that is pending then may bring events, which are counted on in `last`.
async fn upgrade_counting(polling: Polling, last: &mut u64) -> Socket {
    let (socket, released) = polling.upgrade_with_events().await;
    for event in released {
        *last += 1;
        assert_eq!(event.telemetry()["n"], *last);
    }
    socket
}

#[tokio::test]
async fn polling_alone_delivers_in_order() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let mut polling = Polling::connect(&testbed.rest, &session.id).await;
    session.follow(&telemetry("d1", "n")).await;
    for n in 0..10 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"n": n})))
            .await;
    }
    for n in 0..10 {
        assert_eq!(polling.next_data().await.telemetry(), json!({"n": n}));
    }
}

#[tokio::test]
async fn any_namespace_is_the_root_and_is_echoed() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let mut socket = Socket::open(&testbed.rest, &session.id).await;
    socket.join("/a/b").await;
    match socket.next_packet().await {
        Packet::Admitted { namespace, data } => {
            assert_eq!(namespace, "/a/b");
            assert!(data["sid"].is_string());
        }
        other => panic!("not admitted: {other:?}"),
    }
    session.follow(&telemetry("d1", "t")).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    match socket.next_packet().await {
        Packet::Data { namespace, event } => {
            assert_eq!(namespace, "/a/b");
            assert_eq!(event.telemetry(), json!({"t": 1}));
        }
        other => panic!("expected data, got {other:?}"),
    }
    session.deleted().await;
    let expected = Packet::Disconnect {
        namespace: "/a/b".to_owned(),
    };
    assert_eq!(socket.next_packet().await, expected);
}

#[tokio::test]
async fn what_a_client_emits_is_ignored() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "t")]).await;
    for packet in [
        r#"42["data",{"forged":true}]"#,
        r#"420["hello"]"#,
        r#"42["subscribe","d2"]"#,
    ] {
        socket.send(packet).await;
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
}
