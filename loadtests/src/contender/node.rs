//! What the two servers on Node have in common: they are in `loadtests/peers/node`, read the raw feed, and say in one
//! line of JSON where they listen.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::peer_process::{self, PeerProcess};
use super::{NotInstalled, Publisher};
use crate::cores::Cores;
use crate::feed::FeedPublisher;

/// A running server on Node.
#[derive(Debug)]
pub(crate) struct NodeServer {
    pub(crate) process: PeerProcess,
    pub(crate) version: String,
    feed: SocketAddr,
    pub(crate) web_socket: SocketAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    feed_port: u16,
    web_socket_port: u16,
    version: String,
}

impl NodeServer {
    /// Starts one of the scripts.
    pub(crate) async fn start(script: &str, cores: &Cores) -> anyhow::Result<Self> {
        ensure!(
            peer_process::source("node/node_modules").is_dir(),
            NotInstalled(
                "the Node servers are not installed; run loadtests/peers/install".to_owned()
            )
        );
        let mut command = Command::new("node");
        command.arg(peer_process::source("node").join(script));
        command.env("NODE_ENV", "production");
        let directory = tempfile::tempdir()?;
        let (process, line) = PeerProcess::start_and_listen(cores, command, directory).await?;
        let ready: Ready = serde_json::from_str(&line)
            .with_context(|| format!("{script} does not say that it is ready"))?;
        Ok(Self {
            process,
            version: ready.version,
            feed: SocketAddr::from((Ipv4Addr::LOCALHOST, ready.feed_port)),
            web_socket: SocketAddr::from((Ipv4Addr::LOCALHOST, ready.web_socket_port)),
        })
    }

    /// A connection to its feed.
    pub(crate) async fn publisher(&self) -> anyhow::Result<Publisher> {
        let stream = TcpStream::connect(self.feed).await?;
        stream.set_nodelay(true)?;
        Ok(Publisher {
            stream,
            protocol: Box::new(FeedPublisher),
        })
    }
}
