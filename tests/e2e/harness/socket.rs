//! A Socket.IO client over WebSocket, written from the protocol and sharing no code with the server.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    PATIENCE, Rest,
    packet::{Event, Packet},
};

/// Packets kept until the test reads them; a test that leaves more unread waits in vain for the rest.
const PACKETS_MAX: usize = 100_000;
const OUTGOING_MAX: usize = 1_000;

/// A connected transport. Pings are answered unless [`Socket::connect_silent`] made it. Dropping it cuts the TCP
/// connection without a word.
pub(crate) struct Socket {
    packets: mpsc::Receiver<Packet>,
    outgoing: mpsc::Sender<Message>,
    _driver: AbortOnDropHandle<()>,
}

impl Socket {
    /// Connects and joins the root namespace; the relay must admit the session.
    pub(crate) async fn connect(rest: &Rest, session_id: &str) -> Self {
        let mut socket = Self::open(rest, session_id).await;
        socket.join("/").await;
        match socket.next_packet().await {
            Packet::Admitted { namespace, data } => {
                assert_eq!(namespace, "/");
                assert!(data["sid"].is_string(), "no sid in {data}");
            }
            other => panic!("the session was not admitted: {other:?}"),
        }
        socket
    }

    /// Connects and joins, whatever the relay will answer to that.
    pub(crate) async fn knock(rest: &Rest, session_id: &str) -> Self {
        let socket = Self::open(rest, session_id).await;
        socket.join("/").await;
        socket
    }

    /// Opens the transport and reads its open packet.
    pub(crate) async fn open(rest: &Rest, session_id: &str) -> Self {
        let query = format!("sessionId={session_id}&EIO=4&transport=websocket");
        let mut socket = Self::from_stream(
            handshake(rest, &query).await.expect("upgraded"),
            Pings::Answered,
        );
        let packet = socket.next_packet().await;
        assert!(matches!(packet, Packet::Open(_)), "not open: {packet:?}");
        socket
    }

    /// Joined like [`Self::connect`], but pings stay unanswered.
    pub(crate) async fn connect_silent(rest: &Rest, session_id: &str) -> Self {
        let query = format!("sessionId={session_id}&EIO=4&transport=websocket");
        let mut socket = Self::from_stream(
            handshake(rest, &query).await.expect("upgraded"),
            Pings::Ignored,
        );
        assert!(matches!(socket.next_packet().await, Packet::Open(_)));
        socket.join("/").await;
        assert!(matches!(
            socket.next_packet().await,
            Packet::Admitted { .. }
        ));
        socket
    }

    /// A transport on an established WebSocket.
    pub(crate) fn from_stream(stream: WebSocketStream<TcpStream>, pings: Pings) -> Self {
        let (packet_sink, packets) = mpsc::channel(PACKETS_MAX);
        let (outgoing, outgoing_source) = mpsc::channel(OUTGOING_MAX);
        let driver = tokio::spawn(drive(stream, packet_sink, outgoing_source, pings));
        Self {
            packets,
            outgoing,
            _driver: AbortOnDropHandle::new(driver),
        }
    }

    /// Asks to join `namespace`.
    pub(crate) async fn join(&self, namespace: &str) {
        let packet = match namespace {
            "/" => "40".to_owned(),
            other => format!("40{other},"),
        };
        self.send(&packet).await;
    }

    /// Sends a text frame.
    pub(crate) async fn send(&self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends any WebSocket message.
    pub(crate) async fn send_message(&self, message: Message) {
        // A closed channel means that the relay has ended the connection, which the test sees in its packets.
        let _ = self.outgoing.send(message).await;
    }

    /// The next packet, pings included.
    pub(crate) async fn next_packet(&mut self) -> Packet {
        timeout(PATIENCE, self.packets.recv())
            .await
            .expect("a packet arrives")
            .unwrap_or(Packet::TransportEnd)
    }

    /// The next event; no other packet but pings may come before it.
    pub(crate) async fn next_data(&mut self) -> Event {
        loop {
            match self.next_packet().await {
                Packet::Data { event, .. } => return event,
                Packet::Ping => {}
                other => panic!("expected data, got {other:?}"),
            }
        }
    }

    /// The events until `is_last` holds, which is the last of them.
    pub(crate) async fn data_until(&mut self, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next_data().await;
            let done = is_last(&event);
            events.push(event);
            if done {
                return events;
            }
        }
    }

    /// The events that arrive within `period`. For promises about time only; everything else is proven by order.
    pub(crate) async fn data_within(&mut self, period: Duration) -> Vec<Event> {
        let deadline = tokio::time::Instant::now() + period;
        let mut events = Vec::new();
        while let Ok(packet) = timeout_at(deadline, self.packets.recv()).await {
            match packet {
                Some(Packet::Data { event, .. }) => events.push(event),
                Some(Packet::Ping) => {}
                other => panic!("expected data, got {other:?}"),
            }
        }
        events
    }

    /// Whether packets are waiting to be read.
    pub(crate) fn has_unread_packets(&self) -> bool {
        !self.packets.is_empty()
    }

    /// Reads up to the end of the connection and answers whether the server said `41` before it.
    pub(crate) async fn ends_with_disconnect(&mut self) -> bool {
        let mut said = false;
        loop {
            match self.next_packet().await {
                Packet::Disconnect { namespace } => {
                    assert_eq!(namespace, "/");
                    said = true;
                }
                Packet::TransportEnd => return said,
                Packet::Data { event, .. } => {
                    assert!(!said, "an event after the disconnect: {}", event.text);
                }
                Packet::Ping | Packet::Close => {}
                other => panic!("expected the end, got {other:?}"),
            }
        }
    }

    /// Reads up to the end of the connection.
    pub(crate) async fn ended(&mut self) {
        while self.next_packet().await != Packet::TransportEnd {}
    }
}

/// What the client does with pings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pings {
    Answered,
    Ignored,
}

/// Opens a WebSocket at `/socket.io/` with `query`.
pub(crate) async fn handshake(
    rest: &Rest,
    query: &str,
) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let stream = TcpStream::connect(rest.authority()).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{}/socket.io/?{query}", rest.authority());
    let (stream, _response) = client_async(url, stream).await?;
    Ok(stream)
}

async fn drive(
    mut stream: WebSocketStream<TcpStream>,
    packets: mpsc::Sender<Packet>,
    mut outgoing: mpsc::Receiver<Message>,
    pings: Pings,
) {
    loop {
        tokio::select! {
            message = stream.next() => {
                let packet = match message {
                    Some(Ok(Message::Text(text))) => Packet::parse(&text),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(other)) => panic!("the relay sent {other:?}"),
                };
                if packet == Packet::Ping
                    && pings == Pings::Answered
                    && stream.send(Message::text("3")).await.is_err()
                {
                    return;
                }
                if packets.send(packet).await.is_err() {
                    return;
                }
            }
            Some(message) = outgoing.recv() => {
                if stream.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
}
