//! The WebSocket transport of Engine.IO, put to the cases that every WebSocket endpoint is put to.

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
    async fn open(&self) -> RawClient {
        let path = "/engine.io/?EIO=4&transport=websocket";
        let mut client = RawClient::open(self.0.address, path).await;
        let (opcode, open) = client.frame().await.unwrap();
        assert_eq!((opcode, open[0]), (Frame::TEXT, b'0'));
        client
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
