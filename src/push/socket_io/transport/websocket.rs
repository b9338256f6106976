//! Packets over a WebSocket: one packet, one frame.
//!
//! All packets that are queued when the socket is ready go into one buffer and out with one flush.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::{
    CloseCode, CloseFrame, Message, Utf8Bytes, WebSocket as Socket, WebSocketUpgrade, close_code,
};
use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::Event;
use crate::push::socket_io::close_reason::CloseReason;
#[cfg(test)]
use crate::push::socket_io::close_reason::Farewell;
use crate::push::socket_io::engine_io::{BINARY_MARK, Packet};
use crate::push::socket_io::registry::Entry;

/// Clients send next to nothing, and there are many of them.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// A burst is written in pieces of about this size. The buffer stays allocated once it was used.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// A queue that grew beyond this in a burst gives its memory back.
const IDLE_QUEUE_CAPACITY: usize = 16;

/// Sets the bounds of a WebSocket that is about to be accepted.
pub(in crate::push) fn bound(
    upgrade: WebSocketUpgrade,
    payload_bytes_max: usize,
) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(payload_bytes_max)
        .max_frame_size(payload_bytes_max)
}

/// One client's WebSocket.
#[derive(Debug)]
pub(in crate::push) struct WebSocket {
    socket: Socket,
    queue: VecDeque<Bytes>,
    /// Whether the socket holds bytes that it has not passed on.
    is_flushing: bool,
    /// What the client is told when it has broken the WebSocket protocol.
    close_code: Option<CloseCode>,
    /// Keeps a connection known that began with long-polling, so that a second WebSocket for it can be told from
    /// nonsense.
    pub(super) entry: Option<Entry>,
}

impl WebSocket {
    /// Takes an accepted WebSocket.
    pub(in crate::push) fn new(socket: Socket) -> Self {
        Self {
            socket,
            queue: VecDeque::new(),
            is_flushing: false,
            close_code: None,
            entry: None,
        }
    }

    pub(super) fn queue(&mut self, packet: Bytes) {
        self.queue.push_back(packet);
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && !self.is_flushing
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.is_drained() {
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Event::Progress),
                Poll::Ready(Err(_)) => {
                    return Poll::Ready(Event::Closed(CloseReason::TransportFailed));
                }
                Poll::Pending => {}
            }
        }
        loop {
            let event = match ready!(self.poll_message(cx)) {
                Ok(Message::Text(text)) => match Packet::decode(&text) {
                    Ok(packet) => Event::Packet(packet),
                    Err(_) => Event::Closed(CloseReason::ProtocolViolation),
                },
                Ok(Message::Binary(binary)) => Event::Packet(Packet::Binary(binary)),
                // The library answers both by itself.
                Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                Ok(Message::Close(_)) => Event::Closed(CloseReason::TransportClosed),
                Err(reason) => Event::Closed(reason),
            };
            return Poll::Ready(event);
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, CloseReason>> {
        Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => {
                self.close_code = violation(error);
                Err(match self.close_code {
                    Some(_) => CloseReason::ProtocolViolation,
                    None => CloseReason::TransportFailed,
                })
            }
            None => Err(CloseReason::TransportClosed),
        })
    }

    /// Writes the whole queue, then flushes.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.queue.is_empty() {
            ready!(socket.as_mut().poll_ready(cx))?;
            if let Some(packet) = self.queue.pop_front() {
                self.is_flushing = true;
                socket.as_mut().start_send(message(packet))?;
            }
        }
        ready!(socket.as_mut().poll_flush(cx))?;
        self.is_flushing = false;
        if self.queue.capacity() > IDLE_QUEUE_CAPACITY {
            self.queue = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a close frame and waits for the client's own. A socket that is closed while bytes from the client are
    /// unread is reset, and a reset may overtake what was written last.
    pub(super) async fn close(&mut self) {
        let closed = match self.close_code {
            Some(code) => {
                let reason = Utf8Bytes::default();
                let close = Message::Close(Some(CloseFrame { code, reason }));
                self.socket.send(close).await
            }
            None => self.socket.close().await,
        };
        if closed.is_ok() {
            while let Some(Ok(_)) = self.socket.next().await {}
        }
    }

    /// Sends every message back as it came, which is what suites of the protocol ask for.
    #[cfg(test)]
    pub(in crate::push) async fn echo(mut self) {
        let reason = loop {
            match std::future::poll_fn(|cx| self.poll_message(cx)).await {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    if self.socket.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) => break CloseReason::TransportClosed,
                Err(reason) => break reason,
            }
        };
        if reason.farewell() != Farewell::Drop {
            self.close().await;
        }
    }
}

/// The close code for what broke the WebSocket protocol or its bounds (RFC 6455 §7.4.1); `None` when the socket itself
/// failed.
fn violation(error: axum::Error) -> Option<CloseCode> {
    match *error.into_inner().downcast().ok()? {
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(close_code::PROTOCOL),
        tungstenite::Error::Utf8(_) => Some(close_code::INVALID),
        tungstenite::Error::Capacity(_) => Some(close_code::SIZE),
        _ => None,
    }
}

/// The frame of an encoded packet.
fn message(mut packet: Bytes) -> Message {
    if packet.first() == Some(&BINARY_MARK) {
        packet.advance(1);
        return Message::Binary(packet);
    }
    let text = Utf8Bytes::try_from(packet).expect("text packets are written as text");
    Message::Text(text)
}
