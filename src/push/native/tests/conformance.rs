//! The endpoint of native clients, put to the cases that every WebSocket endpoint is put to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::harness::Server;
use crate::push::Settings;
use crate::push::websocket_conformance::{Frame, RawClient, Subject, websocket_conformance_tests};

struct Native {
    server: Server,
    /// All of one length, so that only the filler decides how long a question is.
    last_id: AtomicU64,
}

impl Native {
    async fn start() -> Self {
        Self {
            server: Server::start().await,
            last_id: AtomicU64::new(1_000_000),
        }
    }
}

impl Subject for Native {
    fn address(&self) -> SocketAddr {
        self.server.address
    }

    fn path(&self) -> String {
        "/ws".to_owned()
    }

    async fn greet(&self, client: &mut RawClient) {
        client.send(Frame::text("{\"type\":\"hello\"}")).await;
        let (opcode, hello) = client.frame().await.unwrap();
        assert_eq!(opcode, Frame::TEXT);
        let hello: Value = serde_json::from_slice(&hello).unwrap();
        assert_eq!(hello["type"], "hello");
    }

    fn question(&self, filler: &str) -> String {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        format!("{{\"type\":\"ping\",\"id\":{id},\"filler\":\"{filler}\"}}")
    }

    fn is_answer(&self, question: &str, answer: &str) -> bool {
        let [question, answer] = [question, answer].map(|text| {
            let message: Value = serde_json::from_str(text).unwrap();
            message
        });
        answer["type"] == "pong" && answer["id"] == question["id"]
    }

    fn message_bytes_max(&self) -> usize {
        Settings::default().payload_bytes_max
    }

    fn is_goodbye(&self, text: &str) -> bool {
        let message: Value = serde_json::from_str(text).unwrap();
        message["type"] == "goodbye"
    }
}

websocket_conformance_tests!(Native::start().await);
