//! A server on Node with the `ws` library, `loadtests/peers/node/ws_server.js`: text in, the same text out.

use anyhow::ensure;

use super::Deliver;
use super::node::NodeScript;
use super::text_delivery::TextDelivery;
use crate::websocket_client::WebSocketClient;

/// The script.
#[derive(Debug)]
pub(crate) struct NodeWs;

impl NodeScript for NodeWs {
    const NAME: &'static str = "node-ws";

    const SETTINGS: &'static str = "raw feed in, JSON not parsed, one write to a socket for what one read of the feed brings, \
         no compression, NODE_ENV=production";

    const FILE: &'static str = "ws_server.js";

    const PATH: &'static str = "/";

    async fn subscribe(client: &mut WebSocketClient, devices: &str) -> anyhow::Result<()> {
        client.write_text(devices).await?;
        let answer = client.read().await?;
        ensure!(
            answer == b"subscribed",
            "not the answer to a subscription: {}",
            answer.escape_ascii()
        );
        Ok(())
    }

    fn delivery() -> Box<dyn Deliver> {
        Box::new(TextDelivery)
    }
}
