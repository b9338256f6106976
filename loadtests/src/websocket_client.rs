//! The client's side of a WebSocket, as far as a load generator needs it (RFC 6455): the opening handshake, frames from
//! a server walked in place, and masked frames for the few answers that clients give.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A server's answer to the handshake may have so many bytes of headers.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// The longest frame that is accepted from a server.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The key of the opening handshake (RFC 6455 §4.1). It is to keep caches from answering, and there are none here.
const KEY: &str = "bG9hZHRlc3RzLWdlbmVyYQ==";
/// What a server makes of it (RFC 6455 §4.2.2).
const ACCEPT: &str = "5pXjcrG3jMaWAoR6vsFB2+9RVCs=";

/// Masks need not be unpredictable where no intermediary can be tricked.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// Set in the second byte of frames that are masked (RFC 6455 §5.2).
const MASKED: u8 = 128;

/// Kinds of frames (RFC 6455 §5.2).
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0x0;
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xa;
}

/// What lies between a client and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Loopback as it is.
    Fast,
    /// One on which little is under way: a small receive buffer, and segments as they are on Ethernet. On loopback
    /// segments have 64 KiB, and the kernel's buffer at the server's end, which is made for ten of them, would take
    /// more than 2 MB from a server before it notices that nobody reads.
    Slow,
}

impl Link {
    const SLOW_RECEIVE_BUFFER_BYTES: u32 = 4096;
    const SLOW_SEGMENT_BYTES: u32 = 1460;

    async fn connect(self, authority: &str) -> io::Result<TcpStream> {
        if self == Self::Fast {
            return TcpStream::connect(authority).await;
        }
        let address: SocketAddr = authority.parse().map_err(io::Error::other)?;
        let socket = TcpSocket::new_v4()?;
        // Both are told to the server when the connection is made.
        socket.set_recv_buffer_size(Self::SLOW_RECEIVE_BUFFER_BYTES)?;
        SockRef::from(&socket).set_tcp_mss(Self::SLOW_SEGMENT_BYTES)?;
        socket.connect(address).await
    }
}

/// An open WebSocket before it is measured: whole messages, one after the other.
#[derive(Debug)]
pub(crate) struct WebSocketClient {
    pub(crate) stream: TcpStream,
    /// What was read and not taken yet.
    pub(crate) read_ahead: Vec<u8>,
    assembly: Assembly,
}

impl WebSocketClient {
    /// Connects to `authority` (`host:port`) and opens a WebSocket at `path`, which may have a query. `headers` are
    /// further header lines, each with its line end.
    pub(crate) async fn connect(
        authority: &str,
        path: &str,
        headers: &str,
        link: Link,
    ) -> anyhow::Result<Self> {
        let stream = (link.connect(authority))
            .await
            .with_context(|| format!("cannot connect a client to {authority}"))?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            read_ahead: Vec::new(),
            assembly: Assembly::default(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
        );
        client.stream.write_all(request.as_bytes()).await?;
        client.read_answer().await?;
        Ok(client)
    }

    async fn read_answer(&mut self) -> anyhow::Result<()> {
        const END: &[u8] = b"\r\n\r\n";
        let end = loop {
            let found = self.read_ahead.windows(END.len()).position(|at| at == END);
            if let Some(end) = found {
                break end + END.len();
            }
            ensure!(
                self.read_ahead.len() <= HEADERS_BYTES_MAX,
                "the answer to a handshake is too long"
            );
            self.read_more().await?;
        };
        let answer: Vec<u8> = self.read_ahead.drain(..end).collect();
        let answer = String::from_utf8(answer).context("the answer to a handshake is no text")?;
        ensure!(
            answer.starts_with("HTTP/1.1 101 "),
            "a WebSocket was refused: {}",
            answer.lines().next().unwrap_or_default()
        );
        ensure!(
            answer.contains(ACCEPT),
            "the server answered another handshake"
        );
        Ok(())
    }

    /// The next message; pings are answered.
    pub(crate) async fn read(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            let mut bytes = self.read_ahead.as_slice();
            let Some(frame) = Frame::take(&mut bytes)? else {
                self.read_more().await?;
                continue;
            };
            let mut pinged = None;
            let message = match frame.opcode {
                opcode::TEXT | opcode::BINARY | opcode::CONTINUATION => {
                    self.assembly.message(frame)?.map(<[u8]>::to_vec)
                }
                opcode::PING => {
                    pinged = Some(frame.payload.to_vec());
                    None
                }
                opcode::PONG => None,
                _ => bail!(
                    "the server closed a client: {}",
                    String::from_utf8_lossy(frame.payload)
                ),
            };
            let taken = self.read_ahead.len() - bytes.len();
            self.read_ahead.drain(..taken);
            if let Some(payload) = pinged {
                self.write(opcode::PONG, &payload).await?;
            }
            if let Some(message) = message {
                return Ok(message);
            }
        }
    }

    /// Sends one message.
    pub(crate) async fn write(&mut self, opcode: u8, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = Vec::new();
        write_frame(opcode, payload, &mut frame);
        self.stream
            .write_all(&frame)
            .await
            .context("a client lost its connection")
    }

    /// Sends one text message.
    pub(crate) async fn write_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.write(opcode::TEXT, text.as_bytes()).await
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.read_ahead).await?;
        ensure!(read > 0, "the server hung up on a client");
        Ok(())
    }
}

/// One whole frame of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    /// Whether its message ends with it.
    pub(crate) is_last: bool,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the first frame off `bytes`; `None` when it is not there as a whole. Servers do not mask (RFC 6455 §5.1),
    /// and no extension was asked for.
    pub(crate) fn take(bytes: &mut &'a [u8]) -> anyhow::Result<Option<Self>> {
        let [first, second, rest @ ..] = *bytes else {
            return Ok(None);
        };
        let (length, rest) = match second {
            0..126 => (usize::from(*second), rest),
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (usize::try_from(u64::from_be_bytes(*length))?, rest),
                None => return Ok(None),
            },
            _ => bail!("the server masked a frame"),
        };
        let opcode = first & 0x0f;
        ensure!(
            first & 0x70 == 0,
            "the server used an extension that nobody asked for"
        );
        ensure!(
            length <= FRAME_BYTES_MAX,
            "the server sent a frame too long"
        );
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        *bytes = rest;
        Ok(Some(Self {
            opcode,
            is_last: first & 0x80 != 0,
            payload,
        }))
    }
}

/// Puts messages together that come in several frames (RFC 6455 §5.4).
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    parts: Vec<u8>,
    is_under_way: bool,
    is_done: bool,
}

impl Assembly {
    /// Takes a frame of a message; returns the message when that is its last. One in a single frame is not copied.
    pub(crate) fn message<'a>(&'a mut self, frame: Frame<'a>) -> anyhow::Result<Option<&'a [u8]>> {
        if std::mem::take(&mut self.is_done) {
            self.parts.clear();
        }
        let is_first = frame.opcode != opcode::CONTINUATION;
        ensure!(
            is_first != self.is_under_way,
            "the server mixed up the parts of messages"
        );
        if is_first && frame.is_last {
            return Ok(Some(frame.payload));
        }
        ensure!(
            self.parts.len() + frame.payload.len() <= FRAME_BYTES_MAX,
            "the server sent a message too long"
        );
        self.parts.extend_from_slice(frame.payload);
        self.is_under_way = !frame.is_last;
        self.is_done = frame.is_last;
        Ok(self.is_done.then_some(&self.parts))
    }
}

/// Appends one masked frame.
pub(crate) fn write_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(MASKED | u8::try_from(length).expect("below 126")),
        length @ 126..0x1_0000 => {
            out.push(MASKED + 126);
            out.extend_from_slice(&u16::try_from(length).expect("two bytes").to_be_bytes());
        }
        length => {
            out.push(MASKED + 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    out.extend(masked.map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's frame.
    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(u8::try_from(length).unwrap()),
            length @ 126..0x1_0000 => {
                frame.push(126);
                frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn the_answer_to_the_key_is_the_one_expected() {
        let derived = tokio_tungstenite::tungstenite::handshake::derive_accept_key(KEY.as_bytes());
        assert_eq!(derived, ACCEPT);
    }

    #[test]
    fn frames_of_every_length_are_taken_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let bytes = unmasked(opcode::BINARY, &payload);
            let mut rest = bytes.as_slice();
            let frame = Frame {
                opcode: opcode::BINARY,
                is_last: true,
                payload: &payload,
            };
            assert_eq!(Frame::take(&mut rest).unwrap(), Some(frame));
            assert!(rest.is_empty());
            for end in 0..bytes.len().min(20) {
                assert_eq!(Frame::take(&mut &bytes[..end]).unwrap(), None);
            }
        }
    }

    #[test]
    fn masked_frames_and_extensions_are_refused() {
        for bytes in [[0x81, 0x80], [0xc1, 0]] {
            assert!(Frame::take(&mut &bytes[..]).is_err());
        }
    }

    #[test]
    fn messages_in_parts_are_put_together() {
        let frame = |opcode, is_last, payload| Frame {
            opcode,
            is_last,
            payload,
        };
        let mut assembly = Assembly::default();
        for _ in 0..2 {
            let parts = [
                (opcode::TEXT, false, &b"a"[..], None),
                (opcode::CONTINUATION, false, b"b", None),
                (opcode::CONTINUATION, true, b"c", Some(&b"abc"[..])),
                (opcode::TEXT, true, b"d", Some(b"d")),
            ];
            for (opcode, is_last, payload, message) in parts {
                let frame = frame(opcode, is_last, payload);
                assert_eq!(assembly.message(frame).unwrap(), message);
            }
        }
        let stray = frame(opcode::CONTINUATION, true, b"x");
        assert!(assembly.message(stray).is_err());
        assembly.message(frame(opcode::TEXT, false, b"a")).unwrap();
        assert!(assembly.message(frame(opcode::TEXT, true, b"b")).is_err());
    }

    #[test]
    fn what_is_sent_is_masked() {
        for length in [0, 126, 65_536] {
            let mut frame = Vec::new();
            let payload = vec![1; length];
            write_frame(opcode::TEXT, &payload, &mut frame);
            let masked = &frame[frame.len() - length..];
            let unmasked = masked.iter().zip(MASK.iter().cycle());
            let unmasked: Vec<u8> = unmasked.map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!((frame[1] & 0x80, unmasked), (0x80, payload));
        }
    }
}
