//! One client's WebSocket: frames on its socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

use super::burst::Burst;
use super::frame_header::{Opcode, header_of};
use super::incoming::{Incoming, Message, Violation};
use crate::http::UpgradedSocket;

/// Most that is read at once.
const READ_BYTES: usize = 16 * 1024;

/// A thread keeps no more than this from one burst to the next.
const BURST_CAPACITY_MAX: usize = 256 * 1024;

/// Longest payload that is copied to be in one piece with its header.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// Most pieces that are given to the socket at once when they wait one by one.
const SLICES_MAX: usize = 16;

thread_local! {
    /// Lent to whichever connection of this thread reads.
    static READING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Lent to whichever connection of this thread writes.
    static WRITING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::push) enum ReadError {
    /// The client broke the protocol.
    Violation(Violation),
    /// The socket has failed, or ended without a close frame.
    Gone,
}

/// A WebSocket whose handshake is done.
#[derive(Debug)]
pub(in crate::push) struct WebSocket {
    socket: UpgradedSocket,
    incoming: Incoming,
    message_bytes_max: usize,
    /// What the socket has not taken yet: frames in one or more pieces, the first of which may have left in part.
    waiting: VecDeque<Bytes>,
    /// The payload of the answer to the last ping, which goes out when nothing else waits.
    pong: Option<Box<[u8]>>,
    ending: Ending,
    /// Whether the client took anything since [`take_progress`](WebSocket::take_progress).
    has_progressed: bool,
}

/// How far the end of the connection has come.
#[derive(Debug)]
enum Ending {
    /// Neither side has said so.
    Open,
    /// The client has sent a close frame, which is answered with this payload.
    ByClient(Box<[u8]>),
    /// The client has sent what cannot be read.
    Violated(Violation),
    /// Our close frame is on its way: nothing follows it.
    Closing,
}

impl WebSocket {
    /// Takes over a socket. `early` is what the client sent before it had the answer to its handshake.
    pub(super) fn new(socket: UpgradedSocket, early: &[u8], message_bytes_max: usize) -> Self {
        let mut incoming = Incoming::default();
        if !early.is_empty() {
            incoming.add(early);
        }
        Self {
            socket,
            incoming,
            message_bytes_max,
            waiting: VecDeque::new(),
            pong: None,
            ending: Ending::Open,
            has_progressed: false,
        }
    }

    /// Takes a text, which must be UTF-8; [`poll_write`](Self::poll_write) writes it as soon as the client can take it.
    pub(in crate::push) fn queue_text(&mut self, text: Bytes) {
        self.queue(Opcode::Text, text);
    }

    /// Takes a binary message in the same way.
    pub(in crate::push) fn queue_binary(&mut self, payload: Bytes) {
        self.queue(Opcode::Binary, payload);
    }

    /// Takes a ping in the same way.
    pub(in crate::push) fn queue_ping(&mut self) {
        self.queue(Opcode::Ping, Bytes::new());
    }

    fn queue(&mut self, opcode: Opcode, payload: Bytes) {
        let header = header_of(opcode, payload.len());
        if payload.len() <= COPIED_BYTES_MAX {
            let frame = [&*header, &payload].concat();
            self.waiting.push_back(frame.into());
        } else {
            self.waiting.push_back(Bytes::copy_from_slice(&header));
            self.waiting.push_back(payload);
        }
    }

    /// About how many frames wait; for each at least one is counted.
    pub(in crate::push) fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the operating system has taken every byte of what was to be written.
    pub(in crate::push) fn is_written(&self) -> bool {
        self.waiting.is_empty() && self.pong.is_none()
    }

    /// Whether the client took anything since the last call.
    pub(in crate::push) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Whether it keeps any memory beside its own.
    #[cfg(test)]
    pub(in crate::push) fn holds_nothing(&self) -> bool {
        self.incoming.holds_nothing() && self.waiting.capacity() == 0 && self.pong.is_none()
    }

    /// Writes what `fill` puts together, at once and in one write if the socket takes it. What it does not take waits,
    /// behind what waits already. Returns how many bytes there are of it.
    pub(in crate::push) fn send(
        &mut self,
        cx: &mut Context<'_>,
        fill: impl FnOnce(&mut Burst<'_>),
    ) -> io::Result<usize> {
        WRITING.with_borrow_mut(|bytes| {
            bytes.clear();
            fill(&mut Burst::new(bytes));
            let mut rest = bytes.as_slice();
            while !rest.is_empty() && self.is_written() {
                match Pin::new(&mut self.socket).poll_write(cx, rest)? {
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => {
                        rest = &rest[written..];
                        self.has_progressed = true;
                    }
                    Poll::Pending => break,
                }
            }
            if !rest.is_empty() {
                self.waiting.push_back(Bytes::copy_from_slice(rest));
            }
            let len = bytes.len();
            if bytes.capacity() > BURST_CAPACITY_MAX {
                *bytes = Vec::new();
            }
            Ok(len)
        })
    }

    /// Writes until nothing waits.
    pub(in crate::push) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.waiting.is_empty() {
                let Some(pong) = self.pong.take() else {
                    // An idle client should not keep the memory that a burst needed.
                    self.waiting = VecDeque::new();
                    return Poll::Ready(Ok(()));
                };
                self.queue(Opcode::Pong, Bytes::from(pong));
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.waiting) {
                *slice = IoSlice::new(frame);
                count += 1;
            }
            let socket = Pin::new(&mut self.socket);
            let mut written = ready!(socket.poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_progressed = true;
            while let Some(frame) = self.waiting.front_mut() {
                if frame.len() > written {
                    frame.advance(written);
                    break;
                }
                written -= frame.len();
                self.waiting.pop_front();
            }
        }
    }

    /// Reads the next message or control frame. Pings are answered by the next [`poll_write`](Self::poll_write); when
    /// they come faster than that, the last one is.
    pub(in crate::push) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Message, ReadError>> {
        if let Ending::ByClient(_) | Ending::Violated(_) = self.ending {
            return Poll::Ready(Err(ReadError::Gone));
        }
        loop {
            match self.incoming.next(self.message_bytes_max) {
                Ok(Some(mut message)) => {
                    self.on_message(&mut message);
                    return Poll::Ready(Ok(message));
                }
                Ok(None) => {}
                Err(violation) => {
                    self.ending = Ending::Violated(violation);
                    return Poll::Ready(Err(ReadError::Violation(violation)));
                }
            }
            match ready!(self.poll_more(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(ReadError::Gone)),
                Ok(_) => {}
            }
        }
    }

    fn on_message(&mut self, message: &mut Message) {
        // Nothing may follow our own close frame.
        if let Ending::Closing = self.ending {
            return;
        }
        match message {
            Message::Ping(payload) => self.pong = Some(std::mem::take(payload)),
            Message::Close(answer) => self.ending = Ending::ByClient(std::mem::take(answer)),
            Message::Text(_) | Message::Binary(_) | Message::Pong => {}
        }
    }

    /// Takes in what the socket has. Returns how many bytes; 0 at its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READING.with_borrow_mut(|bytes| {
            bytes.resize(READ_BYTES, 0);
            let mut buffer = ReadBuf::new(bytes);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            self.incoming.add(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Ends the connection in order: sends a close frame behind all that waits, and waits for the client's own. A close
    /// frame of the client is answered with what it says; what cannot be read is told with its code, unless there is one
    /// to say it with.
    ///
    /// A socket that is closed while bytes from the client are unread is reset, and a reset may overtake what was written
    /// last. So whatever the client still sends is read and dropped. May wait for the client; the caller bounds that.
    pub(in crate::push) async fn close(&mut self, code: Option<u16>, reason: &str) {
        self.pong = None;
        match std::mem::replace(&mut self.ending, Ending::Closing) {
            Ending::Open => {
                if self.write_close(close_payload(code, reason)).await.is_ok() {
                    self.read_close().await;
                }
            }
            Ending::ByClient(answer) => {
                let _ = self.write_close(answer.into()).await;
            }
            Ending::Violated(violation) => {
                let code = code.unwrap_or(violation.close_code());
                let payload = close_payload(Some(code), reason);
                if self.write_close(payload).await.is_ok() {
                    self.read_to_the_end().await;
                }
            }
            Ending::Closing => {}
        }
    }

    async fn write_close(&mut self, payload: Bytes) -> io::Result<()> {
        self.queue(Opcode::Close, payload);
        poll_fn(|cx| self.poll_write(cx)).await
    }

    async fn read_close(&mut self) {
        loop {
            match poll_fn(|cx| self.poll_read(cx)).await {
                Ok(Message::Close(_)) | Err(ReadError::Gone) => return,
                Ok(_) => {}
                Err(ReadError::Violation(_)) => return self.read_to_the_end().await,
            }
        }
    }

    /// Ends our side, and drops what the client sends until it ends its own.
    async fn read_to_the_end(&mut self) {
        if self.socket.shutdown().await.is_ok() {
            let mut unread = Box::new([0; 1024]);
            let unread = unread.as_mut_slice();
            while self.socket.read(unread).await.is_ok_and(|bytes| bytes > 0) {}
        }
    }
}

fn close_payload(code: Option<u16>, reason: &str) -> Bytes {
    match code {
        Some(code) => [&code.to_be_bytes(), reason.as_bytes()].concat().into(),
        None => Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
