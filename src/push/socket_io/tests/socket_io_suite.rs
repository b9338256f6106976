//! The cases of the public Socket.IO suite (`socketio/socket.io-protocol`), each under its name there.
//!
//! Names are the headings above a case and its own, as `docs/compatibility.md` lists them.

use std::time::Duration;

use futures_util::SinkExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::endpoint::{self, Endpoint, next, upgrade};
use super::fixture::{Fixture, settings};
use super::harness::{Client, PATIENCE};
use crate::push::Settings;

/// With the times that the suite is written for.
async fn exact() -> Endpoint {
    Endpoint::socket_io(Fixture::start().await)
}

async fn patient() -> Endpoint {
    Endpoint::socket_io(Fixture::patient().await)
}

/// A client that has a socket in the main namespace and has got its `auth` event.
async fn connected(endpoint: &Endpoint) -> Client {
    let (mut client, _) = endpoint.websocket().await;
    assert_connects(&mut client, "", "").await;
    client
}

/// Connects to a namespace, given as its prefix in packets.
async fn assert_connects(client: &mut Client, prefix: &str, payload: &str) {
    client.send(&format!("40{prefix}{payload}")).await;
    let accepted = client.text().await;
    let data = accepted.strip_prefix(&format!("40{prefix}")).unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert!(!data["sid"].as_str().unwrap().is_empty());
    assert_eq!(data.as_object().unwrap().len(), 1);
    let payload = if payload.is_empty() { "{}" } else { payload };
    let auth = format!("42{prefix}[\"auth\",{payload}]");
    assert_eq!(client.text().await, auth);
}

#[tokio::test]
async fn engine_io_protocol_handshake_http_long_polling_should_successfully_open_a_session() {
    endpoint::polling_opens(exact().await).await;
}

#[tokio::test]
async fn engine_io_protocol_handshake_http_long_polling_should_fail_with_an_invalid_eio_query_parameter()
 {
    endpoint::polling_needs_the_version(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_handshake_http_long_polling_should_fail_with_an_invalid_transport_query_parameter()
 {
    endpoint::polling_needs_the_transport(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_handshake_http_long_polling_should_fail_with_an_invalid_request_method()
{
    endpoint::polling_is_opened_by_get(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_handshake_websocket_should_successfully_open_a_session() {
    endpoint::websocket_opens(exact().await).await;
}

#[tokio::test]
async fn engine_io_protocol_handshake_websocket_should_fail_with_an_invalid_eio_query_parameter() {
    endpoint::websocket_needs_the_version(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_handshake_websocket_should_fail_with_an_invalid_transport_query_parameter()
 {
    endpoint::websocket_needs_the_transport(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_heartbeat_http_long_polling_should_send_ping_pong_packets() {
    endpoint::polling_has_heartbeats(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_heartbeat_http_long_polling_should_close_the_session_upon_ping_timeout()
{
    endpoint::polling_without_pongs_ends(exact().await).await;
}

#[tokio::test]
async fn engine_io_protocol_heartbeat_websocket_should_send_ping_pong_packets() {
    endpoint::websocket_has_heartbeats(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_heartbeat_websocket_should_close_the_session_upon_ping_timeout() {
    endpoint::websocket_without_pongs_ends(exact().await).await;
}

#[tokio::test]
async fn engine_io_protocol_close_http_long_polling_should_forcefully_close_the_session() {
    endpoint::polling_can_be_closed(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_close_websocket_should_forcefully_close_the_session() {
    endpoint::websocket_can_be_closed(patient().await).await;
}

#[tokio::test]
async fn engine_io_protocol_upgrade_should_successfully_upgrade_from_http_long_polling_to_websocket()
 {
    let endpoint = patient().await;
    let polling = endpoint.polling().await;
    let mut websocket = endpoint.websocket_of(&polling).await;
    websocket.send("2probe").await;
    assert_eq!(websocket.text().await, "3probe");
    websocket.send("5").await;
    assert_connects(&mut websocket, "", "").await;
}

#[tokio::test]
async fn engine_io_protocol_upgrade_should_ignore_http_requests_with_same_sid_after_upgrade() {
    let endpoint = patient().await;
    let (polling, mut websocket) = upgrade(&endpoint).await;
    assert_eq!(polling.poll().await.0, 400);
    assert_connects(&mut websocket, "", "").await;
}

#[tokio::test]
async fn engine_io_protocol_upgrade_should_ignore_websocket_connection_with_same_sid_after_upgrade()
{
    let endpoint = patient().await;
    let (polling, mut websocket) = upgrade(&endpoint).await;
    let mut late = endpoint.websocket_of(&polling).await;
    assert_eq!(late.rest().await, [""; 0]);
    assert_connects(&mut websocket, "", "").await;
}

#[tokio::test]
async fn socket_io_protocol_connect_should_allow_connection_to_the_main_namespace() {
    assert_can_connect("", "").await;
}

#[tokio::test]
async fn socket_io_protocol_connect_should_allow_connection_to_the_main_namespace_with_a_payload() {
    assert_can_connect("", "{\"token\":\"123\"}").await;
}

#[tokio::test]
async fn socket_io_protocol_connect_should_allow_connection_to_a_custom_namespace() {
    assert_can_connect("/custom,", "").await;
}

#[tokio::test]
async fn socket_io_protocol_connect_should_allow_connection_to_a_custom_namespace_with_a_payload() {
    assert_can_connect("/custom,", "{\"token\":\"abc\"}").await;
}

async fn assert_can_connect(prefix: &str, payload: &str) {
    let endpoint = patient().await;
    let (mut client, _) = endpoint.websocket().await;
    assert_connects(&mut client, prefix, payload).await;
}

#[tokio::test]
async fn socket_io_protocol_connect_should_disallow_connection_to_an_unknown_namespace() {
    let endpoint = patient().await;
    let (mut client, _) = endpoint.websocket().await;
    client.send("40/random").await;
    let refused = "44/random,{\"message\":\"Invalid namespace\"}";
    assert_eq!(client.text().await, refused);
}

#[tokio::test]
async fn socket_io_protocol_connect_should_disallow_connection_with_an_invalid_handshake() {
    let endpoint = patient().await;
    let (mut client, _) = endpoint.websocket().await;
    client.send("4abc").await;
    assert_eq!(client.rest().await, [""; 0]);
}

#[tokio::test]
async fn socket_io_protocol_connect_should_close_the_connection_if_no_handshake_is_received() {
    let without_pings = Settings {
        ping_interval: PATIENCE,
        connect_timeout: Duration::from_millis(300),
        ..settings()
    };
    let endpoint = Endpoint::socket_io(Fixture::with(without_pings).await);
    let (mut client, _) = endpoint.websocket().await;
    assert_eq!(client.rest().await, [""; 0]);
}

#[tokio::test]
async fn socket_io_protocol_disconnect_should_disconnect_from_the_main_namespace() {
    let endpoint = patient().await;
    let mut client = connected(&endpoint).await;
    client.send("41").await;
    // It has left the namespace and not the connection, and events there are no longer welcome.
    assert_eq!(client.raw_text().await, "2");
    client.send("42[\"message\"]").await;
    assert_eq!(client.rest().await, [""; 0]);
}

#[tokio::test]
async fn socket_io_protocol_disconnect_should_connect_then_disconnect_from_a_custom_namespace() {
    let endpoint = patient().await;
    let mut client = connected(&endpoint).await;
    assert_connects(&mut client, "/custom,", "").await;
    client.send("41/custom").await;
    client
        .send("42[\"message\",\"message to main namespace\"]")
        .await;
    let back = "42[\"message-back\",\"message to main namespace\"]";
    assert_eq!(client.text().await, back);
}

#[tokio::test]
async fn socket_io_protocol_message_should_send_a_plain_text_packet() {
    let sent = "42[\"message\",1,\"2\",{\"3\":[true]}]";
    let back = "42[\"message-back\",1,\"2\",{\"3\":[true]}]";
    assert_comes_back(sent, &[], back).await;
}

#[tokio::test]
async fn socket_io_protocol_message_should_send_a_packet_with_binary_attachments() {
    let places = "{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}";
    let sent = format!("452-[\"message\",{places}]");
    let back = format!("452-[\"message-back\",{places}]");
    assert_comes_back(&sent, &[&[1, 2, 3], &[4, 5, 6]], &back).await;
}

#[tokio::test]
async fn socket_io_protocol_message_should_send_a_plain_text_packet_with_an_ack() {
    let sent = "42456[\"message-with-ack\",1,\"2\",{\"3\":[false]}]";
    assert_comes_back(sent, &[], "43456[1,\"2\",{\"3\":[false]}]").await;
}

#[tokio::test]
async fn socket_io_protocol_message_should_send_a_packet_with_binary_attachments_and_an_ack() {
    let places = "{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}";
    let sent = format!("452-789[\"message-with-ack\",{places}]");
    let back = format!("462-789[{places}]");
    assert_comes_back(&sent, &[&[1, 2, 3], &[4, 5, 6]], &back).await;
}

async fn assert_comes_back(sent: &str, attachments: &[&[u8]], back: &str) {
    let endpoint = patient().await;
    let mut client = connected(&endpoint).await;
    client.send(sent).await;
    for attachment in attachments {
        let binary = Message::binary(attachment.to_vec());
        client.0.send(binary).await.unwrap();
    }
    assert_eq!(next(&mut client).await, Message::text(back));
    for attachment in attachments {
        let binary = Message::binary(attachment.to_vec());
        assert_eq!(next(&mut client).await, binary);
    }
}

#[tokio::test]
async fn socket_io_protocol_message_should_close_the_connection_upon_invalid_format_unknown_packet_type()
 {
    assert_closes("4abc").await;
}

#[tokio::test]
async fn socket_io_protocol_message_should_close_the_connection_upon_invalid_format_invalid_payload_format()
 {
    assert_closes("42{}").await;
}

#[tokio::test]
async fn socket_io_protocol_message_should_close_the_connection_upon_invalid_format_invalid_ack_id()
{
    assert_closes("42abc[\"message-with-ack\",1,\"2\",{\"3\":[false]}]").await;
}

async fn assert_closes(offence: &str) {
    let endpoint = patient().await;
    let mut client = connected(&endpoint).await;
    client.send(offence).await;
    assert_eq!(client.rest().await, [""; 0]);
}
