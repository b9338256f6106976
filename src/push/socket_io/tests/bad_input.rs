//! What clients must not send: each ends its own connection or nothing, and a witness on another sees no difference.

use futures_util::SinkExt as _;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::harness::{Client, PATIENCE, Server, answer, number};
use crate::push::Settings;

/// A client of a session of its own, who must go on getting every update.
struct Witness {
    client: Client,
    updates: usize,
}

impl Witness {
    async fn of(server: &Server) -> Self {
        let session = server.subscribed_session().await;
        let client = server.connected(session).await;
        Self { client, updates: 0 }
    }

    async fn sees_the_next_update(&mut self, server: &Server) {
        self.updates += 1;
        server.send(self.updates).await;
        assert_eq!(self.client.number().await, self.updates);
    }

    /// Waits until no other connection is left.
    async fn is_alone(&self, server: &Server) {
        let alone = async {
            while server.push.connection_count() > 1 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, alone).await.unwrap();
        assert_eq!(server.push.0.polling.len(), 0);
    }
}

/// Texts that are packets, nearly packets, or nothing of the kind.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[0-6]{0,3}(/[a-z]{0,3},)?[0-9]{0,2}(\\[\"x\"\\]|\\{\\})?",
        1 => "4[56][0-9]{1,2}-(/[a-z]{0,3},)?[0-9]{0,2}\\[\"x\"\\]",
        1 => any::<String>(),
    ]
}

#[test]
fn no_frames_whatever_harm_the_server() {
    let frame = prop_oneof![
        4 => any_text().prop_map(Message::text),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Message::binary),
    ];
    let frames = prop::collection::vec(frame, 0..12);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start(Settings::default()));
    let mut witness = runtime.block_on(Witness::of(&server));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(40));
    let play = |frames: Vec<Message>| {
        runtime.block_on(async {
            let session = server.relay.create_session().unwrap();
            let mut client = server.websocket(&format!("sessionId={session}")).await;
            for frame in frames {
                // The server may have closed the connection by now.
                if client.0.send(frame).await.is_err() {
                    break;
                }
            }
        });
        Ok(())
    };
    runner.run(&frames, play).unwrap();
    runtime.block_on(async {
        witness.is_alone(&server).await;
        witness.sees_the_next_update(&server).await;
    });
}

#[test]
fn no_payloads_whatever_harm_the_server() {
    let packet = prop_oneof![
        4 => any_text(),
        1 => "b[A-Za-z0-9+/]{0,8}={0,2}",
    ];
    let payload = prop_oneof![
        4 => prop::collection::vec(packet, 0..8).prop_map(|packets| packets.join("\u{1e}").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let payloads = prop::collection::vec(payload, 1..6);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start(Settings::default()));
    let mut witness = runtime.block_on(Witness::of(&server));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(40));
    let play = |payloads: Vec<Vec<u8>>| {
        let statuses = runtime.block_on(async {
            let client = server.polling(server.relay.create_session().unwrap()).await;
            let mut statuses = Vec::new();
            for payload in payloads {
                let posted = server.http.post(&client.url).body(payload);
                statuses.push(answer(posted.send().await.unwrap()).await.0);
            }
            client.post("1").await;
            statuses
        });
        let refused = statuses.iter().position(|status| *status != 200);
        let (taken, refused) = statuses.split_at(refused.unwrap_or(statuses.len()));
        prop_assert!(taken.iter().all(|status| *status == 200));
        prop_assert!(
            refused.iter().all(|status| *status == 400),
            "what was refused once goes on: {statuses:?}"
        );
        Ok(())
    };
    runner.run(&payloads, play).unwrap();
    runtime.block_on(async {
        witness.is_alone(&server).await;
        witness.sees_the_next_update(&server).await;
    });
}

#[tokio::test]
async fn packets_in_the_wrong_order_close_their_connection_only() {
    let server = Server::start(Settings::default()).await;
    let mut witness = Witness::of(&server).await;
    for packets in [
        &["42[\"before the connect\"]"][..],
        &["43[]"],
        &["40", "40"],
        &["40", "2"],
        &["40", "451-[\"x\"]", "42[\"x\"]"],
        &["40", "451-[\"x\"]", "41"],
        &["40", "451-[\"x\"]", "bAQ==", "bAQ=="],
        &["40", "41", "42[\"x\"]"],
        &["bAQ=="],
    ] {
        let client = server.polling(server.relay.create_session().unwrap()).await;
        let posted = client.post(&packets.join("\u{1e}")).await;
        assert_eq!(posted.0, 400, "{packets:?}");
        assert_eq!(client.poll().await.0, 400, "{packets:?}");
        witness.is_alone(&server).await;
        witness.sees_the_next_update(&server).await;
    }
}

#[tokio::test]
async fn packets_that_mean_nothing_here_are_passed_over() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;
    // An opening, pongs that nobody asked for, an upgrade and a no-op, and the end of a namespace that never was.
    let posted = client
        .post("0\u{1e}3\u{1e}3x\u{1e}5\u{1e}6\u{1e}41/other,")
        .await;
    assert_eq!(posted, (200, "ok".to_owned()));
    server.send(1).await;
    let packets = client.packets().await;
    assert_eq!(number(&packets[0]), 1);
}

#[tokio::test]
async fn an_upgrade_in_the_wrong_order_is_dropped_and_polling_goes_on() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;
    for (round, packets) in [
        &[Message::text("5")][..],
        &[Message::text("2")],
        &[Message::text("2other")],
        &[Message::text("40")],
        &[Message::text("abc")],
        &[Message::binary(vec![1])],
        &[Message::text("2probe"), Message::text("2probe")],
        &[Message::text("2probe"), Message::text("42[\"x\"]")],
        &[Message::text("2probe"), Message::Close(None)],
    ]
    .iter()
    .enumerate()
    {
        let mut websocket = server.websocket(&format!("sid={}", client.sid)).await;
        for packet in *packets {
            websocket.0.send(packet.clone()).await.unwrap();
        }
        let said = websocket.rest().await;
        assert!(
            said.iter().all(|text| text == "3probe"),
            "{packets:?}: {said:?}"
        );
        server.send(round).await;
        let packets_got = client.packets().await;
        assert_eq!(number(&packets_got[0]), round, "{packets:?}");
    }
}

#[tokio::test]
async fn queries_that_cannot_be_read_are_refused() {
    let server = Server::start(Settings::default()).await;
    let long = format!("transport=polling&sid={}", "x".repeat(4000));
    for query in [
        "transport=polling&transport=polling",
        "transport=polling&sid=a&sid=b",
        "transport=polling&sessionId=a&sessionId=b",
        "transport=polling&sid=%ff%fe",
        "transport=%00",
        "transport=polling&sid=",
        &long,
    ] {
        let response = server.http.get(server.url(query)).send().await.unwrap();
        let (status, body) = answer(response).await;
        assert_eq!(status, 400, "{query}");
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(
            error["code"].is_u64() && error["message"].is_string(),
            "{body}"
        );
    }
    assert_eq!(server.push.connection_count(), 0);
}
