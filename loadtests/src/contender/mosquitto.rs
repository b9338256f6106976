//! Mosquitto: MQTT 3.1.1 over TCP from the publisher, over WebSocket to the subscribers, one topic for each device.
//!
//! `QoS` 0 throughout: at most once, in order. Over a WebSocket MQTT is a byte stream in binary messages: packets need
//! not begin and end where those do (MQTT 3.1.1 §6).

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::byte_stream::ByteStream;
use super::peer::{Peer, Started};
use super::peer_process::{self, PeerProcess};
use super::{Deliver, Publish, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::message::device_id_bytes;
use crate::websocket_client::{Link, WebSocketClient, opcode};

/// A running Mosquitto.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    tcp: SocketAddr,
    websocket: SocketAddr,
}

impl Peer for Mosquitto {
    const NAME: &'static str = "mosquitto";

    const SETTINGS: &'static str = "QoS 0, set_tcp_nodelay true, no limits on queued or in-flight messages and bytes, no persistence, \
         no retained messages, no $SYS tree, no log of connections, no authentication, no TLS";

    async fn start(cores: &Cores) -> anyhow::Result<Started<Self>> {
        let program = peer_process::program("mosquitto")?;
        let version = version(Command::new(&program)).await?;
        let directory = tempfile::tempdir()?;
        let [tcp, websocket] = peer_process::free_addresses()?;
        let configuration = directory.path().join("mosquitto.conf");
        fs::write(&configuration, self::configuration(tcp, websocket))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&configuration);
        let process = PeerProcess::start(cores, command, directory, &[tcp, websocket]).await?;
        let peer = Self { tcp, websocket };
        Ok(Started {
            process,
            version,
            peer,
        })
    }

    /// A connection whose CONNECT was accepted.
    async fn publisher(&self) -> anyhow::Result<Publisher> {
        let mut stream = TcpStream::connect(self.tcp).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&CONNECT).await?;
        let mut answer = [0; ACCEPTED.len()];
        stream.read_exact(&mut answer).await?;
        ensure!(
            answer == ACCEPTED,
            "Mosquitto does not take the publisher: {answer:?}"
        );
        Ok(Publisher {
            stream,
            protocol: Box::new(MqttPublisher),
        })
    }

    /// A WebSocket whose subscriptions were granted in one SUBACK.
    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber> {
        let authority = self.websocket.to_string();
        let protocol = "Sec-WebSocket-Protocol: mqtt\r\n";
        let mut client = WebSocketClient::connect(&authority, "/mqtt", protocol, link).await?;
        let mut request = CONNECT.to_vec();
        request.extend(subscribe(wishes));
        client.write(opcode::BINARY, &request).await?;
        let mut answer = Vec::new();
        let expected = [&ACCEPTED[..], &granted(wishes.len())].concat();
        while answer.len() < expected.len() {
            answer.extend(client.read().await?);
        }
        ensure!(
            answer == expected,
            "Mosquitto does not take the subscriber: {answer:?}"
        );
        Ok(Subscriber {
            stream: client.stream,
            read_ahead: client.read_ahead,
            protocol: Box::new(MqttDelivery::default()),
        })
    }
}

/// The program says its version at the top of its help.
async fn version(mut program: Command) -> anyhow::Result<String> {
    let output = program.arg("-h").output().await?;
    let help = String::from_utf8(output.stdout)?;
    let version = help
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("mosquitto version "));
    Ok(version
        .context("mosquitto does not say its version")?
        .to_owned())
}

fn configuration(tcp: SocketAddr, websocket: SocketAddr) -> String {
    let lines = [
        format!("listener {} {}", tcp.port(), tcp.ip()),
        format!("listener {} {}", websocket.port(), websocket.ip()),
        "protocol websockets".to_owned(),
    ];
    let settings = [
        "allow_anonymous true",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "max_queued_bytes 0",
        "max_inflight_messages 0",
        "max_inflight_bytes 0",
        "retain_available false",
        "persistence false",
        "sys_interval 0",
        "connection_messages false",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        // When it is started by root it would become a user that may not read its directory.
        "user root",
    ];
    let mut configuration = settings.join("\n");
    for line in lines {
        configuration.push('\n');
        configuration.push_str(&line);
    }
    configuration.push('\n');
    configuration
}

/// CONNECT (MQTT 3.1.1 §3.1): protocol level 4, clean session, no keep-alive, and the server makes up the client id.
const CONNECT: [u8; 14] = *b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";

/// CONNACK (§3.2) of a new session.
const ACCEPTED: [u8; 4] = *b"\x20\x02\x00\x00";

const SUBSCRIPTION_ID: u16 = 1;

/// SUBSCRIBE (§3.8) with `QoS` 0 for every device.
fn subscribe(wishes: &[Wish]) -> Vec<u8> {
    let mut content = SUBSCRIPTION_ID.to_be_bytes().to_vec();
    for wish in wishes {
        put_text(&device_id_bytes(wish.device), &mut content);
        content.push(0);
    }
    let mut packet = vec![0x82];
    put_length(content.len(), &mut packet);
    packet.extend(content);
    packet
}

/// SUBACK (§3.9) that grants all of them.
fn granted(count: usize) -> Vec<u8> {
    let mut packet = vec![0x90];
    put_length(2 + count, &mut packet);
    packet.extend(SUBSCRIPTION_ID.to_be_bytes());
    packet.resize(packet.len() + count, 0);
    packet
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

/// Remaining Length (§2.2.3).
fn put_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(length % 128).expect("a remainder of 128");
        length /= 128;
        if length == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads Remaining Length; `None` when it is not all there. Returns where it ends as well.
fn length(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut length = 0;
    for (place, byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((length, place + 1)));
        }
    }
    ensure!(bytes.len() < 4, "Mosquitto sent a length that has no end");
    Ok(None)
}

/// Publishes with `QoS` 0: nothing is acknowledged.
#[derive(Debug)]
struct MqttPublisher;

impl Publish for MqttPublisher {
    fn encode(&mut self, device: usize, body: &[u8], out: &mut Vec<u8>) {
        let topic = device_id_bytes(device);
        out.push(0x30);
        put_length(2 + topic.len() + body.len(), out);
        put_text(&topic, out);
        out.extend_from_slice(body);
    }
}

/// Takes the payloads out of PUBLISH packets.
#[derive(Debug, Default)]
struct MqttDelivery {
    stream: ByteStream,
}

impl Deliver for MqttDelivery {
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        _reply: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        self.stream.feed(message, |bytes| {
            let Some((body, used)) = next(bytes)? else {
                return Ok(None);
            };
            payload(body);
            Ok(Some(used))
        })
    }
}

/// The payload of the first packet, which must be a PUBLISH with `QoS` 0, and how many bytes the packet takes; `None`
/// when it is not all there.
fn next(bytes: &[u8]) -> anyhow::Result<Option<(&[u8], usize)>> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    if kind != 0x30 {
        bail!("Mosquitto sent a packet that begins with {kind:#04x}");
    }
    let Some((length, length_bytes)) = length(rest)? else {
        return Ok(None);
    };
    let Some(content) = rest.get(length_bytes..length_bytes + length) else {
        return Ok(None);
    };
    let body = content
        .split_first_chunk()
        .and_then(|(topic_length, rest)| rest.get(usize::from(u16::from_be_bytes(*topic_length))..))
        .context("Mosquitto sent a PUBLISH with a topic too long")?;
    Ok(Some((body, 1 + length_bytes + length)))
}

#[cfg(test)]
mod tests {
    use super::super::byte_stream::tests::deliver_in_pieces;
    use super::*;

    #[test]
    fn messages_come_out_however_the_stream_is_split() {
        let mut stream = Vec::new();
        let bodies = [
            "{}".to_owned(),
            format!("{{\"k0\":\"{}\"}}", "x".repeat(300)),
        ];
        for (device, body) in bodies.iter().enumerate() {
            MqttPublisher.encode(device, body.as_bytes(), &mut stream);
        }
        let (payloads, reply) = deliver_in_pieces(&stream, MqttDelivery::default);
        assert_eq!(payloads, bodies);
        assert!(reply.is_empty());
    }

    #[test]
    fn other_packets_are_refused() {
        for packet in [
            b"\x32\x05\x00\x01a\x00\x01",
            b"\x30\xff\xff\xff\xff\x7f\x00",
            b"\x30\x02\x00\x01\x00\x00\x00",
        ] {
            assert!(next(packet).is_err(), "{packet:?}");
        }
    }

    #[test]
    fn lengths_come_back() {
        for value in [0, 127, 128, 16_383, 16_384, 268_435_455] {
            let mut bytes = Vec::new();
            put_length(value, &mut bytes);
            assert_eq!(length(&bytes).unwrap(), Some((value, bytes.len())));
            assert_eq!(length(&bytes[..bytes.len() - 1]).unwrap(), None);
        }
    }

    #[test]
    fn the_subscription_names_each_device() {
        let wishes = [1, 2].map(|device| Wish { device, key: None });
        let expected = b"\x82\x20\x00\x01\x00\x0cdevice-00001\x00\x00\x0cdevice-00002\x00";
        assert_eq!(subscribe(&wishes), expected);
        assert_eq!(granted(2), b"\x90\x04\x00\x01\x00\x00");
    }
}
