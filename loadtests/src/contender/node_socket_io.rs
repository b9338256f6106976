//! A Socket.IO server on Node, `loadtests/peers/node/socket_io_server.js`: what ux4iot is made of.
//!
//! Engine.IO 4 over WebSocket from the start: packets are text, their first character is the type
//! (<https://socket.io/docs/v4/engine-io-protocol/>); a Socket.IO packet is the rest of a message packet.

use anyhow::{Context as _, bail, ensure};

use super::node::NodeServer;
use super::peer::Peer;
use super::peer_process::PeerProcess;
use super::{About, Deliver, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::message::device_id;
use crate::websocket_client::{Link, WebSocketClient, opcode, write_frame};

const SETTINGS: &str = "raw feed in, JSON parsed and emitted to a room for each device, WebSocket only, no compression, \
     handshake requests let go, NODE_ENV=production";

/// The running server.
#[derive(Debug)]
pub(crate) struct NodeSocketIo {
    server: NodeServer,
    about: About,
}

impl Peer for NodeSocketIo {
    const NAME: &'static str = "node-socket-io";

    async fn start(cores: &Cores) -> anyhow::Result<Self> {
        let server = NodeServer::start("socket_io_server.js", cores).await?;
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

    /// A connection to the main namespace whose `subscribe` event was acknowledged.
    async fn subscriber(&self, wishes: &[Wish], link: Link) -> anyhow::Result<Subscriber> {
        let authority = self.server.web_socket.to_string();
        let path = "/socket.io/?EIO=4&transport=websocket";
        let mut client = WebSocketClient::connect(&authority, path, "", link).await?;
        expect(&mut client, b"0{").await?;
        client.write_text("40").await?;
        expect(&mut client, b"40{").await?;
        let devices: Vec<String> = wishes.iter().map(|wish| device_id(wish.device)).collect();
        let devices = serde_json::to_string(&devices)?;
        client
            .write_text(&format!("420[\"subscribe\",{devices}]"))
            .await?;
        expect(&mut client, b"430[]").await?;
        Ok(Subscriber {
            stream: client.stream,
            read_ahead: client.read_ahead,
            protocol: Box::new(SocketIoDelivery),
        })
    }
}

/// Reads the next packet, which must begin like this; a ping may come before it.
async fn expect(client: &mut WebSocketClient, beginning: &[u8]) -> anyhow::Result<()> {
    loop {
        let packet = client.read().await?;
        if packet == PING {
            client.write(opcode::TEXT, PONG).await?;
            continue;
        }
        ensure!(
            packet.starts_with(beginning),
            "{} came instead of {}",
            packet.escape_ascii(),
            beginning.escape_ascii()
        );
        return Ok(());
    }
}

const PING: &[u8] = b"2";
const PONG: &[u8] = b"3";

/// Takes the object out of each `data` event, and answers pings.
#[derive(Debug)]
struct SocketIoDelivery;

impl Deliver for SocketIoDelivery {
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        if let Some(event) = message.strip_prefix(b"42[\"data\",") {
            payload(event.strip_suffix(b"]").context("an event without end")?);
        } else if message == PING {
            write_frame(opcode::TEXT, PONG, reply);
        } else {
            bail!("Socket.IO sent {}", message.escape_ascii());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_unwrapped_and_pings_answered() {
        let (mut payloads, mut reply) = (Vec::new(), Vec::new());
        for message in [&b"42[\"data\",{\"k0\":1}]"[..], b"2"] {
            let mut payload = |body: &[u8]| payloads.push(body.to_vec());
            SocketIoDelivery
                .on_message(message, &mut payload, &mut reply)
                .unwrap();
        }
        assert_eq!(payloads, [b"{\"k0\":1}"]);
        let mut pong = Vec::new();
        write_frame(opcode::TEXT, b"3", &mut pong);
        assert_eq!(reply, pong);
    }

    #[test]
    fn anything_else_is_refused() {
        for message in ["42[\"other\",{}]", "41", "42[\"data\",{}", ""] {
            let result =
                SocketIoDelivery.on_message(message.as_bytes(), &mut |_| {}, &mut Vec::new());
            assert!(result.is_err(), "{message}");
        }
    }
}
