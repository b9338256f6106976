//! The WebSocket transport of Engine.IO, put to the cases that every WebSocket endpoint is put to.

use std::net::SocketAddr;

use super::fixture::{Fixture, settings};
use super::harness::PATIENCE;
use crate::push::Settings;
use crate::push::websocket_conformance::{Frame, RawClient, Subject, websocket_conformance_tests};

struct EngineIo(Fixture);

impl EngineIo {
    async fn start() -> Self {
        // Its heartbeats are messages, which would come in between.
        let without_pings = Settings {
            ping_interval: PATIENCE * 10,
            ..settings()
        };
        Self(Fixture::with(without_pings).await)
    }
}

impl Subject for EngineIo {
    fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn path(&self) -> String {
        "/engine.io/?EIO=4&transport=websocket".to_owned()
    }

    async fn greet(&self, client: &mut RawClient) {
        let (opcode, open) = client.frame().await.unwrap();
        assert_eq!((opcode, open[0]), (Frame::TEXT, b'0'));
    }

    fn question(&self, filler: &str) -> String {
        format!("4{filler}")
    }

    fn is_answer(&self, question: &str, answer: &str) -> bool {
        question == answer
    }

    fn message_bytes_max(&self) -> usize {
        settings().payload_bytes_max
    }
}

websocket_conformance_tests!(EngineIo::start().await);

#[tokio::test]
async fn the_answer_to_an_unknown_websocket_version_names_the_known_one() {
    let subject = EngineIo::start().await;
    let line = format!("GET {} HTTP/1.1", subject.path());
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let (head, _) = RawClient::ask(subject.address(), &line, &headers).await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
}
