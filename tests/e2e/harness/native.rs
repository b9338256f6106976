//! A client of the native protocol, written from `docs/protocol.md` and sharing no code with the relay.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use super::{PATIENCE, Rest};

/// A connection to `/ws`. Dropping it cuts the TCP connection without a word.
pub(crate) struct Native {
    stream: WebSocketStream<TcpStream>,
    last_id: u64,
}

impl Native {
    /// A connection that has said nothing.
    pub(crate) async fn connect(rest: &Rest) -> Self {
        let mut request = format!("ws://{}/ws", rest.authority())
            .into_client_request()
            .expect("it is a URL");
        let subprotocol = HeaderValue::from_static("hubrelay.v1.json");
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", subprotocol);
        let stream = TcpStream::connect(rest.authority())
            .await
            .expect("connected");
        stream.set_nodelay(true).expect("a socket option");
        let (stream, _) = client_async(request, stream).await.expect("upgraded");
        Self { stream, last_id: 0 }
    }

    /// A connection with a session of its own, and that session's id.
    pub(crate) async fn open(rest: &Rest) -> (Self, String) {
        let mut native = Self::connect(rest).await;
        let hello = native.ask(&json!({"type": "hello"})).await;
        let session_id = hello["sessionId"].as_str().expect("an id").to_owned();
        (native, session_id)
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    /// Sends any WebSocket message.
    pub(crate) async fn send_message(&mut self, message: Message) {
        // A broken connection is seen in what comes from it.
        let _ = self.stream.send(message).await;
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let message = timeout(PATIENCE, self.stream.next())
                .await
                .expect("a message arrives");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Some(serde_json::from_str(&text).expect("messages are JSON"));
                }
                // Reading on answers a close frame as well as a ping.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => {}
                Some(Err(_)) | None => return None,
                Some(Ok(other)) => panic!("the relay sent {other:?}"),
            }
        }
    }

    /// The next message, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await.expect("the connection goes on");
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Sends a message and returns the next one.
    pub(crate) async fn ask(&mut self, message: &Value) -> Value {
        self.send(message).await;
        self.next().await.expect("the connection goes on")
    }

    /// Sends a request under the next id and returns its answer; updates before it are lost.
    pub(crate) async fn request(&mut self, mut request: Value) -> Value {
        self.last_id += 1;
        request["id"] = json!(self.last_id);
        self.send(&request).await;
        loop {
            let message = self.next().await.expect("the connection goes on");
            if message["id"] == self.last_id {
                return message;
            }
        }
    }

    /// Subscribes to one telemetry key; it must be granted.
    pub(crate) async fn follow(&mut self, device_id: &str, key: &str) -> Value {
        let selector = json!({"type": "telemetry", "deviceId": device_id, "telemetryKeys": [key]});
        let request = json!({"type": "subscribe", "subscriptions": [selector]});
        let answer = self.request(request).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
        assert_eq!(answer["refused"], Value::Null, "{answer}");
        answer
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        messages
    }
}
