//! The servers on Node, which are in `loadtests/peers/node`: each reads the raw feed, and says in one line of JSON where it
//! listens.

use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::peer::{Peer, Started};
use super::peer_process::{self, PeerProcess};
use super::{Deliver, NotInstalled, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::feed::FeedPublisher;
use crate::message::device_id;
use crate::websocket_client::{Link, WebSocketClient};

/// What tells one server on Node from another.
pub(crate) trait NodeScript: 'static {
    /// The name on the command line and in reports.
    const NAME: &'static str;

    /// What is set, for reports.
    const SETTINGS: &'static str;

    /// The file.
    const FILE: &'static str;

    /// Where a `WebSocket` is opened.
    const PATH: &'static str;

    /// Subscribes a client to devices, of which it is given a JSON array of ids, and waits until that is acknowledged.
    async fn subscribe(client: &mut WebSocketClient, devices: &str) -> anyhow::Result<()>;

    /// How deliveries come.
    fn delivery() -> Box<dyn Deliver>;
}

/// A running server on Node.
#[derive(Debug)]
pub(crate) struct NodeServer<S> {
    feed: SocketAddr,
    web_socket: SocketAddr,
    script: PhantomData<S>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    feed_port: u16,
    web_socket_port: u16,
    version: String,
}

impl<S: NodeScript> Peer for NodeServer<S> {
    const NAME: &'static str = S::NAME;

    const SETTINGS: &'static str = S::SETTINGS;

    async fn start(cores: &Cores) -> anyhow::Result<Started<Self>> {
        ensure!(
            peer_process::source("node/node_modules").is_dir(),
            NotInstalled(
                "the Node servers are not installed; run loadtests/peers/install".to_owned()
            )
        );
        let mut command = Command::new("node");
        command.arg(peer_process::source("node").join(S::FILE));
        command.env("NODE_ENV", "production");
        let directory = tempfile::tempdir()?;
        let (process, line) = PeerProcess::start_and_listen(cores, command, directory).await?;
        let ready: Ready = serde_json::from_str(&line)
            .with_context(|| format!("{} does not say that it is ready", S::FILE))?;
        let peer = Self {
            feed: SocketAddr::from((Ipv4Addr::LOCALHOST, ready.feed_port)),
            web_socket: SocketAddr::from((Ipv4Addr::LOCALHOST, ready.web_socket_port)),
            script: PhantomData,
        };
        Ok(Started {
            process,
            version: ready.version,
            peer,
        })
    }

    async fn publisher(&self) -> anyhow::Result<Publisher> {
        let stream = TcpStream::connect(self.feed).await?;
        stream.set_nodelay(true)?;
        Ok(Publisher {
            stream,
            protocol: Box::new(FeedPublisher),
        })
    }

    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber> {
        let authority = self.web_socket.to_string();
        let mut client = WebSocketClient::connect(&authority, S::PATH, "", link).await?;
        let devices: Vec<_> = wishes.iter().map(|wish| device_id(wish.device)).collect();
        S::subscribe(&mut client, &serde_json::to_string(&devices)?).await?;
        Ok(Subscriber {
            stream: client.stream,
            read_ahead: client.read_ahead,
            protocol: S::delivery(),
        })
    }
}
