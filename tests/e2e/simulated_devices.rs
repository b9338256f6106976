//! The simulated devices of `hubrelay demo`, as a session of its relay sees them: they obey.

use jiff::Timestamp;
use relay_protocol::DeviceId;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Hubrelay, PRIMARY_KEY, Rest, Session, connection_state, desired_properties,
    device_twin, direct_method, telemetry,
};

/// It sends every five seconds, left to itself.
const ROOM: &str = "room-04";
const OWN_INTERVAL_MS: i64 = 5_000;

/// A demo with four devices, each at its own pace.
async fn demo() -> (Hubrelay, Rest) {
    let any = "127.0.0.1:0";
    #[rustfmt::skip]
    let arguments = [
        "demo", "--json", "--listen", any, "--devices", "4",
        "--amqp", any, "--amqps", any, "--rest", any, "--mqtt", any, "--mqtts", any,
    ];
    let mut demo = Hubrelay::start(&arguments, &[("PRIMARY_ADMIN_SECRET", PRIMARY_KEY)]);
    let announcement = demo.json_line().await;
    let rest = Rest::new(announcement["url"].as_str().expect("a string"));
    rest.ready().await;
    // It is connected from its first message on.
    let admin = rest.admin(PRIMARY_KEY);
    let room = DeviceId::from(ROOM);
    rest.eventually("the room sends values", || async {
        let values = admin.last_values(&room).await.expect("the key is right");
        (!values.data.is_empty()).then_some(())
    })
    .await;
    (demo, rest)
}

async fn call(session: &Session, name: &str, payload: Value) -> Answer {
    session.granted(&direct_method(ROOM, name)).await;
    let call = session.rest.post("/directMethod").session(&session.id);
    call.json(&json!({
        "deviceId": ROOM,
        "methodParams": {"methodName": name, "payload": payload},
    }))
    .await
}

#[tokio::test]
async fn a_desired_interval_changes_how_often_a_device_sends() {
    let (_demo, rest) = demo().await;
    let session = Session::create(&rest).await;
    let mut socket = session.connect().await;
    session.follow(&device_twin(ROOM)).await;
    session.granted(&desired_properties(ROOM)).await;

    let patch = rest
        .patch("/deviceTwinDesiredProperties")
        .session(&session.id)
        .json(&json!({"deviceId": ROOM, "desiredPropertyPatch": {"telemetryInterval": 200}}));
    assert_eq!(patch.await.status / 100, 2);
    let acknowledged = json!({"value": 200, "ac": 200, "av": 2, "ad": "applied"});
    socket
        .data_until(|event| {
            event.device_twin()["properties"]["reported"]["telemetryInterval"] == acknowledged
        })
        .await;

    session.unsubscribed(&device_twin(ROOM)).await;
    session.follow(&telemetry(ROOM, "humidity")).await;
    let mut sent_at_ms = Vec::new();
    for _ in 0..5 {
        let event = socket.next_data().await;
        assert!(event.telemetry()["humidity"].is_number());
        let sent_at: Timestamp = event.timestamp().parse().expect("a time");
        sent_at_ms.push(sent_at.as_millisecond());
    }
    let took_ms = sent_at_ms[4] - sent_at_ms[0];
    assert!(
        took_ms < OWN_INTERVAL_MS,
        "four intervals took {took_ms} ms"
    );
}

#[tokio::test]
async fn a_device_answers_methods_and_its_reboot_is_seen() {
    let (_demo, rest) = demo().await;
    let session = Session::create(&rest).await;
    let answered = |answer: Answer| answer.is(200).json();

    let payload = json!({"a": [1, null]});
    let echo = answered(call(&session, "echo", payload.clone()).await);
    assert_eq!(echo, json!({"status": 200, "payload": payload}));
    let set = answered(call(&session, "setInterval", json!({"interval": 1})).await);
    assert_eq!(set, json!({"status": 200, "payload": {"interval": 100}}));
    let failed = answered(call(&session, "selfTest", Value::Null).await);
    assert_eq!(failed["status"], 500);
    assert!(failed["payload"]["failed"].is_array(), "{failed}");
    let unknown = answered(call(&session, "explode", Value::Null).await);
    assert_eq!(unknown["status"], 404);

    let mut socket = session.connect().await;
    session.follow(&connection_state(ROOM)).await;
    let reboot = answered(call(&session, "reboot", Value::Null).await);
    assert_eq!(reboot["status"], 200);
    for connected in [false, true] {
        socket
            .data_until(|event| event.connection_state() == connected)
            .await;
    }
}
