//! Messages over a WebSocket: one message, one text.
//!
//! While there is something to write, nothing is read: whoever does not read his answers is not asked for further
//! questions.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use relay_protocol::native::{Goodbye, GoodbyeCode};

use super::close_reason::CloseReason;
use crate::push::websocket::{Burst, Message, ReadError, Violation, WebSocket};

/// What a socket has to report.
#[derive(Debug)]
pub(super) enum Event {
    /// The client sent a text.
    Text(String),
    /// The client sent a ping or a pong. Pings are answered here.
    SignOfLife,
    /// Everything that was queued is written.
    Written,
    /// The connection has to end.
    Closed(CloseReason),
}

/// One client's WebSocket.
#[derive(Debug)]
pub(super) struct Socket(WebSocket);

impl Socket {
    /// Takes an accepted WebSocket.
    pub(super) fn new(socket: WebSocket) -> Self {
        Self(socket)
    }

    /// Takes a message, a UTF-8 text; [`poll_event`](Self::poll_event) writes it as soon as the client can take it.
    pub(super) fn queue(&mut self, text: Bytes) {
        self.0.queue_text(text);
    }

    /// Takes a ping.
    pub(super) fn queue_ping(&mut self) {
        self.0.queue_ping();
    }

    /// Writes a message at once. What the client does not take waits. Returns how many bytes there are.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        fill: impl FnOnce(&mut Burst<'_>),
    ) -> Result<usize, CloseReason> {
        let sent = self.0.send(cx, fill);
        sent.map_err(|_| CloseReason::SocketFailed)
    }

    /// Whether the operating system has taken every byte of what was queued.
    pub(super) fn is_written(&self) -> bool {
        self.0.is_written()
    }

    /// Whether the client took anything since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        self.0.take_progress()
    }

    /// Writes; when all is written, reads. Returns with the next thing to know. All state is in `self`.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.is_written() {
            return Poll::Ready(match ready!(self.0.poll_write(cx)) {
                Ok(()) => Event::Written,
                Err(_) => Event::Closed(CloseReason::SocketFailed),
            });
        }
        Poll::Ready(match ready!(self.0.poll_read(cx)) {
            Ok(Message::Text(text)) => Event::Text(text),
            Ok(Message::Ping(_) | Message::Pong) => Event::SignOfLife,
            Ok(Message::Binary(_)) => Event::Closed(CloseReason::Goodbye(GoodbyeCode::BinaryFrame)),
            Ok(Message::Close(_)) => Event::Closed(CloseReason::ClosedByClient),
            Err(ReadError::Violation(violation)) => {
                Event::Closed(CloseReason::Goodbye(code_of(violation)))
            }
            Err(ReadError::Gone) => Event::Closed(CloseReason::SocketFailed),
        })
    }

    /// Writes on until everything queued is written.
    pub(super) async fn write(&mut self) -> Result<(), CloseReason> {
        let written = poll_fn(|cx| self.0.poll_write(cx)).await;
        written.map_err(|_| CloseReason::SocketFailed)
    }

    /// Answers the client's close frame.
    pub(super) async fn answer_close(&mut self) {
        self.0.close(None, "").await;
    }

    /// Sends the close frame that belongs to a goodbye, and waits for the client's own.
    pub(super) async fn close(&mut self, goodbye: &Goodbye) {
        let code = goodbye.code.close_code();
        self.0.close(Some(code), goodbye.code.as_str()).await;
    }
}

fn code_of(violation: Violation) -> GoodbyeCode {
    match violation {
        Violation::Protocol => GoodbyeCode::MalformedFrame,
        Violation::NotUtf8 => GoodbyeCode::InvalidUtf8,
        Violation::TooLong => GoodbyeCode::MessageTooLarge,
    }
}
