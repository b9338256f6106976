//! A client that writes frames byte by byte, so that it can write what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine; whoever waits that long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Any bytes would do; these show when a payload was not unmasked.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What asks for a WebSocket, with the key of RFC 6455 §1.3.
pub(in crate::push) const HANDSHAKE: &[(&str, &str)] = &[
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// One frame to send: RFC 6455 §5.2, with nothing checked.
#[derive(Clone, Debug)]
pub(in crate::push) struct Frame {
    /// The bits FIN, RSV1, RSV2 and RSV3, and the opcode.
    pub(in crate::push) head: u8,
    pub(in crate::push) is_masked: bool,
    pub(in crate::push) payload: Vec<u8>,
}

impl Frame {
    pub(in crate::push) const CONTINUATION: u8 = 0;
    pub(in crate::push) const TEXT: u8 = 1;
    pub(in crate::push) const BINARY: u8 = 2;
    pub(in crate::push) const CLOSE: u8 = 8;
    pub(in crate::push) const PING: u8 = 9;
    pub(in crate::push) const PONG: u8 = 10;

    const FIN: u8 = 0x80;
    /// In the place of a length that follows in two bytes.
    const TWO_BYTES: u8 = 126;
    /// In the place of a length that follows in eight bytes.
    const EIGHT_BYTES: u8 = 127;

    /// A whole message, or the last frame of one.
    pub(in crate::push) fn last(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            head: Self::FIN | opcode,
            is_masked: true,
            payload: payload.as_ref().to_vec(),
        }
    }

    /// A frame that others of the same message follow.
    pub(in crate::push) fn unfinished(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            head: opcode,
            ..Self::last(opcode, payload)
        }
    }

    pub(in crate::push) fn text(text: &str) -> Self {
        Self::last(Self::TEXT, text)
    }

    pub(in crate::push) fn ping(payload: impl AsRef<[u8]>) -> Self {
        Self::last(Self::PING, payload)
    }

    /// A close frame with a code and a reason.
    pub(in crate::push) fn close(code: u16, reason: impl AsRef<[u8]>) -> Self {
        let payload = [&code.to_be_bytes(), reason.as_ref()].concat();
        Self::last(Self::CLOSE, payload)
    }

    /// The frame as it is sent.
    pub(in crate::push) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let payload = self.payload.iter();
        if self.is_masked {
            bytes.extend(
                payload
                    .zip(MASK.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask),
            );
        } else {
            bytes.extend(payload);
        }
        bytes
    }

    /// All before the payload.
    pub(in crate::push) fn header(&self) -> Vec<u8> {
        let mask_bit = if self.is_masked { 0x80 } else { 0 };
        let length = self.payload.len() as u64;
        let mut header = vec![self.head];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..=125), _) => header.push(mask_bit | length),
            (_, Ok(length)) => {
                header.push(mask_bit | Self::TWO_BYTES);
                header.extend(length.to_be_bytes());
            }
            _ => {
                header.push(mask_bit | Self::EIGHT_BYTES);
                header.extend(length.to_be_bytes());
            }
        }
        if self.is_masked {
            header.extend(MASK);
        }
        header
    }
}

/// One WebSocket, seen from its bytes.
#[derive(Debug)]
pub(in crate::push) struct RawClient(TcpStream);

impl RawClient {
    /// Asks for a WebSocket at a path.
    pub(in crate::push) async fn open(address: SocketAddr, path: &str) -> Self {
        let (head, client) = Self::ask(address, &format!("GET {path} HTTP/1.1"), HANDSHAKE).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        client
    }

    /// Sends a request, and reads the head of its answer, in lower case.
    pub(in crate::push) async fn ask(
        address: SocketAddr,
        request_line: &str,
        headers: &[(&str, &str)],
    ) -> (String, Self) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = format!("{request_line}\r\nHost: {address}\r\n");
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        (
            String::from_utf8(head).unwrap().to_lowercase(),
            Self(stream),
        )
    }

    /// Sends a frame. The server may have ended the connection by now, which the next frame then shows.
    pub(in crate::push) async fn send(&mut self, frame: Frame) {
        self.send_bytes(&frame.bytes()).await;
    }

    pub(in crate::push) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.0.write_all(bytes)).await.unwrap();
    }

    /// Says that nothing more will be sent, as the FIN of TCP.
    pub(in crate::push) async fn stop_sending(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// The opcode and payload of the next frame, which must be a whole message; `None` at the end of the connection.
    pub(in crate::push) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read_frame()).await.unwrap().ok()
    }

    async fn read_frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let head = self.0.read_u8().await?;
        assert_eq!(head & 0xf0, Frame::FIN, "a fragment or a reserved bit");
        let length = match self.0.read_u8().await? {
            Frame::TWO_BYTES => u64::from(self.0.read_u16().await?),
            Frame::EIGHT_BYTES => self.0.read_u64().await?,
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await?;
        Ok((head & 0x0f, payload))
    }
}
