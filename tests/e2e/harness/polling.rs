//! A Socket.IO client over HTTP long-polling, able to upgrade.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{
    Answer, Rest,
    packet::{Event, Packet},
    socket::{Pings, Socket, handshake},
};

/// Separates the packets of one payload (Engine.IO 4).
const PACKET_SEPARATOR: char = '\u{1e}';

/// An open polling transport.
pub(crate) struct Polling {
    rest: Rest,
    query: String,
    unread: VecDeque<Packet>,
}

impl Polling {
    /// Opens the transport and joins the root namespace; the relay must admit the session.
    pub(crate) async fn connect(rest: &Rest, session_id: &str) -> Self {
        let mut polling = Self::open(rest, session_id).await;
        polling.post("40").await.says(200, "ok");
        let packet = polling.next_packet().await;
        assert!(
            matches!(packet, Packet::Admitted { .. }),
            "not admitted: {packet:?}"
        );
        polling
    }

    /// Opens the transport.
    pub(crate) async fn open(rest: &Rest, session_id: &str) -> Self {
        let query = format!("sessionId={session_id}&EIO=4&transport=polling");
        let mut polling = Self {
            rest: rest.clone(),
            query,
            unread: VecDeque::new(),
        };
        let Packet::Open(open) = polling.next_packet().await else {
            panic!("the first packet is not open");
        };
        assert_eq!(open["upgrades"], serde_json::json!(["websocket"]));
        let engine_session_id = open["sid"].as_str().expect("sid is a string");
        polling.query = format!("{}&sid={engine_session_id}", polling.query);
        polling
    }

    /// Sends a payload.
    pub(crate) async fn post(&self, payload: &str) -> Answer {
        let path = format!("/socket.io/?{}", self.query);
        let call = self.rest.post(&path);
        call.header("Content-Type", "text/plain;charset=UTF-8")
            .body(payload)
            .await
    }

    /// Polls once.
    pub(crate) async fn poll(&self) -> Answer {
        self.rest.get(&format!("/socket.io/?{}", self.query)).await
    }

    /// The next packet, pings answered and included.
    pub(crate) async fn next_packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.unread.pop_front() {
                if packet == Packet::Ping {
                    self.post("3").await.says(200, "ok");
                }
                return packet;
            }
            let answer = self.poll().await;
            if answer.status != 200 {
                return Packet::TransportEnd;
            }
            self.unread
                .extend(answer.body.split(PACKET_SEPARATOR).map(Packet::parse));
        }
    }

    /// The next event; only pings may come before it.
    pub(crate) async fn next_data(&mut self) -> Event {
        loop {
            match self.next_packet().await {
                Packet::Data { event, .. } => return event,
                Packet::Ping | Packet::Noop => {}
                other => panic!("expected data, got {other:?}"),
            }
        }
    }

    /// Opens the WebSocket of an upgrade, and does nothing with it.
    pub(crate) async fn open_second_transport(&self) -> WebSocketStream<TcpStream> {
        let query = self
            .query
            .replace("transport=polling", "transport=websocket");
        handshake(&self.rest, &query).await.expect("upgraded")
    }

    /// Upgrades to WebSocket; nothing may arrive meanwhile.
    pub(crate) async fn upgrade(self) -> Socket {
        let (socket, events) = self.upgrade_with_events().await;
        assert_eq!(events, []);
        socket
    }

    /// Upgrades to WebSocket as the official client does: probe while a poll is pending, wait until the server has
    /// released that poll, then upgrade. Answers the events which the poll still brought.
    pub(crate) async fn upgrade_with_events(mut self) -> (Socket, Vec<Event>) {
        let mut stream = self.open_second_transport().await;
        stream.send(Message::text("2probe")).await.expect("sent");
        let probe = async {
            let answer = stream.next().await.expect("an answer").expect("a frame");
            assert_eq!(answer, Message::text("3probe"));
        };
        let ((), mut events) = tokio::join!(probe, async {
            let mut events = Vec::new();
            loop {
                match self.next_packet().await {
                    Packet::Noop => return events,
                    Packet::Data { event, .. } => events.push(event),
                    Packet::Ping => {}
                    other => panic!("expected the poll to be released, got {other:?}"),
                }
            }
        });
        for packet in self.unread {
            match packet {
                Packet::Data { event, .. } => events.push(event),
                other => panic!("after the release came {other:?}"),
            }
        }
        stream.send(Message::text("5")).await.expect("sent");
        (Socket::from_stream(stream, Pings::Answered), events)
    }
}
