//! Peers that break the rules are told so and cut off; the others notice nothing.

use std::time::Duration;

use devhub::{Devhub, Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::{Client, Reading, fill_partition, options, sequences, soon, start};

/// SASL and open without waiting for an answer, as the Python SDK does.
pub(crate) const OPENING: &[u8] = b"AMQP\x03\x01\x00\x00\
    \x00\x00\x00\x1b\x02\x01\x00\x00\x00\x53\x41\xc0\x0e\x03\xa3\x09ANONYMOUS\x40\x40\
    AMQP\x00\x01\x00\x00\
    \x00\x00\x00\x11\x02\x00\x00\x00\x00\x53\x10\xc0\x04\x01\xa1\x01c";

/// Everything the peer says until it hangs up.
async fn answer(devhub: &Devhub, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(devhub.amqp_address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset also is an end; what came before it counts.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    answer
}

pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn broken_frames_close_their_connection_with_a_reason_and_no_other() {
    let devhub = start().await;
    fill_partition(&devhub, 0, 1);
    let mut client = Client::authorized(&devhub).await;
    let mut receiver = client.receiver(Reading::default()).await;
    for (frame, condition) in [
        (&b"\xff\xff\xff\xff\x02\x00\x00\x00"[..], "framing-error"),
        (b"\x00\x00\x00\x04\x02\x00\x00\x00", "framing-error"),
        (b"\x00\x00\x00\x0a\x02\x00\x00\x00\xde\xad", "decode-error"),
        // an attach on a channel without session
        (
            b"\x00\x00\x00\x13\x02\x00\x00\x07\x00\x53\x12\xc0\x06\x03\xa1\x01n\x43\x41",
            "not-allowed",
        ),
        // a second open
        (
            b"\x00\x00\x00\x11\x02\x00\x00\x00\x00\x53\x10\xc0\x04\x01\xa1\x01c",
            "not-allowed",
        ),
        // a begin on a channel past channel-max
        (
            b"\x00\x00\x00\x12\x02\x00\xff\xff\x00\x53\x11\xc0\x05\x04\x40\x43\x43\x43",
            "not-allowed",
        ),
    ] {
        let answer = answer(&devhub, &[OPENING, frame].concat()).await;
        assert!(contains(&answer, condition), "{frame:x?}: {condition}");
    }
    assert_eq!(sequences(&mut receiver, 1).await, [0]);
    devhub.stop().await;
}

#[tokio::test]
async fn another_protocol_is_told_what_is_spoken_here() {
    let devhub = start().await;
    for opening in [&b"POST / HTTP/1.1\r\n\r\n"[..], b"AMQP\x00\x00\x09\x01"] {
        assert_eq!(answer(&devhub, opening).await, b"AMQP\x03\x01\x00\x00");
    }
    devhub.stop().await;
}

#[tokio::test]
async fn a_silent_peer_is_told_and_cut_off() {
    let devhub = Devhub::start(Options {
        idle_timeout: Duration::from_millis(50),
        ..options()
    })
    .await
    .unwrap();
    let answer = answer(&devhub, OPENING).await;
    assert!(contains(&answer, "local-idle-timeout expired"));
    devhub.stop().await;
}

#[tokio::test]
async fn connections_past_the_limit_are_refused() {
    let devhub = Devhub::start(Options {
        connections_max: 1,
        ..options()
    })
    .await
    .unwrap();
    let mut client = Client::authorized(&devhub).await;
    assert_eq!(answer(&devhub, b"").await, b"");
    client.receiver(Reading::default()).await;
    devhub.stop().await;
}
