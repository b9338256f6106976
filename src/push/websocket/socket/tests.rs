//! Over real sockets, whose buffers are small where they have to be full.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::push::websocket_conformance::Frame;

/// Longer than anything here takes on a busy machine; whoever waits that long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// More than the buffers of two sockets hold.
const STUFFING_BYTES: usize = 8 << 20;

/// A WebSocket and its client, whose sockets take little.
async fn connected() -> (WebSocket, TcpStream) {
    let listener = TcpSocket::new_v4().unwrap();
    listener.set_send_buffer_size(16 * 1024).unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(16 * 1024).unwrap();
    let connecting = client.connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(connecting, listener.accept());
    let socket = UpgradedSocket::of(accepted.unwrap().0);
    (WebSocket::new(socket, &[], 1_000_000), client.unwrap())
}

/// Sends texts in one burst, at once as far as that is possible.
async fn send(websocket: &mut WebSocket, texts: &[&[u8]]) {
    let sent = poll_fn(|cx| {
        let fill = |burst: &mut Burst<'_>| {
            for text in texts {
                burst.text(text.len(), |bytes| bytes.extend_from_slice(text));
            }
        };
        Poll::Ready(websocket.send(cx, fill))
    });
    sent.await.unwrap();
}

async fn read(websocket: &mut WebSocket) -> Result<Message, ReadError> {
    let read = poll_fn(|cx| websocket.poll_read(cx));
    timeout(PATIENCE, read).await.unwrap()
}

async fn received(client: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut received = vec![0; bytes];
    let read = client.read_exact(&mut received);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    received
}

/// The frame of a text.
fn framed(text: &[u8]) -> Vec<u8> {
    [&*header_of(Opcode::Text, text.len()), text].concat()
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let (mut websocket, mut client) = connected().await;
    assert!(websocket.holds_nothing());

    send(&mut websocket, &[b"one", &[b'x'; 5_000], b"three"]).await;
    assert!(websocket.is_written() && websocket.holds_nothing());

    let asked = [Frame::ping("?"), Frame::text("hello")].map(|frame| frame.bytes());
    client.write_all(&asked.concat()).await.unwrap();
    assert!(matches!(read(&mut websocket).await, Ok(Message::Ping(_))));
    let hello = Message::Text("hello".to_owned());
    assert_eq!(read(&mut websocket).await, Ok(hello));
    poll_fn(|cx| websocket.poll_write(cx)).await.unwrap();
    assert!(
        read(&mut websocket).now_or_never().is_none(),
        "something came that nobody sent"
    );
    assert!(websocket.holds_nothing());
}

#[tokio::test]
async fn a_burst_leaves_at_once_and_in_order() {
    let (mut websocket, mut client) = connected().await;
    let texts: [&[u8]; 3] = [b"first", &[b'y'; 200], b""];
    send(&mut websocket, &texts).await;
    assert!(websocket.is_written());
    let expected = texts.map(framed).concat();
    assert_eq!(received(&mut client, expected.len()).await, expected);
}

#[tokio::test]
async fn what_the_socket_does_not_take_waits_in_order() {
    let (mut websocket, mut client) = connected().await;
    let large: Vec<u8> = (b'a'..=b'z').cycle().take(STUFFING_BYTES).collect();
    send(&mut websocket, &[b"before", &large, b"behind"]).await;
    assert!(!websocket.is_written(), "the sockets took everything");
    assert!(websocket.take_progress());

    websocket.queue_text(Bytes::from_static(b"queued"));
    websocket.queue_text(Bytes::from(vec![b'q'; COPIED_BYTES_MAX + 1]));
    send(&mut websocket, &[b"last"]).await;
    client.write_all(&Frame::ping("?").bytes()).await.unwrap();
    assert!(matches!(read(&mut websocket).await, Ok(Message::Ping(_))));

    let texts: [&[u8]; 6] = [
        b"before",
        &large,
        b"behind",
        b"queued",
        &[b'q'; COPIED_BYTES_MAX + 1],
        b"last",
    ];
    let mut expected = texts.map(framed).concat();
    expected.extend([0x8a, 1, b'?']);
    let written = poll_fn(|cx| websocket.poll_write(cx));
    let (written, received) = tokio::join!(written, received(&mut client, expected.len()));
    written.unwrap();
    assert!(received == expected, "bytes were lost or changed places");
    assert!(websocket.is_written() && websocket.holds_nothing());
}

#[tokio::test]
async fn a_client_that_takes_nothing_makes_no_progress() {
    let (mut websocket, mut client) = connected().await;
    send(&mut websocket, &[&vec![b'x'; STUFFING_BYTES]]).await;
    let mut full = || poll_fn(|cx| websocket.poll_write(cx)).now_or_never();
    while full().is_some() {}
    websocket.take_progress();
    assert!(
        poll_fn(|cx| websocket.poll_write(cx))
            .now_or_never()
            .is_none()
    );
    assert!(!websocket.take_progress());
    let progress = poll_fn(|cx| {
        let _ = websocket.poll_write(cx);
        if websocket.take_progress() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let mut bytes = vec![0; STUFFING_BYTES];
    let taking = client.read_exact(&mut bytes);
    tokio::select! {
        progress = timeout(PATIENCE, progress) => progress.unwrap(),
        _ = taking => panic!("all was taken without progress"),
    }
}

#[tokio::test]
async fn many_pings_get_the_answer_to_the_last() {
    let (mut websocket, mut client) = connected().await;
    send(&mut websocket, &[&vec![b'x'; STUFFING_BYTES]]).await;
    for number in 0..100 {
        client
            .write_all(&Frame::ping([number]).bytes())
            .await
            .unwrap();
        assert!(matches!(read(&mut websocket).await, Ok(Message::Ping(_))));
    }
    let bytes = framed(&vec![b'x'; STUFFING_BYTES]).len();
    let written = poll_fn(|cx| websocket.poll_write(cx));
    let (written, received) = tokio::join!(written, received(&mut client, bytes + 3));
    written.unwrap();
    assert_eq!(received[bytes..], [0x8a, 1, 99]);
}

#[tokio::test]
async fn what_came_with_the_handshake_is_read_first() {
    let (websocket, mut client) = connected().await;
    let early = Frame::text("early").bytes();
    let mut websocket = WebSocket::new(websocket.socket, &early, 100);
    client
        .write_all(&Frame::text("late").bytes())
        .await
        .unwrap();
    for expected in ["early", "late"] {
        let expected = Message::Text(expected.to_owned());
        assert_eq!(read(&mut websocket).await, Ok(expected));
    }
}
