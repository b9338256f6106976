//! Clients that break the protocol: a coded error, the connection closed only where it must be, nobody else harmed.

use futures_util::SinkExt as _;
use relay_protocol::native::{ClientMessage, ErrorCode, Hello, Selector};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::harness::{Client, Server, every_key};
use crate::push::native::request::KEYS_PER_MESSAGE_MAX;
use crate::telemetry::metrics::NativeError;

#[tokio::test]
async fn texts_that_are_no_messages_are_answered_and_change_nothing() {
    let server = Server::start().await;
    let (mut witness, _) = server.following().await;
    let (mut client, _) = server.following().await;
    let nested = "[".repeat(200_000);
    for (text, code) in [
        ("", ErrorCode::MalformedJson),
        ("nonsense", ErrorCode::MalformedJson),
        ("{\"type\":\"ping\"", ErrorCode::MalformedJson),
        ("{\"type\":\"\u{0}\"}", ErrorCode::MalformedJson),
        (&nested, ErrorCode::MalformedJson),
        ("null", ErrorCode::InvalidMessage),
        ("[]", ErrorCode::InvalidMessage),
        ("{}", ErrorCode::InvalidMessage),
        (r#"{"type":"ping"}"#, ErrorCode::InvalidMessage),
        (r#"{"type":"ping","id":"1"}"#, ErrorCode::InvalidMessage),
        (r#"{"type":"subscribe","id":7}"#, ErrorCode::InvalidMessage),
        (r#"{"type":"updates","id":8}"#, ErrorCode::UnknownType),
        (r#"{"type":"hello"}"#, ErrorCode::HelloRepeated),
        (
            r#"{"type":"hello","sessionId":"x"}"#,
            ErrorCode::HelloRepeated,
        ),
    ] {
        client.send_text(text).await;
        assert_eq!(client.error().await.code, code, "{text:.80}");
    }
    server.send(1).await;
    assert_eq!(client.numbers().await, [1]);
    assert_eq!(witness.numbers().await, [1]);
    let errors = &server.metrics.push.native_errors;
    assert_eq!(errors.get(NativeError::Malformed).get(), 12);
    assert_eq!(errors.get(NativeError::Order).get(), 2);
}

#[tokio::test]
async fn before_the_hello_only_a_hello_counts() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for text in [
        r#"{"type":"ping","id":1}"#,
        r#"{"type":"subscribe","id":2,"subscriptions":[{"type":"telemetry","deviceId":"d1"}]}"#,
        r#"{"type":"authorize","id":3,"token":"t"}"#,
    ] {
        client.send_text(text).await;
        assert_eq!(client.error().await.code, ErrorCode::HelloExpected);
    }
    client.hello(Hello::default()).await;
    client.still_answers().await;
}

#[tokio::test]
async fn an_id_is_used_once_and_ids_go_up() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([]).await;
    for id in [5, 9] {
        client.send(&ClientMessage::Ping { id }).await;
        client.message().await;
    }
    for id in [9, 5, 8, 1] {
        client.send(&ClientMessage::Ping { id }).await;
        let error = client.error().await;
        assert_eq!((error.code, error.id), (ErrorCode::DuplicateId, Some(id)));
    }
    client.send(&ClientMessage::Ping { id: 10 }).await;
    client.message().await;
}

#[tokio::test]
async fn more_keys_than_allowed_change_nothing() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([super::harness::EVERY_KEY]).await;
    let names = (0..KEYS_PER_MESSAGE_MAX).map(|number| format!("key-{number}"));
    let names = names.chain(["n".to_owned()]);
    client
        .ask_to_subscribe([Selector::telemetry("d1", names).into()])
        .await;
    assert_eq!(client.error().await.code, ErrorCode::TooManyKeys);
    server.send(1).await;
    client.still_answers().await;
}

/// Sends raw frames, then requires this end and that a witness notices nothing.
async fn ends_with(frames: Vec<Message>, code: &str, close_code: u16) {
    let server = Server::start().await;
    let (mut witness, _) = server.following().await;
    let (mut client, _) = server.following().await;
    for frame in frames {
        // The relay may have ended the connection meanwhile.
        let _ = client.socket.send(frame).await;
    }
    let end = client.end().await;
    assert_eq!(end.close_code, Some(close_code), "{end:?}");
    let goodbye = end.goodbye.unwrap();
    assert_eq!(goodbye.code.as_str(), code);
    assert!(!goodbye.reconnect);
    server.connections_become(1).await;
    server.send(1).await;
    assert_eq!(witness.numbers().await, [1]);
}

fn frame(opcode: Data, payload: &'static [u8], is_final: bool) -> Message {
    Message::Frame(Frame::message(payload, OpCode::Data(opcode), is_final))
}

#[tokio::test]
async fn a_binary_frame_ends_the_connection() {
    ends_with(vec![Message::binary(vec![1, 2, 3])], "binaryFrame", 1003).await;
}

#[tokio::test]
async fn a_text_that_is_not_utf_8_ends_the_connection() {
    let broken = frame(Data::Text, b"{\"type\":\"\xff\"}", true);
    ends_with(vec![broken], "invalidUtf8", 1007).await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_connection() {
    let text = "x".repeat(8_000_000);
    ends_with(vec![Message::text(text)], "messageTooLarge", 1009).await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_in_fragments_ends_the_connection() {
    let mut fragments = vec![frame(Data::Text, &[b' '; 1000], false)];
    fragments.resize_with(1100, || frame(Data::Continue, &[b' '; 1000], false));
    ends_with(fragments, "messageTooLarge", 1009).await;
}

#[tokio::test]
async fn a_continuation_of_nothing_ends_the_connection() {
    let stray = frame(Data::Continue, b"x", true);
    ends_with(vec![stray], "malformedFrame", 1002).await;
}

#[tokio::test]
async fn a_message_in_fragments_with_a_ping_between_is_one_message() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([]).await;
    for part in [
        frame(Data::Text, b"{\"type\":\"pi", false),
        Message::Ping("between".into()),
        frame(Data::Continue, b"ng\",\"id\":", false),
        frame(Data::Continue, b"1}", true),
    ] {
        client.socket.send(part).await.unwrap();
    }
    assert!(matches!(
        client.message().await,
        relay_protocol::native::ServerMessage::Pong { id: 1, .. }
    ));
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection() {
    let server = Server::start().await;
    let (mut client, _) = server.following().await;
    let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else {
        panic!("it is a plain socket");
    };
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let end = client.end().await;
    assert_eq!(end.close_code, Some(1002));
    server.still_serves().await;
}

#[tokio::test]
async fn half_a_message_and_a_lost_connection_leave_nothing_behind() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([]).await;
    let half = frame(Data::Text, b"{\"type\":", false);
    client.socket.send(half).await.unwrap();
    drop(client);
    server.connections_become(0).await;
    server.still_serves().await;
}

/// What a client can make the relay keep for it is one answer: the next request is read when that is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_on_and_on_without_reading_is_not_read_on() {
    let server = Server::start().await;
    let (mut client, _): (Client, _) = server.granted([super::harness::EVERY_KEY]).await;
    let value = format!("\"{}\"", "x".repeat(1 << 20));
    server.send_telemetry("d1", &[("n", &value)]).await;
    let frames = server.metrics.push.frames.get();
    let asking = async {
        loop {
            let id = client.next_id();
            let of = vec![every_key("d1")];
            client.send(&ClientMessage::LastValues { id, of }).await;
        }
    };
    let stalled = async {
        // A second in which no answer is written, after some were.
        let mut answers = 0;
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            let now = server.metrics.push.frames.get() - frames;
            if now > 0 && now == answers {
                return now;
            }
            answers = now;
        }
    };
    let answers = tokio::select! {
        () = asking => unreachable!("it asks for ever"),
        answers = stalled => answers,
    };
    assert!(answers < 100, "{answers} answers of a megabyte were made");
    server.still_serves().await;
}
