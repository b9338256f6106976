//! The native protocol, as its document says.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, Testbed, native::Native, node_script::NodeScript, telemetry,
};

/// So that none of them is overlooked.
const DOCUMENTED_STEPS: usize = 20;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// A message without what differs from run to run.
fn without_times(mut message: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for name in ["time", "receivedAt", "timestamp", "sessionId", "version"] {
                    if let Some(member) = members.get_mut(name) {
                        *member = json!(null);
                    }
                }
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut message);
    message
}

/// Plays what is written under "A conversation", in which every answer must be as it is written, times aside.
#[tokio::test]
async fn the_documented_conversation_takes_place() {
    let mut testbed = Testbed::start().await;
    let (_, conversation) = DOCUMENT
        .split_once("## A conversation")
        .expect("there is one");
    let mut native = Native::connect(&testbed.rest).await;
    let mut session_id = None;
    let mut steps = 0;
    for block in conversation.split("```json ").skip(1) {
        let (speaker, rest) = block.split_once('\n').expect("a block has lines");
        let (text, _) = rest.split_once("```").expect("a block ends");
        let mut message: Value = serde_json::from_str(text).expect("a block is JSON");
        if let (Some(id), Some(documented)) = (&session_id, message.get_mut("sessionId")) {
            *documented = json!(id);
        }
        steps += 1;
        match speaker {
            "client" => {
                if message["resume"].is_object() {
                    native = Native::connect(&testbed.rest).await;
                }
                native.send(&message).await;
            }
            "server" => {
                let answer = native.next().await.expect("the connection goes on");
                if let Some(id) = answer["sessionId"].as_str() {
                    session_id.get_or_insert_with(|| id.to_owned());
                }
                assert_eq!(without_times(answer), without_times(message));
            }
            "device" => testbed.process("press-01", message).await,
            "grant" => {
                let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
                call.json(&message).await.is(204);
            }
            "revoke" => {
                let call = testbed.rest.delete("/grants").key(PRIMARY_KEY);
                call.json(&message).await.is(204);
            }
            other => panic!("nobody is called {other}"),
        }
    }
    assert_eq!(steps, DOCUMENTED_STEPS);
}

#[tokio::test]
async fn the_documented_example_shows_values() {
    let mut testbed = Testbed::start().await;
    testbed
        .process("press-01", json!({"temperature": 21.5}))
        .await;
    let session = testbed.session().await;
    session
        .grant(&telemetry("press-01", "temperature"))
        .await
        .is(204);
    let url = format!("ws://{}/ws", testbed.rest.authority());
    let mut script = NodeScript::start("native_example.mjs", &[&url, &session.id]);
    let line = script.next_line().await;
    assert_eq!(line, json!(["press-01", "temperature", 21.5]));
    testbed
        .process("press-01", json!({"temperature": 22.5}))
        .await;
    let line = script.next_line().await;
    assert_eq!(line, json!(["press-01", "temperature", 22.5]));
    script.finish().await;
}

#[tokio::test]
async fn under_load_each_number_comes_once_and_none_after_the_revocation() {
    let testbed = Testbed::start().await;
    let (mut native, session_id) = Native::open(&testbed.rest).await;
    let mut grant = telemetry("d1", "n");
    grant["sessionId"] = json!(session_id);
    let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
    call.json(&grant).await.is(204);
    native.follow("d1", "n").await;

    let flood = testbed.injector.flood("d1", "n");
    let mut last = 0;
    while last < 500 {
        let message = native.expect("updates").await;
        for update in message["updates"].as_array().expect("a list") {
            let number = update["telemetry"]["n"].as_u64().expect("a number");
            assert_eq!(number, last + 1);
            last = number;
        }
        assert_eq!(message["sequence"], last);
    }
    let call = testbed.rest.delete("/grants").key(PRIMARY_KEY);
    call.json(&grant).await.is(204);
    // Whatever comes after this request was answered, or is, was written before the revocation was.
    native.send(&json!({"type": "ping", "id": 9})).await;
    let (mut is_ended, mut is_answered) = (false, false);
    while !(is_ended && is_answered) {
        let message = native.next().await.expect("the connection goes on");
        match message["type"].as_str() {
            Some("updates") => assert!(!is_ended && !is_answered, "{message}"),
            Some("ended") => is_ended = true,
            Some("pong") => is_answered = true,
            _ => panic!("{message}"),
        }
    }
    native.request(json!({"type": "ping"})).await;
    flood.stop().await;
}

#[tokio::test]
async fn on_sigterm_clients_are_told() {
    let mut testbed = Testbed::start().await;
    let (mut native, _) = Native::open(&testbed.rest).await;
    testbed.relay.process.signal_termination().await;
    let messages = native.rest().await;
    let goodbye = messages.last().expect("a goodbye");
    assert_eq!(
        (&goodbye["type"], &goodbye["code"], &goodbye["reconnect"]),
        (&json!("goodbye"), &json!("shuttingDown"), &json!(true))
    );
    assert_eq!(testbed.relay.process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_session_may_be_deleted_and_its_client_comes_back_with_another() {
    let testbed = Testbed::start().await;
    let (mut native, session_id) = Native::open(&testbed.rest).await;
    let path = format!("/sessions/{session_id}");
    testbed.rest.delete(&path).key(PRIMARY_KEY).await.is(204);
    let messages = native.rest().await;
    assert_eq!(
        messages.last().expect("a goodbye")["code"],
        "sessionDeleted"
    );

    let mut native = Native::connect(&testbed.rest).await;
    let resume = json!({"epoch": 1, "sequence": 0});
    let hello = json!({"type": "hello", "sessionId": session_id, "resume": resume});
    let error = native.ask(&hello).await;
    assert_eq!(error["code"], "noSuchSession");
    let (_, other_id) = Native::open(&testbed.rest).await;
    assert_ne!(other_id, session_id);
}

#[tokio::test]
async fn what_is_no_message_harms_only_its_sender() {
    let mut testbed = Testbed::start().await;
    let (mut witness, session_id) = Native::open(&testbed.rest).await;
    let mut grant = telemetry("d1", "t");
    grant["sessionId"] = json!(session_id);
    let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
    call.json(&grant).await.is(204);
    witness.follow("d1", "t").await;
    for message in [
        Message::binary(vec![0, 1, 2, 3]),
        Message::text(""),
        Message::text("nonsense"),
        Message::text("[".repeat(500_000)),
        Message::text("{\"type\":\"subscribe\",\"id\":1,\"subscriptions\":[{}]}"),
        Message::text("x".repeat(8 << 20)),
    ] {
        let (mut native, _) = Native::open(&testbed.rest).await;
        native.send_message(message).await;
        let answer = native.next().await.expect("an answer comes first");
        assert!(
            answer["type"] == "error" || answer["type"] == "goodbye",
            "{answer}"
        );
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    let updates = witness.expect("updates").await;
    assert_eq!(updates["updates"][0]["telemetry"], json!({"t": 1}));
    testbed.still_serves().await;
}
