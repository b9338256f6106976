//! The publisher's socket: messages are written into a buffer as long as there is a reason to send, and the buffer into
//! the socket as long as it takes any.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, ensure};

use super::receiver::is_for_later;
use crate::contender::{Publish, Publisher};
use crate::message::Body;

/// The buffer is filled up to about this size before it is written.
const WRITE_BYTES: usize = 64 * 1024;

/// Writes messages of all devices in turn.
pub(crate) struct Feeder {
    pub(super) stream: TcpStream,
    protocol: Box<dyn Publish>,
    body: Body,
    devices: usize,
    /// The device and the number of the next message.
    next: (usize, u64),
    sent: u64,
    acknowledged: u64,
    out: Vec<u8>,
    written: usize,
}

impl Feeder {
    /// Takes over a publisher.
    pub(crate) fn new(publisher: Publisher, devices: usize) -> anyhow::Result<Self> {
        // It stays non-blocking.
        let stream = publisher.stream.into_std()?;
        Ok(Self {
            stream,
            protocol: publisher.protocol,
            body: Body::new(),
            devices,
            next: (0, 1),
            sent: 0,
            acknowledged: 0,
            out: Vec::new(),
            written: 0,
        })
    }

    /// Messages that were handed to the socket or wait for it.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends up to `messages` more, as far as the socket takes them. Returns whether it takes no more for now.
    pub(super) fn send(&mut self, messages: u64) -> anyhow::Result<bool> {
        let mut left = messages.min(self.room());
        loop {
            while left > 0 && self.out.len() < WRITE_BYTES {
                let (device, sequence) = self.next;
                let body = self.body.set(device, sequence);
                self.protocol.encode(device, body, &mut self.out);
                self.sent += 1;
                left -= 1;
                self.next = match device + 1 {
                    next if next == self.devices => (0, sequence + 1),
                    next => (next, sequence),
                };
            }
            if left == 0 {
                self.protocol.finish(&mut self.out);
            }
            if self.out.is_empty() {
                return Ok(false);
            }
            if !self.write()? {
                return Ok(true);
            }
        }
    }

    /// How many more messages the server wants before it acknowledges.
    fn room(&self) -> u64 {
        self.protocol
            .unacknowledged_max()
            .map_or(u64::MAX, |unacknowledged_max| {
                (self.acknowledged + unacknowledged_max as u64).saturating_sub(self.sent)
            })
    }

    /// Writes the buffer; returns whether all of it went.
    fn write(&mut self) -> anyhow::Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if is_for_later(&error) => return Ok(false),
                Err(error) => return Err(error).context("the publisher lost its connection"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Reads what the server answers.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        match self.stream.read(buffer) {
            Ok(read) => {
                ensure!(read > 0, "the server hung up on the publisher");
                let acknowledged = self.protocol.on_bytes(&buffer[..read], &mut self.out)?;
                self.acknowledged += acknowledged as u64;
                Ok(())
            }
            Err(error) if is_for_later(&error) => Ok(()),
            Err(error) => Err(error).context("the publisher lost its connection"),
        }
    }
}
