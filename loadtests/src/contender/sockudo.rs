//! Sockudo: a server of the Pusher protocol. Published to by its HTTP API, subscribed to over WebSocket, one public
//! channel for each device.
//!
//! Messages are published in signed batches
//! (<https://pusher.com/docs/channels/library_auth_reference/rest-api/>), each on a connection of its own, which Sockudo
//! closes after its answer ([`one_shot`]). Deliveries are
//! objects with the message as JSON text in a string
//! (<https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol/>). At most once, in order.

mod one_shot;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::hmac;
use devhub::clock::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;

use self::one_shot::Forwarder;
use super::byte_stream::ByteStream;
use super::http_response;
use super::peer::{Peer, Started};
use super::peer_process::{self, PeerProcess};
use super::{Deliver, Publish, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::message::{device_id, device_id_bytes};
use crate::websocket_client::{Link, WebSocketClient, opcode, write_frame};

/// More than the 10 that are allowed by default: a request costs it far more than a message.
const BATCH_MESSAGES_MAX: usize = 100;

/// So many messages may be on their way: as many as may wait for one subscriber.
const UNACKNOWLEDGED_MAX: usize = 10 * BATCH_MESSAGES_MAX;

/// The app that publishes and is subscribed to.
const APP_ID: &str = "loadtests";
const APP_KEY: &str = "loadtests-key";
/// Opens nothing but a server on a loopback address that ends with this run.
const APP_SECRET: &str = "loadtests-secret";

/// A running Sockudo.
#[derive(Debug)]
pub(crate) struct Sockudo {
    address: SocketAddr,
}

impl Peer for Sockudo {
    const NAME: &'static str = "sockudo";

    const SETTINGS: &'static str = "built with its feature `local` only; batches of up to 100 events (default 10), max_backpressure 64 MiB, \
         pings after an hour, no rate limits, metrics, history, recovery, idempotency or compression, log level error, \
         TOKIO_WORKER_THREADS=1";

    async fn start(cores: &Cores) -> anyhow::Result<Started<Self>> {
        let program = peer_process::program("sockudo")?;
        let output = Command::new(&program).arg("--version").output().await?;
        let version = String::from_utf8(output.stdout)?;
        let version = version
            .trim()
            .strip_prefix("sockudo ")
            .context("sockudo does not say its version")?
            .to_owned();
        let directory = tempfile::tempdir()?;
        let [address] = peer_process::free_addresses()?;
        let configuration = directory.path().join("sockudo.json");
        fs::write(&configuration, self::configuration(address))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&configuration);
        command.env("TOKIO_WORKER_THREADS", "1");
        command.env("RUST_LOG", "error");
        let process = PeerProcess::start(cores, command, directory, &[address]).await?;
        let peer = Self { address };
        Ok(Started {
            process,
            version,
            peer,
        })
    }

    async fn publisher(&self) -> anyhow::Result<Publisher> {
        let (stream, forwarder) = one_shot::start(self.address)?;
        Ok(Publisher {
            stream: TcpStream::from_std(stream)?,
            protocol: Box::new(SockudoPublisher {
                forwarder: Some(forwarder),
                ..SockudoPublisher::new(SystemClock.now_ms())
            }),
        })
    }

    /// A connection that was told of each subscription that it succeeded.
    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber> {
        let authority = self.address.to_string();
        let path = format!("/app/{APP_KEY}?protocol=7&client=loadtests&version=1");
        let mut client = WebSocketClient::connect(&authority, &path, "", link).await?;
        expect(&mut client, "pusher:connection_established").await?;
        for wish in wishes {
            let data = json!({ "channel": device_id(wish.device) });
            let request = json!({ "event": "pusher:subscribe", "data": data });
            client.write_text(&request.to_string()).await?;
        }
        for _ in wishes {
            expect(&mut client, "pusher_internal:subscription_succeeded").await?;
        }
        Ok(Subscriber {
            stream: client.stream,
            read_ahead: client.read_ahead,
            protocol: Box::new(SockudoDelivery::default()),
        })
    }
}

fn configuration(address: SocketAddr) -> String {
    json!({
        "host": address.ip(),
        "port": address.port(),
        "mode": "production",
        "activity_timeout": 3600,
        "app_manager": { "driver": "memory", "array": { "apps": [{
            "id": APP_ID,
            "key": APP_KEY,
            "secret": APP_SECRET,
            "enabled": true,
            "policy": { "limits": { "max_connections": 0, "max_client_events_per_second": 0 } },
        }] } },
        "adapter": { "driver": "local", "enable_socket_counting": false },
        "cache": { "driver": "memory" },
        "queue": { "driver": "memory" },
        "rate_limiter": { "enabled": false },
        "metrics": { "enabled": false },
        "history": { "enabled": false },
        "presence_history": { "enabled": false },
        "idempotency": { "enabled": false },
        "connection_recovery": { "enabled": false },
        "event_limits": { "max_batch_size": BATCH_MESSAGES_MAX },
        "websocket": {
            "max_backpressure": 64 * 1024 * 1024,
            "compression": "disabled",
        },
    })
    .to_string()
}

/// What the server says of itself, of subscriptions, and of messages.
#[derive(Deserialize)]
struct Event {
    event: String,
}

async fn expect(client: &mut WebSocketClient, event: &str) -> anyhow::Result<()> {
    let message = client.read().await?;
    let said: Event = serde_json::from_slice(&message)
        .with_context(|| format!("Sockudo sent {}", message.escape_ascii()))?;
    ensure!(
        said.event == event,
        "{} came instead of {event}",
        message.escape_ascii()
    );
    Ok(())
}

/// Publishes batches, and counts the messages of those that were accepted.
struct SockudoPublisher {
    key: hmac::Key,
    timestamp_s: i64,
    /// The body of the next request, without its end.
    batch: Vec<u8>,
    messages: usize,
    /// The messages in each request that was not answered yet.
    unanswered: VecDeque<usize>,
    stream: ByteStream,
    #[expect(dead_code, reason = "held so that it ends with the publisher")]
    forwarder: Option<Forwarder>,
}

const BATCH_START: &[u8] = b"{\"batch\":[";
const BATCH_END: &[u8] = b"]}";

impl SockudoPublisher {
    /// Signatures are good for ten minutes, so one time does for a run.
    fn new(now_ms: i64) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, APP_SECRET.as_bytes()),
            timestamp_s: now_ms / 1000,
            batch: BATCH_START.to_vec(),
            messages: 0,
            unanswered: VecDeque::new(),
            stream: ByteStream::default(),
            forwarder: None,
        }
    }
}

impl Publish for SockudoPublisher {
    fn encode(&mut self, device: usize, body: &[u8], out: &mut Vec<u8>) {
        if self.messages > 0 {
            self.batch.push(b',');
        }
        self.batch
            .extend_from_slice(b"{\"name\":\"data\",\"channel\":\"");
        self.batch.extend_from_slice(&device_id_bytes(device));
        self.batch.extend_from_slice(b"\",\"data\":\"");
        for &byte in body {
            if matches!(byte, b'"' | b'\\') {
                self.batch.push(b'\\');
            }
            self.batch.push(byte);
        }
        self.batch.extend_from_slice(b"\"}");
        self.messages += 1;
        if self.messages == BATCH_MESSAGES_MAX {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.messages == 0 {
            return;
        }
        self.batch.extend_from_slice(BATCH_END);
        let path = format!("/apps/{APP_ID}/batch_events");
        let query = format!(
            "auth_key={APP_KEY}&auth_timestamp={}&auth_version=1.0&body_md5={:x}",
            self.timestamp_s,
            md5::compute(&self.batch)
        );
        let signature = hmac::sign(&self.key, format!("POST\n{path}\n{query}").as_bytes());
        let signature = hex(signature.as_ref());
        let head = format!(
            "POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: sockudo\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.batch.len()
        );
        one_shot::put(&[head.as_bytes(), &self.batch], out);
        self.batch.truncate(BATCH_START.len());
        self.unanswered.push_back(self.messages);
        self.messages = 0;
    }

    fn on_bytes(&mut self, bytes: &[u8], _reply: &mut Vec<u8>) -> anyhow::Result<usize> {
        let mut accepted = 0;
        self.stream.feed(bytes, |bytes| {
            let response = http_response::take(bytes)?;
            if let Some(response) = &response {
                ensure!(
                    response.status == 200,
                    "Sockudo answered with status {}: {}",
                    response.status,
                    response.body.escape_ascii()
                );
                let messages = self.unanswered.pop_front();
                accepted += messages.context("Sockudo answered more than it was asked")?;
            }
            Ok(response.map(|response| response.bytes))
        })?;
        Ok(accepted)
    }

    fn unacknowledged_max(&self) -> Option<usize> {
        Some(UNACKNOWLEDGED_MAX)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing into memory");
        hex
    })
}

/// Takes the messages out of their events, and answers pings.
#[derive(Debug, Default)]
struct SockudoDelivery {
    body: Vec<u8>,
}

impl Deliver for SockudoDelivery {
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        // As it is always written, so that no JSON parser is needed a million times.
        if let Some(channel) = message.strip_prefix(b"{\"event\":\"data\",\"channel\":\"") {
            let channel_end = channel.iter().position(|byte| *byte == b'"');
            let data = channel_end
                .and_then(|end| channel[end..].strip_prefix(b"\",\"data\":\""))
                .and_then(|data| data.strip_suffix(b"\"}"))
                .with_context(|| format!("not a message: {}", message.escape_ascii()))?;
            self.body.clear();
            unescape(data, &mut self.body)
                .with_context(|| format!("not a message: {}", message.escape_ascii()))?;
            payload(&self.body);
            return Ok(());
        }
        match serde_json::from_slice(message) {
            Ok(Event { event }) if event == "pusher:ping" => {
                write_frame(opcode::TEXT, PONG.as_bytes(), reply);
                Ok(())
            }
            Ok(_) | Err(_) => bail!("Sockudo sent {}", message.escape_ascii()),
        }
    }
}

const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;

/// Takes a JSON string apart that has nothing escaped but quotation marks and backslashes.
fn unescape(mut text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while let Some(backslash) = text.iter().position(|byte| *byte == b'\\') {
        let (before, escaped) = text.split_at(backslash);
        let (_, [byte @ (b'"' | b'\\'), rest @ ..]) = escaped.split_first()? else {
            return None;
        };
        out.extend_from_slice(before);
        out.push(*byte);
        text = rest;
    }
    out.extend_from_slice(text);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> SockudoPublisher {
        SockudoPublisher::new(1_777_629_600_000)
    }

    #[test]
    fn messages_leave_in_batches() {
        let (mut publisher, mut out) = (publisher(), Vec::new());
        for device in 0..=BATCH_MESSAGES_MAX {
            publisher.encode(device, br#"{"k0":1}"#, &mut out);
        }
        let requests = |out: &[u8]| String::from_utf8_lossy(out).matches("POST ").count();
        assert_eq!(requests(&out), 1);
        publisher.finish(&mut out);
        publisher.finish(&mut out);
        assert_eq!(requests(&out), 2);
        let end = r#"{"batch":[{"name":"data","channel":"device-00100","data":"{\"k0\":1}"}]}"#;
        assert!(out.ends_with(end.as_bytes()));

        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        for messages in [BATCH_MESSAGES_MAX, 1] {
            let accepted = publisher.on_bytes(answer, &mut Vec::new()).unwrap();
            assert_eq!(accepted, messages);
        }
        assert!(publisher.on_bytes(answer, &mut Vec::new()).is_err());
    }

    #[test]
    fn requests_are_signed() {
        let (mut publisher, mut out) = (publisher(), Vec::new());
        publisher.encode(17, b"{}", &mut out);
        publisher.finish(&mut out);
        // Behind its length.
        let request = String::from_utf8(out[4..].to_vec()).unwrap();
        let line = request.lines().next().unwrap();
        let body = request.split("\r\n\r\n").nth(1).unwrap();
        let md5 = format!("body_md5={:x}", md5::compute(body));
        assert!(line.contains(&md5), "{line}");
        let (signed, signature) = line
            .trim_end_matches(" HTTP/1.1")
            .split_once("&auth_signature=")
            .unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, APP_SECRET.as_bytes());
        let signed = signed.replacen(' ', "\n", 1).replacen('?', "\n", 1);
        let expected = hmac::sign(&key, signed.as_bytes());
        assert_eq!(signature, hex(expected.as_ref()));
    }

    #[test]
    fn events_are_unwrapped_and_pings_answered() {
        let (mut payloads, mut reply) = (Vec::new(), Vec::new());
        let mut delivery = SockudoDelivery::default();
        let event = r#"{"event":"data","channel":"device-00017","data":"{\"k0\":\"a\\\\b\"}"}"#;
        for message in [event, r#"{"event":"pusher:ping","data":"{}"}"#] {
            let mut payload =
                |body: &[u8]| payloads.push(String::from_utf8(body.to_vec()).unwrap());
            delivery
                .on_message(message.as_bytes(), &mut payload, &mut reply)
                .unwrap();
        }
        assert_eq!(payloads, [r#"{"k0":"a\\b"}"#]);
        let mut pong = Vec::new();
        write_frame(opcode::TEXT, PONG.as_bytes(), &mut pong);
        assert_eq!(reply, pong);
    }

    #[test]
    fn anything_else_is_refused() {
        for message in [
            r#"{"event":"pusher:error","data":{"code":4201}}"#,
            r#"{"event":"data","channel":"device-00017","data":"\u0041"}"#,
            r#"{"event":"data","channel":"device-00017","data":{}}"#,
            "",
        ] {
            let result = SockudoDelivery::default().on_message(
                message.as_bytes(),
                &mut |_| {},
                &mut Vec::new(),
            );
            assert!(result.is_err(), "{message}");
        }
    }
}
