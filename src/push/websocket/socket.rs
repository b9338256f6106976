//! Messages over a WebSocket: one message, one text, written in fragments of a bounded size.
//!
//! A long text does not have to fit into the socket's buffer as a whole, and a client that takes it slowly can be told from
//! one that does not take it at all. While there is something to write, nothing is read: whoever does not read his answers
//! is not asked for further questions.
//!
//! Only this module knows which WebSocket library is used.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use relay_protocol::native::{Goodbye, GoodbyeCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::close_reason::CloseReason;

/// Most clients send little, and there are many of them.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Size of a fragment. The library's buffer takes two at most and stays allocated once it was used.
const FRAGMENT_BYTES: usize = 16 * 1024;

/// What a socket has to report.
#[derive(Debug)]
pub(super) enum Event {
    /// The client sent a text.
    Text(Utf8Bytes),
    /// The client sent a ping or a pong; the library answers pings by itself.
    SignOfLife,
    /// Everything that was queued is written.
    Written,
    /// The connection has to end.
    Closed(CloseReason),
}

/// One client's WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    queue: VecDeque<Outgoing>,
    /// Whether the library holds bytes that it has not passed on.
    is_flushing: bool,
    /// Whether the client took anything since [`take_progress`](Self::take_progress).
    has_progressed: bool,
    /// Whether reading has failed, so that a close frame of the client can no longer be told from other bytes.
    is_unreadable: bool,
}

#[derive(Debug)]
enum Outgoing {
    Text { rest: Bytes, is_begun: bool },
    Ping,
}

impl Socket {
    /// Takes over a socket whose handshake is done.
    pub(super) async fn new(upgraded: Upgraded, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(FRAGMENT_BYTES)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let io = TokioIo::new(upgraded);
        Self {
            stream: WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await,
            queue: VecDeque::new(),
            is_flushing: false,
            has_progressed: false,
            is_unreadable: false,
        }
    }

    /// Takes a message, a UTF-8 text; [`event`](Self::event) writes it as soon as the client can take it.
    pub(super) fn queue(&mut self, text: Bytes) {
        self.queue.push_back(Outgoing::Text {
            rest: text,
            is_begun: false,
        });
    }

    /// Takes a ping.
    pub(super) fn queue_ping(&mut self) {
        self.queue.push_back(Outgoing::Ping);
    }

    /// Whether the operating system has taken every byte of what was queued.
    pub(super) fn is_written(&self) -> bool {
        self.queue.is_empty() && !self.is_flushing
    }

    /// Whether the client took anything since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Writes; when all is written, reads. Returns with the next thing to know. Cancel-safe: all state is in `self`.
    pub(super) async fn event(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Writes on until everything queued is written.
    pub(super) async fn write(&mut self) -> Result<(), CloseReason> {
        std::future::poll_fn(|cx| self.poll_write(cx))
            .await
            .map_err(|_| CloseReason::SocketFailed)
    }

    /// Answers the client's close frame.
    pub(super) async fn answer_close(&mut self) {
        // The library has queued the answer; reading on sends it and sees the end.
        while let Some(Ok(_)) = self.stream.next().await {}
    }

    /// Sends the close frame that belongs to a goodbye, and waits for the client's own. A socket that is closed while
    /// bytes from the client are unread is reset, and a reset may overtake what was written last.
    pub(super) async fn close(&mut self, goodbye: &Goodbye) {
        let frame = CloseFrame {
            code: goodbye.code.close_code().into(),
            reason: Utf8Bytes::from(goodbye.code.as_str()),
        };
        if self.stream.close(Some(frame)).await.is_err() {
            return;
        }
        if !self.is_unreadable {
            while let Some(Ok(_)) = self.stream.next().await {}
            return;
        }
        let io = self.stream.get_mut();
        if io.shutdown().await.is_ok() {
            let mut unread = [0; 1024];
            while io.read(&mut unread).await.is_ok_and(|bytes| bytes > 0) {}
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.is_written() {
            return Poll::Ready(match ready!(self.poll_write(cx)) {
                Ok(()) => Event::Written,
                Err(_) => Event::Closed(CloseReason::SocketFailed),
            });
        }
        Poll::Ready(match ready!(self.stream.poll_next_unpin(cx)) {
            Some(Ok(Message::Text(text))) => Event::Text(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Event::SignOfLife,
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                Event::Closed(CloseReason::Goodbye(GoodbyeCode::BinaryFrame))
            }
            Some(Ok(Message::Close(_))) => Event::Closed(CloseReason::ClosedByClient),
            Some(Err(error)) => {
                self.is_unreadable = true;
                Event::Closed(reason(&error))
            }
            None => Event::Closed(CloseReason::SocketFailed),
        })
    }

    /// Writes the whole queue, then flushes.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut stream = Pin::new(&mut self.stream);
        while let Some(outgoing) = self.queue.front_mut() {
            ready!(stream.as_mut().poll_ready(cx))?;
            self.has_progressed = true;
            self.is_flushing = true;
            let (message, is_whole) = outgoing.next();
            if is_whole {
                self.queue.pop_front();
            }
            stream.as_mut().start_send(message)?;
        }
        ready!(stream.as_mut().poll_flush(cx))?;
        self.is_flushing = false;
        self.has_progressed = true;
        Poll::Ready(Ok(()))
    }
}

impl Outgoing {
    /// What is to be sent next, and whether that is all of it.
    fn next(&mut self) -> (Message, bool) {
        let Self::Text { rest, is_begun } = self else {
            return (Message::Ping(Bytes::new()), true);
        };
        let opcode = if std::mem::replace(is_begun, true) {
            Data::Continue
        } else {
            Data::Text
        };
        let fragment = rest.split_to(rest.len().min(FRAGMENT_BYTES));
        let is_whole = rest.is_empty();
        let frame = Frame::message(fragment, OpCode::Data(opcode), is_whole);
        (Message::Frame(frame), is_whole)
    }
}

fn reason(error: &Error) -> CloseReason {
    match error {
        Error::Utf8(_) => CloseReason::Goodbye(GoodbyeCode::InvalidUtf8),
        Error::Capacity(_) => CloseReason::Goodbye(GoodbyeCode::MessageTooLarge),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => CloseReason::SocketFailed,
        Error::Protocol(_) => CloseReason::Goodbye(GoodbyeCode::MalformedFrame),
        _ => CloseReason::SocketFailed,
    }
}
