//! Nchan: nginx with its publish/subscribe module. Published to by HTTP requests, subscribed to over WebSocket, one
//! channel for each device.
//!
//! Requests are pipelined on one connection (RFC 9112 §9.3.2), which nginx works off in order. A subscriber is on all of
//! its channels with one WebSocket, and nginx switches protocols when it has put it there: that answer acknowledges the
//! subscription. At most once, and in order for each channel: messages are not stored, as a
//! subscriber that comes back gets none of those it missed from the other servers either.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::byte_stream::ByteStream;
use super::http_response;
use super::peer::{Peer, Started};
use super::peer_process::{self, PeerProcess};
use super::text_delivery::TextDelivery;
use super::{Publish, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::message::{device_id, device_id_bytes};
use crate::websocket_client::{Link, WebSocketClient};

/// So many requests may be on their way. More would only wait in nginx's buffers.
const UNACKNOWLEDGED_MAX: usize = 512;

/// Connections of a worker, if so many files may be open.
const CONNECTIONS_MAX: u64 = 120_000;

/// A running nginx.
#[derive(Debug)]
pub(crate) struct Nchan {
    publish: SocketAddr,
    subscribe: SocketAddr,
}

impl Peer for Nchan {
    const NAME: &'static str = "nchan";

    const SETTINGS: &'static str = "worker_processes 1, multi_accept on, a header buffer of 64k for the publisher, access_log off, tcp_nodelay on, \
         nchan_store_messages off, nchan_shared_memory_size 2G, no pings, no compression, no TLS";

    async fn start(cores: &Cores) -> anyhow::Result<Started<Self>> {
        let program = peer_process::program("nginx")?;
        let directory = tempfile::tempdir()?;
        let [publish, subscribe] = peer_process::free_addresses()?;
        let configuration = directory.path().join("nginx.conf");
        fs::write(&configuration, self::configuration(publish, subscribe)?)?;
        let version = version(Command::new(&program)).await?;
        let mut command = Command::new(program);
        command.arg("-p").arg(directory.path());
        command.arg("-c").arg(&configuration).args(["-e", "stderr"]);
        let process = PeerProcess::start(cores, command, directory, &[publish, subscribe]).await?;
        let peer = Self { publish, subscribe };
        Ok(Started {
            process,
            version,
            peer,
        })
    }

    async fn publisher(&self) -> anyhow::Result<Publisher> {
        let stream = TcpStream::connect(self.publish).await?;
        stream.set_nodelay(true)?;
        Ok(Publisher {
            stream,
            protocol: Box::new(NchanPublisher::default()),
        })
    }

    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber> {
        let devices: Vec<String> = wishes.iter().map(|wish| device_id(wish.device)).collect();
        let path = format!("/subscribe?id={}", devices.join(","));
        let authority = self.subscribe.to_string();
        let client = WebSocketClient::connect(&authority, &path, "", link).await?;
        Ok(Subscriber {
            stream: client.stream,
            read_ahead: client.read_ahead,
            protocol: Box::new(TextDelivery),
        })
    }
}

/// nginx says its own version; the module's is only known to the package that it came in.
async fn version(mut program: Command) -> anyhow::Result<String> {
    let output = program.arg("-v").output().await?;
    let said = String::from_utf8(output.stderr)?;
    let nginx = said
        .trim()
        .strip_prefix("nginx version: nginx/")
        .context("nginx does not say its version")?;
    let path = peer_process::installed("nchan/version")?;
    let nchan = fs::read_to_string(path)?;
    Ok(format!("{} in nginx {nginx}", nchan.trim()))
}

fn configuration(publish: SocketAddr, subscribe: SocketAddr) -> anyhow::Result<String> {
    let module = peer_process::installed("nchan/usr/lib/nginx/modules/ngx_nchan_module.so")?;
    let module = module.display();
    // Memory is taken for each of them at once, so no more than there can be.
    let connections = getrlimit(Resource::Nofile)
        .current
        .unwrap_or(CONNECTIONS_MAX);
    let connections = connections.min(CONNECTIONS_MAX);
    Ok(format!(
        "load_module {module};
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{
    worker_connections {connections};
    multi_accept on;
}}
http {{
    access_log off;
    tcp_nodelay on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    # Messages that are not stored stay some ten seconds all the same, with 512 bytes each.
    nchan_shared_memory_size 2048M;
    nchan_store_messages off;
    server {{
        listen {publish};
        # Many requests at one read.
        client_header_buffer_size 64k;
        client_body_buffer_size 64k;
        keepalive_requests 4000000000;
        keepalive_timeout 1h;
        location = /publish {{
            nchan_publisher http;
            nchan_channel_id $arg_id;
        }}
    }}
    server {{
        listen {subscribe} backlog=4096;
        location = /subscribe {{
            nchan_subscriber websocket;
            nchan_channel_id $arg_id;
            nchan_channel_id_split_delimiter \",\";
            nchan_subscriber_first_message newest;
            nchan_websocket_ping_interval 0;
        }}
    }}
}}
"
    ))
}

/// Publishes with POST, and counts the responses.
#[derive(Debug, Default)]
struct NchanPublisher {
    stream: ByteStream,
}

impl Publish for NchanPublisher {
    fn encode(&mut self, device: usize, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"POST /publish?id=");
        out.extend_from_slice(&device_id_bytes(device));
        out.extend_from_slice(b" HTTP/1.1\r\nHost: nchan\r\nContent-Length: ");
        write!(out, "{}\r\n\r\n", body.len()).expect("writing into memory");
        out.extend_from_slice(body);
    }

    fn on_bytes(&mut self, bytes: &[u8], _reply: &mut Vec<u8>) -> anyhow::Result<usize> {
        let mut accepted = 0;
        self.stream.feed(bytes, |bytes| {
            let response = http_response::take(bytes)?;
            if let Some(response) = &response {
                // 202 when nobody is subscribed.
                ensure!(
                    matches!(response.status, 201 | 202),
                    "nginx answered a message with status {}",
                    response.status
                );
                accepted += 1;
            }
            Ok(response.map(|response| response.bytes))
        })?;
        Ok(accepted)
    }

    fn unacknowledged_max(&self) -> Option<usize> {
        Some(UNACKNOWLEDGED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_response_acknowledges_one_message() {
        let responses = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
        for piece in 1..responses.len() {
            let mut publish = NchanPublisher::default();
            let accepted: usize = responses
                .chunks(piece)
                .map(|piece| publish.on_bytes(piece, &mut Vec::new()).unwrap())
                .sum();
            assert_eq!(accepted, 2);
        }
    }

    #[test]
    fn a_refused_message_is_an_error() {
        let response = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
        let mut publish = NchanPublisher::default();
        assert!(publish.on_bytes(response, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_message_is_a_request() {
        let mut out = Vec::new();
        NchanPublisher::default().encode(17, b"{}", &mut out);
        let expected =
            "POST /publish?id=device-00017 HTTP/1.1\r\nHost: nchan\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
