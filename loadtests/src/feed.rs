//! The raw feed: how servers without a publishing protocol of their own are given messages.
//!
//! A TCP connection of messages, each a `u32` big-endian length of what follows, a `u16` big-endian length of the device
//! id, the device id, and the body. Nothing is answered; a server that is behind stops reading.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::contender::{Publish, Publisher};
use crate::message;

/// The longest message that is read, without its length.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

const LENGTH_BYTES: usize = 4;
const ID_LENGTH_BYTES: usize = 2;

/// How long a server may take to fetch its feed.
const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// Where a server that is a part of this program fetches its feed.
#[derive(Debug)]
pub(crate) struct FeedSource(TcpListener);

impl FeedSource {
    /// Listens on a free loopback port.
    pub(crate) async fn listen() -> anyhow::Result<Self> {
        Ok(Self(TcpListener::bind("127.0.0.1:0").await?))
    }

    /// What the server must be told.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Waits for the server, and makes its connection one to publish on.
    pub(crate) async fn publisher(&self) -> anyhow::Result<Publisher> {
        let (stream, _) = timeout(FETCH_LIMIT, self.0.accept())
            .await
            .context("the server does not fetch its feed")??;
        stream.set_nodelay(true)?;
        let protocol = Box::new(FeedPublisher);
        Ok(Publisher { stream, protocol })
    }
}

/// Writes the raw feed.
#[derive(Debug, Default)]
pub(crate) struct FeedPublisher;

impl Publish for FeedPublisher {
    fn encode(&mut self, device: usize, body: &[u8], out: &mut Vec<u8>) {
        push_message(&message::device_id_bytes(device), body, out);
    }
}

/// Appends one message.
pub(crate) fn push_message(device_id: &[u8], body: &[u8], out: &mut Vec<u8>) {
    let length = ID_LENGTH_BYTES + device_id.len() + body.len();
    out.reserve(LENGTH_BYTES + length);
    let length = u32::try_from(length).expect("a small message");
    let id_length = u16::try_from(device_id.len()).expect("a short id");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&id_length.to_be_bytes());
    out.extend_from_slice(device_id);
    out.extend_from_slice(body);
}

/// One message of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeedMessage<'a> {
    pub(crate) device_id: &'a [u8],
    pub(crate) body: &'a [u8],
}

/// Why what came is no feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> FeedMessage<'a> {
    /// Takes the first message off `bytes`; `None` when it is not there as a whole.
    pub(crate) fn take(bytes: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(Malformed);
        }
        let Some((message, rest)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        let (id_length, message) = message
            .split_first_chunk::<ID_LENGTH_BYTES>()
            .ok_or(Malformed)?;
        let (device_id, body) = message
            .split_at_checked(u16::from_be_bytes(*id_length).into())
            .ok_or(Malformed)?;
        *bytes = rest;
        Ok(Some(Self { device_id, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut fed = Vec::new();
        FeedPublisher.encode(17, b"{}", &mut fed);
        FeedPublisher.encode(18, b"", &mut fed);
        let mut bytes = fed.as_slice();
        let first = FeedMessage {
            device_id: b"device-00017",
            body: b"{}",
        };
        assert_eq!(FeedMessage::take(&mut bytes), Ok(Some(first)));
        for end in 0..bytes.len() {
            assert_eq!(FeedMessage::take(&mut &bytes[..end]), Ok(None));
        }
        let second = FeedMessage::take(&mut bytes).unwrap().unwrap();
        assert_eq!((second.body, bytes), (&b""[..], &b""[..]));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for bytes in [&[0xff; 4][..], &[0, 0, 0, 1, 0], &[0, 0, 0, 2, 0, 1]] {
            assert_eq!(FeedMessage::take(&mut &*bytes), Err(Malformed));
        }
    }
}
