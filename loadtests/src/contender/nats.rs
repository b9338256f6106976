//! NATS: published to over TCP, subscribed to over its WebSocket listener, one subject for each device.
//!
//! At most once and in order for each publisher, as core NATS promises. The client protocol is the same on both sides:
//! lines that end with CR LF, with the payload of a message after its line
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>). On a WebSocket it is a byte stream in binary
//! messages: one of them may hold many lines, and may end in the middle of one.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::byte_stream::ByteStream;
use super::peer::{Peer, Started};
use super::peer_process::{self, PeerProcess};
use super::{Deliver, Publish, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::message::{device_id, device_id_bytes};
use crate::websocket_client::{Link, WebSocketClient, opcode, write_frame};

/// A running NATS server.
#[derive(Debug)]
pub(crate) struct Nats {
    tcp: SocketAddr,
    websocket: SocketAddr,
}

/// What the first line of a server says about it, as far as it matters here.
#[derive(Deserialize)]
struct Info {
    version: String,
}

impl Peer for Nats {
    const NAME: &'static str = "nats";

    const SETTINGS: &'static str = "core NATS without JetStream; no TLS, authentication, compression or headers; GOMAXPROCS=1; \
         ping_interval 10m; max_pending 64MB and write_deadline 10s as by default";

    async fn start(cores: &Cores) -> anyhow::Result<Started<Self>> {
        let program = peer_process::program("nats-server")?;
        let directory = tempfile::tempdir()?;
        let [tcp, websocket] = peer_process::free_addresses()?;
        let configuration = directory.path().join("nats.conf");
        fs::write(&configuration, self::configuration(tcp, websocket))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&configuration);
        // As many threads at work as there are cores to work on, said openly instead of left to what Go finds.
        command.env("GOMAXPROCS", "1");
        let process = PeerProcess::start(cores, command, directory, &[tcp, websocket]).await?;
        let (_, line) = open_tcp(tcp).await?;
        let info: Info = line
            .strip_prefix("INFO ")
            .and_then(|info| serde_json::from_str(info).ok())
            .context("the first line of NATS is not its INFO")?;
        let peer = Self { tcp, websocket };
        Ok(Started {
            process,
            version: info.version,
            peer,
        })
    }

    /// A connection that has said CONNECT and heard the answer to a PING after it.
    async fn publisher(&self) -> anyhow::Result<Publisher> {
        let (mut stream, _) = open_tcp(self.tcp).await?;
        stream.write_all(&[CONNECT, PING].concat()).await?;
        let mut protocol = NatsPublisher::default();
        let mut bytes = Vec::new();
        let mut reply = Vec::new();
        while !protocol.has_heard_pong {
            bytes.clear();
            let read = stream.read_buf(&mut bytes).await?;
            ensure!(read > 0, "NATS hung up on the publisher");
            protocol.on_bytes(&bytes, &mut reply)?;
        }
        stream.write_all(&reply).await?;
        Ok(Publisher {
            stream,
            protocol: Box::new(protocol),
        })
    }

    /// A WebSocket with a subscription for each wish. The server works off what it is told in order, so its answer to
    /// a PING after them acknowledges them all.
    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber> {
        let mut client =
            WebSocketClient::connect(&self.websocket.to_string(), "/", "", link).await?;
        let mut request = CONNECT.to_vec();
        for (number, wish) in wishes.iter().enumerate() {
            request.extend(format!("SUB {} {number}\r\n", device_id(wish.device)).bytes());
        }
        request.extend(PING);
        client.write(opcode::BINARY, &request).await?;
        let mut protocol = NatsDelivery::default();
        let mut early = 0_usize;
        let mut reply = Vec::new();
        while !protocol.has_heard_pong {
            let message = client.read().await?;
            protocol.on_message(&message, &mut |_| early += 1, &mut reply)?;
        }
        ensure!(
            early == 0,
            "something was published before it was asked for"
        );
        client.stream.write_all(&reply).await?;
        Ok(Subscriber {
            stream: client.stream,
            read_ahead: client.read_ahead,
            protocol: Box::new(protocol),
        })
    }
}

/// What a client says first. Without `verbose`, nothing is acknowledged one by one.
const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"rust\",\
    \"version\":\"0\",\"protocol\":1,\"headers\":false}\r\n";

const PING: &[u8] = b"PING\r\n";

fn configuration(tcp: SocketAddr, websocket: SocketAddr) -> String {
    format!(
        "listen: \"{tcp}\"\n\
         max_connections: 200000\n\
         max_subscriptions: 0\n\
         max_pending: 64MB\n\
         write_deadline: \"10s\"\n\
         ping_interval: \"10m\"\n\
         logtime: false\n\
         websocket {{\n\
         \x20 listen: \"{websocket}\"\n\
         \x20 no_tls: true\n\
         \x20 compression: false\n\
         }}\n"
    )
}

/// A TCP connection and the INFO line that the server sends on it first.
async fn open_tcp(address: SocketAddr) -> anyhow::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut line = Vec::new();
    // Byte by byte, so that nothing after the line is taken; it happens once for each publisher.
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await?);
        ensure!(
            line.len() < LINE_BYTES_MAX,
            "the first line of NATS has no end"
        );
    }
    Ok((stream, String::from_utf8(line)?.trim_end().to_owned()))
}

const LINE_BYTES_MAX: usize = 64 * 1024;

/// Publishes with PUB; nothing is acknowledged.
#[derive(Debug, Default)]
struct NatsPublisher {
    stream: ByteStream,
    has_heard_pong: bool,
}

impl Publish for NatsPublisher {
    fn encode(&mut self, device: usize, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(&device_id_bytes(device));
        write!(out, " {}\r\n", body.len()).expect("writing into memory");
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }

    fn on_bytes(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> anyhow::Result<usize> {
        self.stream.feed(bytes, |bytes| {
            Ok(match next(bytes)? {
                None => None,
                Some((Line::Ping, used)) => {
                    reply.extend_from_slice(b"PONG\r\n");
                    Some(used)
                }
                Some((Line::Pong, used)) => {
                    self.has_heard_pong = true;
                    Some(used)
                }
                Some((Line::Ignored, used)) => Some(used),
                Some((Line::Message(_), _)) => bail!("NATS sent the publisher a message"),
            })
        })?;
        Ok(0)
    }
}

/// Takes the payloads out of MSG lines.
#[derive(Debug, Default)]
struct NatsDelivery {
    stream: ByteStream,
    has_heard_pong: bool,
}

impl Deliver for NatsDelivery {
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        self.stream.feed(message, |bytes| {
            let Some((line, used)) = next(bytes)? else {
                return Ok(None);
            };
            match line {
                Line::Message(body) => payload(body),
                Line::Ping => write_frame(opcode::BINARY, b"PONG\r\n", reply),
                Line::Pong => self.has_heard_pong = true,
                Line::Ignored => {}
            }
            Ok(Some(used))
        })
    }
}

/// What the server says, as far as a client of this program cares.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Message(&'a [u8]),
    Ping,
    Pong,
    /// INFO, which the server repeats when it has something new to say, and +OK.
    Ignored,
}

/// The first line, with its payload, and how many bytes both take; `None` when it is not all there.
fn next(bytes: &[u8]) -> anyhow::Result<Option<(Line<'_>, usize)>> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line = bytes[..end]
        .strip_suffix(b"\r")
        .context("a line of NATS does not end with CR LF")?;
    let after = end + 1;
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        let size = payload_size(arguments)
            .with_context(|| format!("NATS sent {}", line.escape_ascii()))?;
        let Some(payload) = bytes.get(after..after + size + 2) else {
            return Ok(None);
        };
        let body = payload
            .strip_suffix(b"\r\n")
            .context("a payload of NATS has not the size that was said")?;
        return Ok(Some((Line::Message(body), after + size + 2)));
    }
    let line = match line {
        b"PING" => Line::Ping,
        b"PONG" => Line::Pong,
        b"+OK" => Line::Ignored,
        line if line.starts_with(b"INFO ") => Line::Ignored,
        line => bail!("NATS sent {}", line.escape_ascii()),
    };
    Ok(Some((line, after)))
}

/// The last argument of MSG.
fn payload_size(arguments: &[u8]) -> Option<usize> {
    let digits = arguments.iter().rev().take_while(|byte| **byte != b' ');
    let count = digits.count();
    if count == 0 || count > 8 {
        return None;
    }
    arguments[arguments.len() - count..]
        .iter()
        .try_fold(0, |size, byte| match byte {
            b'0'..=b'9' => Some(size * 10 + usize::from(byte - b'0')),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::super::byte_stream::tests::deliver_in_pieces;
    use super::*;

    const STREAM: &[u8] =
        b"INFO {\"version\":\"2\"}\r\nMSG device-00001 7 8\r\n{\"k0\":1}\r\nPING\r\n\
        MSG device-00002 12 17\r\n{\"k0\":\"a\r\nMSG b\"}\r\nMSG device-00003 0 2\r\n{}\r\n";

    #[test]
    fn messages_come_out_however_the_stream_is_split() {
        let (payloads, reply) = deliver_in_pieces(STREAM, NatsDelivery::default);
        assert_eq!(payloads, ["{\"k0\":1}", "{\"k0\":\"a\r\nMSG b\"}", "{}"]);
        let mut pong = Vec::new();
        write_frame(opcode::BINARY, b"PONG\r\n", &mut pong);
        assert_eq!(reply, pong);
    }

    #[test]
    fn an_error_ends_the_run() {
        let mut deliver = NatsDelivery::default();
        let result = deliver.on_message(b"-ERR 'Slow Consumer'\r\n", &mut |_| {}, &mut Vec::new());
        assert!(result.unwrap_err().to_string().contains("Slow Consumer"));
    }

    #[test]
    fn a_wrong_size_is_an_error() {
        assert!(next(b"MSG a 1 3\r\nabcd\r\n").is_err());
        assert!(next(b"MSG a 1 x\r\n").is_err());
        assert!(next(b"MSG a 1 \r\n").is_err());
    }

    #[test]
    fn a_message_is_published_with_its_size() {
        let mut out = Vec::new();
        NatsPublisher::default().encode(17, b"{\"k0\":1}", &mut out);
        assert_eq!(out, b"PUB device-00017 8\r\n{\"k0\":1}\r\n");
    }

    #[test]
    fn a_publisher_answers_pings() {
        let mut publish = NatsPublisher::default();
        let mut reply = Vec::new();
        for part in [&b"PI"[..], b"NG\r", b"\nPONG\r\n"] {
            publish.on_bytes(part, &mut reply).unwrap();
        }
        assert_eq!(reply, b"PONG\r\n");
    }
}
