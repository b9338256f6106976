//! A Socket.IO server on Node, `loadtests/peers/node/socket_io_server.js`: what ux4iot is made of.
//!
//! Engine.IO 4 over WebSocket from the start: packets are text, their first character is the type
//! (<https://socket.io/docs/v4/engine-io-protocol/>); a Socket.IO packet is the rest of a message packet.

use anyhow::{Context as _, bail, ensure};

use super::Deliver;
use super::node::NodeScript;
use crate::websocket_client::{WebSocketClient, opcode, write_frame};

/// The script.
#[derive(Debug)]
pub(crate) struct NodeSocketIo;

impl NodeScript for NodeSocketIo {
    const NAME: &'static str = "node-socket-io";

    const SETTINGS: &'static str = "raw feed in, JSON parsed and emitted to a room for each device, WebSocket only, \
         no compression, handshake requests let go, NODE_ENV=production";

    const FILE: &'static str = "socket_io_server.js";

    const PATH: &'static str = "/socket.io/?EIO=4&transport=websocket";

    /// Connects to the main namespace, and subscribes by an event that is acknowledged.
    async fn subscribe(client: &mut WebSocketClient, devices: &str) -> anyhow::Result<()> {
        expect(client, b"0{").await?;
        client.write_text("40").await?;
        expect(client, b"40{").await?;
        let event = format!("420[\"subscribe\",{devices}]");
        client.write_text(&event).await?;
        expect(client, b"430[]").await
    }

    fn delivery() -> Box<dyn Deliver> {
        Box::new(SocketIoDelivery)
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
