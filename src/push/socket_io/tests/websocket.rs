//! Socket.IO over WebSocket: handshake, admission, heartbeat, ends and limits.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};

use super::harness::{Client, PATIENCE, Server, answer, number, often_pinging, quick};
use crate::push::Settings;
use crate::relay::FirstTransport;
use crate::telemetry::metrics::{ConnectionRefusal, TransportKind};

#[tokio::test]
async fn impossible_requests_get_the_errors_of_engine_io() {
    let server = Server::start(Settings::default()).await;
    let base = format!("http://{}/socket.io", server.address);
    for (method, path, status, body) in [
        (
            "GET",
            "/?EIO=3&transport=polling",
            400,
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        (
            "GET",
            "?transport=polling",
            400,
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        (
            "GET",
            "/?EIO=4&transport=tcp",
            400,
            r#"{"code":0,"message":"Transport unknown"}"#,
        ),
        (
            "GET",
            "/?EIO=4",
            400,
            r#"{"code":0,"message":"Transport unknown"}"#,
        ),
        (
            "GET",
            "/?EIO=4&transport=polling&sid=nobody",
            400,
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "POST",
            "/?EIO=4&transport=polling&sid=nobody",
            400,
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "POST",
            "/?EIO=4&transport=polling",
            400,
            r#"{"code":2,"message":"Bad handshake method"}"#,
        ),
        (
            "PUT",
            "/?EIO=4&transport=polling",
            400,
            r#"{"code":2,"message":"Bad handshake method"}"#,
        ),
        (
            "GET",
            "/?EIO=4&transport=websocket",
            400,
            r#"{"code":3,"message":"Bad request"}"#,
        ),
        (
            "GET",
            "/?EIO=4&EIO=4&transport=polling",
            400,
            r#"{"code":3,"message":"Bad request"}"#,
        ),
    ] {
        let method = method.parse().unwrap();
        let response = server
            .http
            .request(method, format!("{base}{path}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer(response).await, (status, body.to_owned()), "{path}");
    }
    assert_eq!(server.push.connection_count(), 0);
}

#[tokio::test]
async fn a_websocket_of_another_version_is_refused_before_the_upgrade() {
    let server = Server::start(Settings::default()).await;
    let url = format!(
        "ws://{}/socket.io/?EIO=3&transport=websocket",
        server.address
    );
    let error = tokio_tungstenite::connect_async(url).await.unwrap_err();
    assert!(matches!(error, tungstenite::Error::Http(response) if response.status() == 400));
    assert_eq!(
        server
            .metrics
            .push
            .refused
            .get(ConnectionRefusal::ProtocolVersion)
            .get(),
        1
    );
}

#[tokio::test]
async fn the_open_packet_tells_the_terms() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.websocket("").await;
    let open = client.text().await;
    let open: serde_json::Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    assert!(open["sid"].as_str().unwrap().len() >= 20);
    assert_eq!(open["upgrades"], serde_json::json!([]));
    assert_eq!(open["pingInterval"], 25_000);
    assert_eq!(open["pingTimeout"], 20_000);
    assert_eq!(open["maxPayload"], 1_000_000);
    assert_eq!(open.as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn a_session_gets_its_updates_in_order() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut client = server.connected(session).await;
    for number in 0..500 {
        server.send(number).await;
    }
    for expected in 0..500 {
        assert_eq!(client.number().await, expected);
    }
    assert_eq!(server.metrics.push.frames.get(), 500);
    assert_eq!(
        server
            .metrics
            .push
            .connections
            .get(TransportKind::SocketIoWebSocket)
            .get(),
        1
    );
}

#[tokio::test]
async fn any_namespace_is_the_root_under_its_own_name() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut client = server.websocket(&format!("sessionId={session}")).await;
    client.text().await;
    client.send("40/a/b,{\"token\":1}").await;
    assert!(client.text().await.starts_with("40/a/b,{\"sid\":\""));
    client.send("40").await;
    assert_eq!(client.text().await, "44{\"message\":\"Invalid namespace\"}");
    server.send(7).await;
    let event = client.text().await;
    assert_eq!(number(&event.replacen("42/a/b,", "42", 1)), 7);
    server.relay.delete_session(session).await;
    assert_eq!(client.rest().await, ["41/a/b,"]);
    server.all_gone().await;
}

#[tokio::test]
async fn pings_come_every_interval_and_their_answers_keep_the_connection() {
    let server = Server::start(often_pinging()).await;
    let mut client = server
        .connected(server.relay.create_session().unwrap())
        .await;
    for _ in 0..4 {
        assert_eq!(client.raw_text().await, "2");
        client.send("3").await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_closed_and_its_session_ends() {
    let server = Server::start(quick()).await;
    let session = server.subscribed_session().await;
    let mut client = server.connected(session).await;
    assert_eq!(client.rest().await, ["2"]);
    server.all_gone().await;
    assert_eq!(server.metrics.push.ping_timeouts.get(), 1);
    assert!(!server.relay.has_session(session));
}

#[tokio::test]
async fn a_connection_that_asks_for_no_session_is_closed() {
    let server = Server::start(Settings {
        connect_timeout: Duration::from_millis(100),
        ..Settings::default()
    })
    .await;
    let mut client = server.websocket("").await;
    assert!(client.text().await.starts_with("0{"));
    assert_eq!(client.rest().await, [""; 0]);
    server.all_gone().await;
}

#[tokio::test]
async fn a_session_that_nobody_issued_is_let_in_and_put_out() {
    let server = Server::start(Settings::default()).await;
    for query in [
        "",
        "sessionId=",
        "sessionId=nonsense",
        "sessionId=8c9f1c1e-3b1c-4b1e-9d53-0d9b8b1c3a10",
    ] {
        let mut client = server.websocket(query).await;
        client.text().await;
        client.send("40").await;
        let rest = client.rest().await;
        assert_eq!(rest.len(), 2, "{query}: {rest:?}");
        assert!(rest[0].starts_with("40{\"sid\":\""), "{query}: {rest:?}");
        assert_eq!(rest[1], "41");
    }
    server.all_gone().await;
}

#[tokio::test]
async fn a_session_that_has_ended_is_refused_and_the_client_closed_if_it_stays() {
    let server = Server::start(Settings {
        refused_timeout: Duration::from_millis(50),
        ..Settings::default()
    })
    .await;
    let session = server.subscribed_session().await;
    let mut client = server.connected(session).await;
    client.0.close(None).await.unwrap();
    client.rest().await;
    server.all_gone().await;

    let mut again = server.websocket(&format!("sessionId={session}")).await;
    again.text().await;
    again.send("40").await;
    assert_eq!(
        again.rest().await,
        ["44{\"message\":\"No such sessionId\"}"]
    );
    server.all_gone().await;
    assert_eq!(
        server
            .metrics
            .push
            .refused
            .get(ConnectionRefusal::Session)
            .get(),
        1
    );
}

#[tokio::test]
async fn a_deleted_session_is_told_before_its_transport_closes() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut client = server.connected(session).await;
    server.relay.delete_session(session).await;
    server.send(1).await;
    assert_eq!(client.rest().await, ["41"]);
    server.all_gone().await;
}

#[tokio::test]
async fn a_client_that_leaves_its_session_ends_it() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut client = server.connected(session).await;
    client.send("41").await;
    client.send("40").await;
    assert_eq!(client.text().await, "44{\"message\":\"No such sessionId\"}");
    assert!(!server.relay.has_session(session));
}

#[tokio::test]
async fn a_session_without_subscriptions_moves_to_its_newest_connection() {
    let server = Server::start(Settings::default()).await;
    let session = server.relay.create_session().unwrap();
    let mut first = server.connected(session).await;
    let mut second = server.connected(session).await;
    assert_eq!(first.rest().await, ["41"]);
    server.relay.delete_session(session).await;
    assert_eq!(second.rest().await, ["41"]);
    server.all_gone().await;
}

#[tokio::test]
async fn what_the_protocol_forbids_ends_the_connection() {
    let server = Server::start(Settings::default()).await;
    for offence in [
        "abc",
        "",
        "2",
        "4abc",
        "42{}",
        "42abc[\"x\"]",
        "42/other,[\"x\"]",
        "40",
        "44{}",
    ] {
        let mut client = server
            .connected(server.relay.create_session().unwrap())
            .await;
        client.send(offence).await;
        assert_eq!(client.rest().await, [""; 0], "{offence}");
    }
    let mut client = server
        .connected(server.relay.create_session().unwrap())
        .await;
    client.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(client.rest().await, [""; 0]);
    let mut client = server
        .connected(server.relay.create_session().unwrap())
        .await;
    // The server may stop reading before all of it is sent.
    let _ = client
        .0
        .send(Message::text(format!("42[\"{}\"]", "x".repeat(1_000_001))))
        .await;
    assert_eq!(client.rest().await, [""; 0]);
    server.all_gone().await;
}

#[tokio::test]
async fn what_clients_emit_is_ignored() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let mut client = server.connected(session).await;
    client.send("42[\"hello\",1]").await;
    client.send("427[\"with acknowledgement\"]").await;
    client
        .send("451-[\"binary\",{\"_placeholder\":true,\"num\":0}]")
        .await;
    client.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    client.0.send(Message::Ping(vec![9].into())).await.unwrap();
    assert_eq!(
        client.0.next().await.unwrap().unwrap(),
        Message::Pong(vec![9].into())
    );
    server.send(3).await;
    assert_eq!(client.number().await, 3);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let server = Server::start(Settings {
        connections_max: 2,
        ..Settings::default()
    })
    .await;
    let first = server
        .connected(server.relay.create_session().unwrap())
        .await;
    let second = server.polling(server.relay.create_session().unwrap()).await;
    let error = server.try_websocket("").await.unwrap_err();
    assert!(matches!(error, tungstenite::Error::Http(response) if response.status() == 503));
    let response = server
        .http
        .get(server.url("transport=polling"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(
        answer(response).await,
        (
            503,
            r#"{"code":4,"message":"Too many connections"}"#.to_owned()
        )
    );
    assert_eq!(
        server
            .metrics
            .push
            .refused
            .get(ConnectionRefusal::ConnectionsFull)
            .get(),
        2
    );
    drop(first);
    second.post("1").await;
    server.all_gone().await;
    server.websocket("").await;
}

#[tokio::test]
async fn connections_without_a_session_have_a_limit_of_their_own() {
    let server = Server::start(Settings {
        handshakes_max: 1,
        ..Settings::default()
    })
    .await;
    let _first = server
        .connected(server.relay.create_session().unwrap())
        .await;
    let _idle = server.websocket("").await;
    assert!(server.try_websocket("").await.is_err());
}

#[tokio::test]
async fn a_shut_down_tells_every_client_and_waits_for_them() {
    let server = Server::start(Settings::default()).await;
    let mut connected = server.connected(server.subscribed_session().await).await;
    let mut idle = server.websocket("").await;
    idle.text().await;
    let polling = server
        .connected_polling(server.subscribed_session().await)
        .await;
    let shut_down = {
        let push = server.push.clone();
        tokio::spawn(async move { push.shut_down(PATIENCE).await })
    };
    assert_eq!(connected.rest().await, ["41"]);
    assert_eq!(idle.rest().await, [""; 0]);
    assert_eq!(polling.packets().await, ["41"]);
    assert_eq!(polling.packets().await, ["1"]);
    timeout(PATIENCE, shut_down).await.unwrap().unwrap();
    server.all_gone().await;
    assert!(server.try_websocket("").await.is_err());
}

#[tokio::test]
async fn a_shut_down_ends_with_its_grace() {
    let server = Server::start(Settings {
        close_timeout: PATIENCE,
        ..Settings::default()
    })
    .await;
    // It never polls again, so it cannot be told.
    let _silent = server
        .connected_polling(server.subscribed_session().await)
        .await;
    timeout(
        PATIENCE / 2,
        server.push.shut_down(Duration::from_millis(100)),
    )
    .await
    .unwrap();
    server.all_gone().await;
}

#[tokio::test]
async fn the_first_transport_reaches_the_relay() {
    let server = Server::start(Settings::default()).await;
    // Clients of the 2.x generation poll first and die of a refusal, so an id from before a restart is let in and put
    // out.
    let old = crate::domain::id::SessionId::issue(1_700_000_000_000, [1; 10]);
    assert!(matches!(
        server
            .relay
            .connect(Some(old), FirstTransport::Websocket)
            .await,
        crate::relay::Admission::Retired
    ));
    let polling = server.polling(old).await;
    polling.post("40").await;
    let packets = polling.packets().await;
    assert!(packets[0].starts_with("40{"), "{packets:?}");
    assert_eq!(packets[1], "41");
    let mut websocket: Client = server.websocket(&format!("sessionId={old}")).await;
    websocket.text().await;
    websocket.send("40").await;
    assert_eq!(
        websocket.text().await,
        "44{\"message\":\"No such sessionId\"}"
    );
}
