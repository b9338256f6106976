//! A subscriber's socket: read in big pieces into a buffer that all share, walked frame by frame.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::contender::{Deliver, Subscriber, Wish};
use crate::message::Delivery;
use crate::tally::Follower;
use crate::websocket_client::{Assembly, Frame, opcode, write_frame};

/// What one read may bring. A frame that is longer than this grows the buffer.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// One subscriber.
pub(crate) struct Receiver {
    pub(super) stream: TcpStream,
    protocol: Box<dyn Deliver>,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    assembly: Assembly,
    replies: Vec<u8>,
    /// See [`that_may_be_slow`](Self::that_may_be_slow).
    pub(super) may_be_slow: bool,
    pub(super) bytes_read: u64,
    pub(crate) follower: Follower,
}

impl Receiver {
    /// Takes over a subscriber.
    pub(crate) fn new(
        subscriber: Subscriber,
        wishes: &[Wish],
        selects_keys: bool,
    ) -> anyhow::Result<Self> {
        // It stays non-blocking.
        let stream = subscriber.stream.into_std()?;
        Ok(Self {
            stream,
            protocol: subscriber.protocol,
            partial: subscriber.read_ahead,
            assembly: Assembly::default(),
            replies: Vec::new(),
            may_be_slow: false,
            bytes_read: 0,
            follower: Follower::new(wishes, selects_keys),
        })
    }

    /// One that may be slowed down: what it gets is never among the latencies, and to be hung up on is no failure.
    pub(crate) fn that_may_be_slow(mut self) -> Self {
        self.may_be_slow = true;
        self
    }

    /// The port of the client's end.
    pub(crate) fn port(&self) -> anyhow::Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// How many deliveries so many bytes hold, judged by what came so far.
    pub(crate) fn deliveries_in(&self, bytes: u64) -> u64 {
        (bytes * self.follower.tally.received)
            .checked_div(self.bytes_read)
            .unwrap_or(0)
    }

    /// Reads what is there, at most `bytes_max`, and follows it. Each delivery that was asked for is handed to `note`
    /// with the time of the read.
    pub(super) fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
        mut note: impl FnMut(Delivery, Instant),
    ) -> anyhow::Result<usize> {
        let held = self.partial.len();
        let end = held + bytes_max;
        if buffer.len() < end {
            buffer.resize(end, 0);
        }
        let read = match self.stream.read(&mut buffer[held..end]) {
            Ok(0) => bail!("the server hung up on a subscriber"),
            Ok(read) => read,
            Err(error) if is_for_later(&error) => return Ok(0),
            Err(error) => return Err(error).context("a subscriber lost its connection"),
        };
        let read_at = Instant::now();
        self.bytes_read += read as u64;
        buffer[..held].copy_from_slice(&self.partial);
        self.partial.clear();
        let mut bytes = &buffer[..held + read];
        while let Some(frame) = Frame::take(&mut bytes)? {
            match frame.opcode {
                opcode::TEXT | opcode::BINARY | opcode::CONTINUATION => {
                    let Some(message) = self.assembly.message(frame)? else {
                        continue;
                    };
                    let follower = &mut self.follower;
                    let mut follow = |object: &[u8]| {
                        if let Some(delivery) = follower.follow(object) {
                            note(delivery, read_at);
                        }
                    };
                    self.protocol
                        .on_message(message, &mut follow, &mut self.replies)?;
                }
                opcode::PING => write_frame(opcode::PONG, frame.payload, &mut self.replies),
                opcode::PONG => {}
                _ => bail!(
                    "the server closed a subscriber: {}",
                    String::from_utf8_lossy(frame.payload)
                ),
            }
        }
        self.partial.extend_from_slice(bytes);
        if !self.replies.is_empty() {
            self.reply()?;
        }
        Ok(read)
    }

    /// Sends what is to be answered. Answers are a few bytes now and then, for which there is always room.
    fn reply(&mut self) -> anyhow::Result<()> {
        self.stream
            .write_all(&self.replies)
            .context("a subscriber cannot answer")?;
        self.replies.clear();
        Ok(())
    }
}

/// Whether an error only says that there is nothing to do now.
pub(super) fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
