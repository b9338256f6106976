//! A server on Node with the `ws` library, `loadtests/peers/node/ws_server.js`: text in, the same text out.

use anyhow::ensure;

use super::node::NodeServer;
use super::peer::Peer;
use super::peer_process::PeerProcess;
use super::text_delivery::TextDelivery;
use super::{About, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::message::device_id;
use crate::websocket_client::{Link, WebSocketClient};

const SETTINGS: &str = "raw feed in, JSON not parsed, one write to a socket for what one read of the feed brings, \
     no compression, NODE_ENV=production";

/// The running server.
#[derive(Debug)]
pub(crate) struct NodeWs {
    server: NodeServer,
    about: About,
}

impl Peer for NodeWs {
    const NAME: &'static str = "node-ws";

    async fn start(cores: &Cores) -> anyhow::Result<Self> {
        let server = NodeServer::start("ws_server.js", cores).await?;
        let about = About {
            name: Self::NAME,
            version: server.version.clone(),
            settings: SETTINGS.to_owned(),
        };
        Ok(Self { server, about })
    }

    fn about(&self) -> &About {
        &self.about
    }

    fn process(&self) -> &PeerProcess {
        &self.server.process
    }

    fn into_process(self) -> PeerProcess {
        self.server.process
    }

    async fn publisher(&self) -> anyhow::Result<Publisher> {
        self.server.publisher().await
    }

    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber> {
        let authority = self.server.web_socket.to_string();
        let mut client = WebSocketClient::connect(&authority, "/", "", link).await?;
        let devices: Vec<String> = wishes.iter().map(|wish| device_id(wish.device)).collect();
        client.write_text(&serde_json::to_string(&devices)?).await?;
        let answer = client.read().await?;
        ensure!(
            answer == b"subscribed",
            "not the answer to a subscription: {}",
            answer.escape_ascii()
        );
        Ok(Subscriber {
            stream: client.stream,
            read_ahead: client.read_ahead,
            protocol: Box::new(TextDelivery),
        })
    }
}
