//! A lean client of the native protocol for setting sessions up: says hello, subscribes, hands answers over.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use relay_protocol::native::{
    ClientMessage, DeviceSnapshot, Hello, NewSubscription, Selector, ServerMessage, Subscribed,
};
use tokio::time::timeout;

use crate::websocket_client::{Link, WebSocketClient};

const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// A connected client.
#[derive(Debug)]
pub(crate) struct NativeClient {
    pub(crate) socket: WebSocketClient,
    last_id: u64,
}

impl NativeClient {
    /// Connects, and says nothing yet.
    pub(crate) async fn connect(authority: &str, link: Link) -> anyhow::Result<Self> {
        let connecting = WebSocketClient::connect(authority, "/ws", "", link);
        let socket = timeout(ANSWER_LIMIT, connecting)
            .await
            .context("the relay did not accept a client in time")??;
        Ok(Self { socket, last_id: 0 })
    }

    /// Connects and opens a session.
    pub(crate) async fn open(authority: &str, hello: Hello) -> anyhow::Result<Self> {
        let mut client = Self::connect(authority, Link::Fast).await?;
        client.say_hello(hello).await?;
        client.hear_hello().await?;
        Ok(client)
    }

    /// Sends a hello. Its answer is still to be read.
    pub(crate) async fn say_hello(&mut self, hello: Hello) -> anyhow::Result<()> {
        self.write(&ClientMessage::Hello(hello)).await
    }

    /// Reads the answer to a hello.
    pub(crate) async fn hear_hello(&mut self) -> anyhow::Result<()> {
        match self.read_message().await? {
            ServerMessage::Hello(_) => Ok(()),
            other => bail!("the relay refused a session: {other:?}"),
        }
    }

    /// Sends a request to subscribe. Its answer is still to be read.
    pub(crate) async fn ask_for(&mut self, selectors: Vec<Selector>) -> anyhow::Result<()> {
        self.last_id += 1;
        let subscriptions = selectors.into_iter().map(NewSubscription::from).collect();
        let id = self.last_id;
        self.write(&ClientMessage::Subscribe { id, subscriptions })
            .await
    }

    /// Subscribes. Fails unless all is granted.
    pub(crate) async fn subscribe(
        &mut self,
        selectors: Vec<Selector>,
    ) -> anyhow::Result<Subscribed> {
        self.ask_for(selectors).await?;
        Self::subscribed(&self.answer().await?)
    }

    /// Reads the answer to a request to subscribe. Fails unless all is granted.
    pub(crate) fn subscribed(answer: &[u8]) -> anyhow::Result<Subscribed> {
        match serde_json::from_slice(answer)? {
            ServerMessage::Subscribed(subscribed) => {
                ensure!(
                    subscribed.refused.is_empty(),
                    "a subscription was not granted"
                );
                Ok(subscribed)
            }
            other => bail!("the relay refused to subscribe: {other:?}"),
        }
    }

    /// The last values of all that is selected, as far as there are any. Only for a client without subscriptions.
    pub(crate) async fn last_values(
        &mut self,
        of: Vec<Selector>,
    ) -> anyhow::Result<Vec<DeviceSnapshot>> {
        self.last_id += 1;
        let id = self.last_id;
        self.write(&ClientMessage::LastValues { id, of }).await?;
        match self.read_message().await? {
            ServerMessage::LastValues(answer) if answer.refused.is_empty() => Ok(answer.values),
            other => bail!("the relay refused last values: {other:?}"),
        }
    }

    /// The next message, which must come soon.
    pub(crate) async fn answer(&mut self) -> anyhow::Result<Vec<u8>> {
        timeout(ANSWER_LIMIT, self.socket.read())
            .await
            .context("the relay did not answer in time")?
    }

    async fn read_message(&mut self) -> anyhow::Result<ServerMessage> {
        Ok(serde_json::from_slice(&self.answer().await?)?)
    }

    async fn write(&mut self, message: &ClientMessage) -> anyhow::Result<()> {
        let text = serde_json::to_string(message)?;
        self.socket.write_text(&text).await
    }
}
