//! Peers that break AMQP: clients of the stand-in, and a source that the relay consumes.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::harness::{Devhub, DeviceEvent, Injector, PATIENCE, Relay};

const SASL_HEADER: &[u8] = b"AMQP\x03\x01\x00\x00";
const AMQP_HEADER: &[u8] = b"AMQP\x00\x01\x00\x00";
/// `sasl-init` choosing ANONYMOUS.
const SASL_INIT: &[u8] = b"\x00\x53\x41\xc0\x0c\x01\xa3\x09ANONYMOUS";
/// `open` with the container id `x`.
const OPEN: &[u8] = b"\x00\x53\x10\xc0\x04\x01\xa1\x01x";
/// `begin` of a session.
const BEGIN: &[u8] = b"\x00\x53\x11\xc0\x07\x04\x40\x43\x52\x64\x52\x64";

#[tokio::test]
async fn the_stand_in_closes_connections_that_are_not_amqp() {
    let devhub = Devhub::start().await;
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"AMQP\x00\x00\x09\x01".to_vec(),
        vec![0; 64],
        [SASL_HEADER, &[0xff; 64]].concat(),
        [SASL_HEADER, &frame(1, b"\x00\x53\x7f\x45")].concat(),
        [SASL_HEADER, &frame(1, SASL_INIT), b"AMQP\x07\x01\x00\x00"].concat(),
    ] {
        assert_closed_after(
            &devhub,
            &bytes,
            &format!("{:?}", bytes.escape_ascii().to_string()),
        )
        .await;
    }
    still_serves(&devhub).await;
}

#[tokio::test]
async fn the_stand_in_closes_connections_with_malformed_frames() {
    let devhub = Devhub::start().await;
    for (what, bytes) in [
        (
            "a size below the frame header",
            b"\x00\x00\x00\x04\x02\x00\x00\x00".to_vec(),
        ),
        (
            "a size beyond every limit",
            b"\xff\xff\xff\xff\x02\x00\x00\x00".to_vec(),
        ),
        (
            "a data offset inside the header",
            b"\x00\x00\x00\x08\x01\x00\x00\x00".to_vec(),
        ),
        (
            "a data offset beyond the frame",
            b"\x00\x00\x00\x08\x0a\x00\x00\x00".to_vec(),
        ),
        ("an unknown performative", frame(0, b"\x00\x53\x7f\x45")),
        (
            "a body that is no performative",
            frame(0, b"\xff\xff\xff\xff"),
        ),
        (
            "a list shorter than it says",
            frame(0, b"\x00\x53\x11\xc0\x40\x04\x40"),
        ),
        ("lists in lists in lists", frame(0, &nested_lists(5_000))),
    ] {
        let bytes = [&opened()[..], &bytes].concat();
        assert_closed_after(&devhub, &bytes, what).await;
    }
    still_serves(&devhub).await;
}

#[tokio::test]
async fn links_that_do_not_exist_disturb_no_one_else() {
    let devhub = Devhub::start().await;
    for (what, performatives) in [
        ("a session without link", vec![BEGIN]),
        // transfer on handle 7, which no attach named
        (
            "a transfer without link",
            vec![
                BEGIN,
                b"\x00\x53\x14\xc0\x08\x04\x52\x07\x43\xa0\x01\x00\x43",
            ],
        ),
        // detach of handle 7
        (
            "a detach without link",
            vec![BEGIN, b"\x00\x53\x16\xc0\x04\x02\x52\x07\x41"],
        ),
        (
            "a session that ends twice",
            vec![BEGIN, b"\x00\x53\x17\x45", b"\x00\x53\x17\x45"],
        ),
    ] {
        let frames: Vec<u8> = performatives
            .iter()
            .flat_map(|body| frame(0, body))
            .collect();
        let mut stream = TcpStream::connect(devhub.amqp_address())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        stream
            .write_all(&[opened(), frames].concat())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        assert_ends(&mut stream, what).await;
    }
    still_serves(&devhub).await;
}

#[tokio::test]
async fn the_relay_survives_a_source_that_does_not_speak_amqp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connection_string = format!(
        "Endpoint=sb://{address};SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0;EntityPath=hub;\
         UseDevelopmentEmulator=true"
    );
    let mut relay = Relay::start(&connection_string, &[]).await;
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"AMQP\x03\x01\x00\x00\xff\xff\xff\xff\x02\x01\x00\x00",
        b"",
    ] {
        let (mut connection, _) = timeout(PATIENCE, listener.accept())
            .await
            .expect("the relay connects again")
            .unwrap();
        connection.write_all(answer).await.unwrap();
    }
    relay
        .rest
        .get("/status")
        .await
        .says(503, "Still initializing");
    assert!(relay.process.is_running());
}

/// Requires that the stand-in still takes events.
async fn still_serves(devhub: &Devhub) {
    let mut injector = Injector::connect(&devhub.event_hub_connection_string).await;
    injector
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
}

async fn assert_closed_after(devhub: &Devhub, bytes: &[u8], what: &str) {
    let mut stream = TcpStream::connect(devhub.amqp_address())
        .await
        .expect("the stand-in listens");
    // It may close before it has read everything, which then shows here already.
    let _ = stream.write_all(bytes).await;
    assert_ends(&mut stream, what).await;
}

/// Reads to the end of the connection, which is either orderly or a reset.
async fn assert_ends(stream: &mut TcpStream, what: &str) {
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection stays open after {what}");
}

/// An opened connection: the SASL exchange and the `open`, sent ahead of the answers, as some clients do.
fn opened() -> Vec<u8> {
    [
        SASL_HEADER,
        &frame(1, SASL_INIT),
        AMQP_HEADER,
        &frame(0, OPEN),
    ]
    .concat()
}

/// A frame on channel 0 (AMQP 1.0 §2.3.1).
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).expect("small");
    [&size.to_be_bytes()[..], &[2, kind, 0, 0], body].concat()
}

/// A `begin` whose fields are lists of one list, `depth` times.
fn nested_lists(depth: usize) -> Vec<u8> {
    let mut value = vec![0x45];
    for _ in 0..depth {
        let size = u32::try_from(value.len() + 4).expect("small");
        value = [
            &[0xd0],
            &size.to_be_bytes()[..],
            &1_u32.to_be_bytes(),
            &value,
        ]
        .concat();
    }
    [b"\x00\x53\x11", &value[..]].concat()
}
