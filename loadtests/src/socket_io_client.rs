//! A lean Socket.IO client over WebSocket: opens, asks for its session, answers pings, hands updates over.
//!
//! Buffers are small, so that ten thousand of them fit beside the relay.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use relay_protocol::SessionId;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

const CONNECT_LIMIT: Duration = Duration::from_mins(1);

/// A connected client.
#[derive(Debug)]
pub(crate) struct SocketIoClient {
    socket: WebSocketStream<TcpStream>,
}

impl SocketIoClient {
    /// Connects and waits until the session is accepted.
    pub(crate) async fn connect(
        authority: &str,
        session: &SessionId,
        read_buffer_bytes: usize,
    ) -> anyhow::Result<Self> {
        timeout(
            CONNECT_LIMIT,
            Self::open(authority, session, read_buffer_bytes),
        )
        .await
        .context("the relay did not accept a client in time")?
    }

    async fn open(
        authority: &str,
        session: &SessionId,
        read_buffer_bytes: usize,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority)
            .await
            .context("cannot connect a client")?;
        stream.set_nodelay(true)?;
        let address = format!(
            "ws://{authority}/socket.io/?EIO=4&transport=websocket&sessionId={}",
            session.as_str()
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(read_buffer_bytes)
            .write_buffer_size(0);
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(address, stream, Some(config)).await?;
        let mut client = Self { socket };
        let open = client.read().await?;
        ensure!(open.starts_with("0{"), "the relay did not open: {open}");
        client.write("40").await?;
        let accepted = client.read().await?;
        ensure!(
            accepted.starts_with("40{"),
            "the relay refused a session: {accepted}"
        );
        Ok(client)
    }

    /// The next packet that is not a ping; pings are answered. Cancel-safe unless it answers one, which takes no wait
    /// on a connection that is read.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            let packet = self.read().await?;
            match packet.as_str() {
                "2" => self.write("3").await?,
                _ => return Ok(packet),
            }
        }
    }

    async fn read(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(packet))) => return Ok(packet),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => bail!("the relay sent {other:?}"),
                Some(Err(error)) => return Err(error).context("a connection was lost"),
                None => bail!("the relay closed a connection"),
            }
        }
    }

    async fn write(&mut self, packet: &'static str) -> anyhow::Result<()> {
        self.socket
            .send(Message::Text(Utf8Bytes::from_static(packet)))
            .await
            .context("a connection was lost")
    }
}
