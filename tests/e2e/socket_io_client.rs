//! The official `socket.io-client` from npm, over each of its transports.

use serde_json::json;

use crate::harness::{
    DeviceEvent, Socket, Testbed, connection_state, d2c_messages, node_script::NodeScript,
    telemetry,
};

#[tokio::test]
async fn the_official_client_works_over_websocket_only() {
    receives_and_is_disconnected("websocket").await;
}

#[tokio::test]
async fn the_official_client_works_over_polling_only() {
    receives_and_is_disconnected("polling").await;
}

#[tokio::test]
async fn check_40_the_official_client_upgrades_from_polling_to_websocket() {
    receives_and_is_disconnected("polling,websocket").await;
}

async fn receives_and_is_disconnected(transports: &str) {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let arguments = [testbed.rest.url.as_str(), &session.id, transports];
    let mut client = NodeScript::start("socketio_client.mjs", &arguments);
    if transports == "polling,websocket" {
        // The session is admitted over polling while the WebSocket is probed; either may be done first.
        let mut events = [client.next_line().await, client.next_line().await];
        events.sort_by_key(|line| line["event"].to_string());
        assert_eq!(events[0]["event"], "connect");
        assert_eq!(
            events[1],
            json!({"event": "upgrade", "transport": "websocket"})
        );
    } else {
        client.next_event("connect").await;
    }

    for what in [
        telemetry("d1", "t"),
        connection_state("d1"),
        d2c_messages("d1"),
    ] {
        session.follow(&what).await;
    }
    for n in 0..3 {
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"t": n, "u": n})))
            .await;
        let values = client.next_event("data").await;
        assert_eq!(values["data"]["deviceId"], "d1");
        assert!(values["data"]["timestamp"].is_string());
        assert_eq!(values["data"]["telemetry"], json!({"t": n}));
        assert_eq!(
            client.next_event("data").await["data"]["connectionState"],
            true
        );
        assert_eq!(
            client.next_event("data").await["data"]["message"],
            json!({"t": n, "u": n})
        );
    }

    session.deleted().await;
    assert_eq!(
        client.next_event("disconnect").await["reason"],
        "io server disconnect"
    );
    client.finish().await;
}

#[tokio::test]
async fn the_official_client_sees_why_a_retired_session_is_refused() {
    let testbed = Testbed::start().await;
    for transports in ["websocket", "polling"] {
        let session = testbed.session().await;
        session.deleted().await;
        let arguments = [testbed.rest.url.as_str(), &session.id, transports];
        let mut client = NodeScript::start("socketio_client.mjs", &arguments);
        let refused = client.next_event("connect_error").await;
        assert_eq!(refused["message"], "No such sessionId");
        client.finish().await;
    }
}

#[tokio::test]
async fn the_official_client_is_disconnected_with_an_id_never_issued() {
    let testbed = Testbed::start().await;
    let arguments = [
        testbed.rest.url.as_str(),
        crate::harness::UNKNOWN_SESSION,
        "websocket",
    ];
    let mut client = NodeScript::start("socketio_client.mjs", &arguments);
    client.next_event("connect").await;
    assert_eq!(
        client.next_event("disconnect").await["reason"],
        "io server disconnect"
    );
    client.finish().await;
}

#[tokio::test]
async fn the_official_client_joins_the_namespace_of_its_url() {
    let mut testbed = Testbed::start().await;
    let session = testbed.session().await;
    let url = format!("{}/a/b", testbed.rest.url);
    let mut client = NodeScript::start("socketio_client.mjs", &[&url, &session.id, "websocket"]);
    client.next_event("connect").await;
    session.follow(&telemetry("d1", "t")).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(
        client.next_event("data").await["data"]["telemetry"],
        json!({"t": 1})
    );
    session.deleted().await;
    assert_eq!(
        client.next_event("disconnect").await["reason"],
        "io server disconnect"
    );
    client.finish().await;
}

#[tokio::test]
async fn the_official_client_is_refused_with_the_id_of_a_lost_subscribed_session() {
    let testbed = Testbed::start().await;
    let (session, socket) = testbed.following([telemetry("d1", "t")]).await;
    drop::<Socket>(socket);
    let arguments = [testbed.rest.url.as_str(), &session.id, "websocket"];
    let mut client = NodeScript::start("socketio_client.mjs", &arguments);
    assert_eq!(
        client.next_event("connect_error").await["message"],
        "No such sessionId"
    );
    client.finish().await;
}
