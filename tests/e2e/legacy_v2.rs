//! The protocol of ux4iot 2.x behind `HUBRELAY_LEGACY_V2`, with the official Socket.IO client beginning by polling, as
//! 2.x clients do. `react_2.rs` has the published client itself.

use serde_json::{Value, json};

use crate::harness::{
    Answer, DeviceEvent, PRIMARY_KEY, Rest, Session, Socket, Testbed, UNKNOWN_SESSION, every_key,
    node_script::NodeScript, packet::Packet, polling::Polling, tcp_proxy::TcpProxy, telemetry,
};

const LEGACY: [(&str, &str); 1] = [("HUBRELAY_LEGACY_V2", "true")];

/// A 2.x client with its session.
struct Client {
    session: Session,
    script: NodeScript,
}

impl Client {
    async fn connect(testbed: &Testbed, url: &str) -> Self {
        let session = testbed.session().await;
        let arguments = [url, &session.id, "polling,websocket"];
        let mut script = NodeScript::start("socketio_client.mjs", &arguments);
        // Either may be done first.
        for _ in 0..2 {
            let line = script.next_line().await;
            assert!(line["event"] == "connect" || line["event"] == "upgrade");
        }
        Self { session, script }
    }

    async fn grant(&self, grant_type: &str, members: Value) -> Answer {
        let call = self.session.rest.put("/grants").key(PRIMARY_KEY);
        call.json(&request(&self.session, grant_type, members))
            .await
    }

    /// The next event, without its time.
    async fn next_data(&mut self) -> Value {
        let mut data = self.script.next_event("data").await["data"].take();
        let timestamp = data.as_object_mut().and_then(|it| it.remove("timestamp"));
        assert!(timestamp.is_some_and(|it| it.is_string()), "{data}");
        data
    }
}

fn request(session: &Session, grant_type: &str, members: Value) -> Value {
    let mut request = members;
    request["sessionId"] = json!(session.id);
    request["deviceId"] = json!("d1");
    request["grantType"] = json!(grant_type);
    request
}

fn telemetry_event(key: &str, value: impl Into<Value>) -> Value {
    json!({"deviceId": "d1", "telemetry": {key: value.into()}})
}

#[tokio::test]
async fn a_2_x_grant_is_a_subscription_and_shows_the_last_value_each_time() {
    let mut testbed = Testbed::with(&LEGACY).await;
    testbed.process("d1", json!({"t": 0, "u": 0})).await;
    let mut client = Client::connect(&testbed, &testbed.rest.url).await;
    for _ in 0..2 {
        let granted = client
            .grant("subscribeToTelemetry", json!({"telemetryKey": "t"}))
            .await;
        granted.is(204);
        assert_eq!(client.next_data().await, telemetry_event("t", 0));
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": false, "u": 1})))
        .await;
    assert_eq!(client.next_data().await, telemetry_event("t", false));
    client.script.finish().await;
}

#[tokio::test]
async fn a_2_x_client_gets_one_event_for_each_key() {
    let mut testbed = Testbed::with(&LEGACY).await;
    let mut client = Client::connect(&testbed, &testbed.rest.url).await;
    for grant in [json!({"telemetryKey": "t"}), json!({"telemetryKey": null})] {
        client.grant("subscribeToTelemetry", grant).await.is(204);
    }
    for n in 1..4 {
        testbed
            .inject(DeviceEvent::telemetry(
                "d1",
                &json!({"t": n, "u": n, "v": n}),
            ))
            .await;
        for key in ["t", "u", "v"] {
            assert_eq!(client.next_data().await, telemetry_event(key, n));
        }
    }
    client.script.finish().await;
}

#[tokio::test]
async fn a_2_x_client_gets_the_connection_state_as_an_object() {
    let mut testbed = Testbed::with(&LEGACY).await;
    testbed.process("d1", json!({"t": 0})).await;
    let mut client = Client::connect(&testbed, &testbed.rest.url).await;
    let state =
        |connected: bool| json!({"deviceId": "d1", "connectionState": {"connected": connected}});
    let granted = client.grant("subscribeToConnectionState", json!({})).await;
    granted.is(204);
    assert_eq!(client.next_data().await, state(true));
    for (operation, connected) in [("deviceDisconnected", false), ("deviceConnected", true)] {
        testbed
            .inject(DeviceEvent::connection_state("d1", operation))
            .await;
        assert_eq!(client.next_data().await, state(connected));
    }
    client.script.finish().await;
}

#[tokio::test]
async fn a_2_x_client_gets_twins_and_messages_as_everybody_does() {
    let mut testbed = Testbed::with(&[LEGACY[0], ("HUBRELAY_DEVICE_TWIN_CACHE_TTL", "0")]).await;
    let twin = json!({"version": 1, "properties": {"reported": {"r": 1}, "desired": {}}});
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;
    testbed.process("d1", json!({"t": 0})).await;
    let mut client = Client::connect(&testbed, &testbed.rest.url).await;
    client
        .grant("subscribeToDeviceTwin", json!({}))
        .await
        .is(204);
    assert_eq!(
        client.next_data().await,
        json!({"deviceId": "d1", "deviceTwin": twin})
    );
    for grant_type in ["subscribeToD2CMessages", "subscribeToD2CMessage"] {
        client.grant(grant_type, json!({})).await.is(204);
    }
    let body = json!({"t": 1, "_ts": "2026-01-01T00:00:00Z"});
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    assert_eq!(
        client.next_data().await,
        json!({"deviceId": "d1", "message": body})
    );
    client.script.finish().await;
}

#[tokio::test]
async fn revoking_a_2_x_grant_ends_its_events() {
    let mut testbed = Testbed::with(&LEGACY).await;
    let mut client = Client::connect(&testbed, &testbed.rest.url).await;
    for key in ["t", "witness"] {
        let granted = client
            .grant("subscribeToTelemetry", json!({"telemetryKey": key}))
            .await;
        granted.is(204);
    }
    let revoked = request(
        &client.session,
        "subscribeToTelemetry",
        json!({"telemetryKey": "t"}),
    );
    for _ in 0..2 {
        let call = testbed.rest.delete("/grants").key(PRIMARY_KEY);
        call.json(&revoked).await.is(204);
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1, "witness": 1})))
        .await;
    assert_eq!(client.next_data().await, telemetry_event("witness", 1));
    client.script.finish().await;
}

#[tokio::test]
async fn a_2_x_session_survives_the_loss_of_its_connection_with_its_grants() {
    let mut testbed = Testbed::with(&LEGACY).await;
    let proxy = TcpProxy::start(testbed.rest.authority()).await;
    let mut client = Client::connect(&testbed, &proxy.url).await;
    let granted = client
        .grant("subscribeToTelemetry", json!({"telemetryKey": "t"}))
        .await;
    granted.is(204);
    for round in 0..2 {
        proxy.cut();
        client.script.next_event("disconnect").await;
        testbed.process("d1", json!({"t": round})).await;
        // What it missed comes by itself, on the same session.
        let mut connected = false;
        loop {
            let mut line = client.script.next_line().await;
            match line["event"].as_str() {
                Some("connect") => connected = true,
                Some("upgrade") => {}
                Some("data") => {
                    assert!(connected);
                    assert_eq!(line["data"]["telemetry"].take(), json!({"t": round}));
                    break;
                }
                _ => panic!("unexpected {line}"),
            }
        }
    }
    client.script.finish().await;
}

#[tokio::test]
async fn a_2_x_client_whose_session_is_over_is_disconnected_and_never_refused() {
    let testbed = Testbed::with(&LEGACY).await;
    let session = testbed.session().await;
    session.delete().await.is(204);
    for id in [session.id.as_str(), UNKNOWN_SESSION] {
        // Beginning with polling tells a 2.x client.
        let mut polling = Polling::open(&testbed.rest, id).await;
        polling.post("40").await.says(200, "ok");
        // Without a connect before it, which would make some ask for their grants with the old id.
        assert!(matches!(
            polling.next_packet().await,
            Packet::Disconnect { .. }
        ));
    }
    let mut socket = Socket::knock(&testbed.rest, &session.id).await;
    assert!(matches!(socket.next_packet().await, Packet::Refused { .. }));
}

#[tokio::test]
async fn deleting_a_2_x_session_disconnects_its_client() {
    let testbed = Testbed::with(&LEGACY).await;
    let mut client = Client::connect(&testbed, &testbed.rest.url).await;
    let granted = client
        .grant("subscribeToTelemetry", json!({"telemetryKey": "t"}))
        .await;
    granted.is(204);
    client.session.delete().await.is(204);
    let disconnected = client.script.next_event("disconnect").await;
    assert_eq!(disconnected["reason"], "io server disconnect");
    let gone = client
        .grant("subscribeToTelemetry", json!({"telemetryKey": "t"}))
        .await;
    gone.says(404, "No such sessionId");
    client.script.finish().await;
}

#[tokio::test]
async fn revoking_everything_ends_every_session_in_2_x_only() {
    let revoke_all = async |rest: &Rest| rest.delete("/grants").key(PRIMARY_KEY).await;
    let testbed = Testbed::with(&LEGACY).await;
    let (session, mut socket) = testbed.connected_session().await;
    testbed.rest.delete("/grants").await.is(401);
    revoke_all(&testbed.rest).await.is(204);
    assert!(socket.ends_with_disconnect().await);
    session.get("/lastValue/d1").await.is(404);

    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let refused = revoke_all(&testbed.rest).await;
    refused.says(400, "unknown grant type");
    session.grant(&telemetry("d1", "t")).await.is(204);
}

#[tokio::test]
async fn grant_types_of_2_x_are_checked_as_strictly_as_todays() {
    let testbed = Testbed::with(&LEGACY).await;
    let session = testbed.session().await;
    let put = async |body: &Value| {
        let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
        call.json(body).await
    };
    for malformed in [
        request(&session, "telemetry", json!({})),
        request(&session, "subscribeToEverything", json!({})),
        request(&session, "subscribeToTelemetry", json!({"telemetryKey": 1})),
        request(
            &session,
            "subscribeToTelemetry",
            json!({"telemetryKey": ""}),
        ),
        json!({"sessionId": session.id, "deviceId": "d1", "grantType": 7}),
        json!({"sessionId": session.id, "deviceId": "d1", "grantType": null}),
        json!({"sessionId": session.id, "grantType": "subscribeToTelemetry"}),
        json!({"sessionId": session.id, "deviceId": "d1"}),
    ] {
        put(&malformed).await.says(400, "unknown grant type");
    }
    for needs_hub in ["modifyDesiredProperties", "invokeDirectMethod"] {
        let body = request(&session, needs_hub, json!({"directMethodName": "m"}));
        put(&body).await.says(400, "Grant unavailable");
    }
    let mut unknown = request(&session, "subscribeToDeviceTwin", json!({}));
    unknown["sessionId"] = json!(UNKNOWN_SESSION);
    put(&unknown).await.says(404, "No such sessionId");
    let body = request(&session, "subscribeToDeviceTwin", json!({}));
    testbed.rest.put("/grants").json(&body).await.is(401);
}

#[tokio::test]
async fn todays_clients_notice_nothing_of_2_x_beside_them() {
    let mut testbed = Testbed::with(&LEGACY).await;
    testbed.process("d1", json!({"t": 0, "u": 0})).await;
    let (session, mut socket) = testbed.connected_session().await;
    // `type` wins over a `grantType` beside it.
    let mut grant = session.request(&every_key("d1"));
    grant["grantType"] = json!("subscribeToTelemetry");
    let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
    call.json(&grant).await.is(204);
    session.subscribe(&every_key("d1")).await.is(204);
    let legacy = Client::connect(&testbed, &testbed.rest.url).await;
    let granted = legacy.grant("subscribeToTelemetry", json!({})).await;
    granted.is(204);

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1, "u": 1})))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"t": 1, "u": 1})
    );
    legacy.script.finish().await;
    drop(socket);
    let mut socket = Socket::knock(&testbed.rest, &session.id).await;
    assert!(matches!(socket.next_packet().await, Packet::Refused { .. }));
}
