//! The cases of the public Engine.IO suite (`socketio/engine.io-protocol`), each under its name there.
//!
//! Names are the headings above a case and its own, as `docs/compatibility.md` lists them.

use futures_util::SinkExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::endpoint::{self, Endpoint, next, upgrade};
use super::fixture::Fixture;

/// With the times that the suite is written for.
async fn exact() -> Endpoint {
    Endpoint::engine_io(Fixture::start().await)
}

async fn patient() -> Endpoint {
    Endpoint::engine_io(Fixture::patient().await)
}

#[tokio::test]
async fn handshake_http_long_polling_successfully_opens_a_session() {
    endpoint::polling_opens(exact().await).await;
}

#[tokio::test]
async fn handshake_http_long_polling_fails_with_an_invalid_eio_query_parameter() {
    endpoint::polling_needs_the_version(patient().await).await;
}

#[tokio::test]
async fn handshake_http_long_polling_fails_with_an_invalid_transport_query_parameter() {
    endpoint::polling_needs_the_transport(patient().await).await;
}

#[tokio::test]
async fn handshake_http_long_polling_fails_with_an_invalid_request_method() {
    endpoint::polling_is_opened_by_get(patient().await).await;
}

#[tokio::test]
async fn handshake_websocket_successfully_opens_a_session() {
    endpoint::websocket_opens(exact().await).await;
}

#[tokio::test]
async fn handshake_websocket_fails_with_an_invalid_eio_query_parameter() {
    endpoint::websocket_needs_the_version(patient().await).await;
}

#[tokio::test]
async fn handshake_websocket_fails_with_an_invalid_transport_query_parameter() {
    endpoint::websocket_needs_the_transport(patient().await).await;
}

#[tokio::test]
async fn message_http_long_polling_sends_and_receives_a_payload_containing_one_plain_text_packet() {
    assert_payload_comes_back(&["4hello"]).await;
}

#[tokio::test]
async fn message_http_long_polling_sends_and_receives_a_payload_containing_several_plain_text_packets()
 {
    assert_payload_comes_back(&["4test1", "4test2", "4test3"]).await;
}

#[tokio::test]
async fn message_http_long_polling_sends_and_receives_a_payload_containing_plain_text_and_binary_packets()
 {
    assert_payload_comes_back(&["4hello", "bAQIDBA=="]).await;
}

async fn assert_payload_comes_back(packets: &[&str]) {
    let endpoint = patient().await;
    let client = endpoint.polling().await;
    let posted = client.post(&packets.join("\u{1e}")).await;
    assert_eq!(posted, (200, "ok".to_owned()));
    assert_eq!(client.packets().await, packets);
}

#[tokio::test]
async fn message_http_long_polling_closes_the_session_upon_invalid_packet_format() {
    let endpoint = patient().await;
    let client = endpoint.polling().await;
    assert_eq!(client.post("abc").await.0, 400);
    assert_eq!(client.poll().await.0, 400);
}

#[tokio::test]
async fn message_http_long_polling_closes_the_session_upon_duplicate_poll_requests() {
    let endpoint = patient().await;
    let client = endpoint.polling().await;
    let (first, second) = tokio::join!(client.poll(), async {
        endpoint.is_polled(&client).await;
        client.poll().await
    });
    assert_eq!(first, (200, "1".to_owned()));
    assert_eq!(second.0, 400);
    assert_eq!(client.poll().await.0, 400);
}

#[tokio::test]
async fn message_websocket_sends_and_receives_a_plain_text_packet() {
    let endpoint = patient().await;
    let (mut client, _) = endpoint.websocket().await;
    client.send("4hello").await;
    assert_eq!(client.text().await, "4hello");
}

#[tokio::test]
async fn message_websocket_sends_and_receives_a_binary_packet() {
    let endpoint = patient().await;
    let (mut client, _) = endpoint.websocket().await;
    let binary = Message::binary(vec![1, 2, 3, 4]);
    client.0.send(binary.clone()).await.unwrap();
    assert_eq!(next(&mut client).await, binary);
}

#[tokio::test]
async fn message_websocket_closes_the_session_upon_invalid_packet_format() {
    let endpoint = patient().await;
    let (mut client, _) = endpoint.websocket().await;
    client.send("abc").await;
    assert_eq!(client.rest().await, [""; 0]);
}

#[tokio::test]
async fn heartbeat_http_long_polling_sends_ping_pong_packets() {
    endpoint::polling_has_heartbeats(patient().await).await;
}

#[tokio::test]
async fn heartbeat_http_long_polling_closes_the_session_upon_ping_timeout() {
    endpoint::polling_without_pongs_ends(exact().await).await;
}

#[tokio::test]
async fn heartbeat_websocket_sends_ping_pong_packets() {
    endpoint::websocket_has_heartbeats(patient().await).await;
}

#[tokio::test]
async fn heartbeat_websocket_closes_the_session_upon_ping_timeout() {
    endpoint::websocket_without_pongs_ends(exact().await).await;
}

#[tokio::test]
async fn close_http_long_polling_forcefully_closes_the_session() {
    endpoint::polling_can_be_closed(patient().await).await;
}

#[tokio::test]
async fn close_websocket_forcefully_closes_the_session() {
    endpoint::websocket_can_be_closed(patient().await).await;
}

#[tokio::test]
async fn upgrade_successfully_upgrades_from_http_long_polling_to_websocket() {
    let endpoint = patient().await;
    let polling = endpoint.polling().await;
    let mut websocket = endpoint.websocket_of(&polling).await;
    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    assert_eq!(polling.packets().await, ["6"]);
    websocket.send("5").await;
    websocket.send("4hello").await;
    assert_eq!(websocket.text().await, "4hello");
}

#[tokio::test]
async fn upgrade_ignores_http_requests_with_same_sid_after_upgrade() {
    let endpoint = patient().await;
    let (polling, mut websocket) = upgrade(&endpoint).await;
    assert_eq!(polling.poll().await.0, 400);
    websocket.send("4hello").await;
    assert_eq!(websocket.text().await, "4hello");
}

#[tokio::test]
async fn upgrade_ignores_websocket_connection_with_same_sid_after_upgrade() {
    let endpoint = patient().await;
    let (polling, mut websocket) = upgrade(&endpoint).await;
    let mut late = endpoint.websocket_of(&polling).await;
    assert_eq!(late.rest().await, [""; 0]);
    websocket.send("4hello").await;
    assert_eq!(websocket.text().await, "4hello");
}
