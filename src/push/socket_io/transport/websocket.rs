//! Packets over a WebSocket: one packet, one frame.

use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};

use super::Event;
use crate::push::socket_io::close_reason::CloseReason;
#[cfg(test)]
use crate::push::socket_io::close_reason::Farewell;
use crate::push::socket_io::engine_io::{BINARY_MARK, Packet};
use crate::push::socket_io::registry::Entry;
use crate::push::websocket::{self, Burst, Message, ReadError};

/// One client's WebSocket.
#[derive(Debug)]
pub(in crate::push) struct WebSocket {
    socket: websocket::WebSocket,
    /// Keeps a connection known that began with long-polling, so that a second WebSocket for it can be told from
    /// nonsense.
    pub(super) entry: Option<Box<Entry>>,
}

impl WebSocket {
    /// Takes an accepted WebSocket.
    pub(in crate::push) fn new(socket: websocket::WebSocket) -> Self {
        Self {
            socket,
            entry: None,
        }
    }

    pub(super) fn queue(&mut self, mut packet: Bytes) {
        if packet.first() == Some(&BINARY_MARK) {
            packet.advance(1);
            self.socket.queue_binary(packet);
        } else {
            self.socket.queue_text(packet);
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.socket.queued()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.socket.is_written()
    }

    /// Writes packets at once. What the socket does not take waits. Returns how many bytes there are.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        fill: impl FnOnce(&mut Burst<'_>),
    ) -> Result<usize, CloseReason> {
        let sent = self.socket.send(cx, fill);
        sent.map_err(|_| CloseReason::TransportFailed)
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if !self.is_drained() {
                match self.socket.poll_write(cx) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Event::Progress),
                    Poll::Ready(Err(_)) => {
                        return Poll::Ready(Event::Closed(CloseReason::TransportFailed));
                    }
                    Poll::Pending => {}
                }
            }
            return Poll::Ready(match ready!(self.socket.poll_read(cx)) {
                Ok(Message::Text(text)) => match Packet::decode(&text) {
                    Ok(packet) => Event::Packet(packet),
                    Err(_) => Event::Closed(CloseReason::ProtocolViolation),
                },
                Ok(Message::Binary(binary)) => Event::Packet(Packet::Binary(binary.into())),
                Ok(Message::Ping(_) | Message::Pong) => continue,
                Ok(Message::Close(_)) => Event::Closed(CloseReason::TransportClosed),
                Err(error) => Event::Closed(reason(error)),
            });
        }
    }

    /// Sends a close frame and waits for the client's own.
    pub(super) async fn close(&mut self) {
        self.socket.close(None, "").await;
    }

    /// Sends every message back as it came, which is what suites of the protocol ask for.
    #[cfg(test)]
    pub(in crate::push) async fn echo(mut self) {
        use std::future::poll_fn;

        let reason = loop {
            match poll_fn(|cx| self.socket.poll_read(cx)).await {
                Ok(Message::Text(text)) => self.socket.queue_text(text.into()),
                Ok(Message::Binary(binary)) => self.socket.queue_binary(binary.into()),
                Ok(Message::Ping(_) | Message::Pong) => {}
                Ok(Message::Close(_)) => break CloseReason::TransportClosed,
                Err(error) => break reason(error),
            }
            if poll_fn(|cx| self.socket.poll_write(cx)).await.is_err() {
                return;
            }
        };
        if reason.farewell() != Farewell::Drop {
            self.close().await;
        }
    }
}

fn reason(error: ReadError) -> CloseReason {
    match error {
        ReadError::Violation(_) => CloseReason::ProtocolViolation,
        ReadError::Gone => CloseReason::TransportFailed,
    }
}
