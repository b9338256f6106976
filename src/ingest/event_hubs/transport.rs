//! The byte stream under AMQP: TCP, TLS, or a WebSocket.
//!
//! Sockets are opened here and not by the AMQP library, which would leave Nagle's algorithm on and bring trust anchors
//! of its own.

use std::fmt::Debug;
use std::future::ready;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::error::Error;
use crate::config::EventHubTransport;
use crate::config::connection_string::EventHubConnectionString;
use crate::trust;

/// A connected byte stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Stream for T {}

/// Where Event Hubs takes AMQP over a WebSocket, and the subprotocol it calls that.
const WEBSOCKET_PATH: &str = "/$servicebus/websocket";
const WEBSOCKET_PROTOCOL: HeaderValue = HeaderValue::from_static("AMQPWSB10");

/// Connects to the event hub.
pub(super) async fn connect(
    hub: &EventHubConnectionString,
    transport: EventHubTransport,
) -> Result<Box<dyn Stream>, Error> {
    let port = match transport {
        EventHubTransport::Amqp => hub.amqp_port(),
        EventHubTransport::WebSocket => hub.websocket_port(),
    };
    connect_to(hub, transport, port)
        .await
        .map_err(|source| Error::Connect {
            address: format!("{}:{port}", hub.host),
            source,
        })
}

async fn connect_to(
    hub: &EventHubConnectionString,
    transport: EventHubTransport,
    port: u16,
) -> io::Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect((hub.host.as_str(), port)).await?;
    tcp.set_nodelay(true)?;
    let stream: Box<dyn Stream> = if hub.uses_tls() {
        let name = ServerName::try_from(hub.host.clone()).map_err(io::Error::other)?;
        // Made anew for each connection, so that a renewed trust store is noticed.
        let connector = TlsConnector::from(Arc::new(trust::tls_client()?));
        Box::new(connector.connect(name, tcp).await?)
    } else {
        Box::new(tcp)
    };
    match transport {
        EventHubTransport::Amqp => Ok(stream),
        EventHubTransport::WebSocket => over_websocket(hub, stream).await,
    }
}

async fn over_websocket(
    hub: &EventHubConnectionString,
    stream: Box<dyn Stream>,
) -> io::Result<Box<dyn Stream>> {
    let scheme = if hub.uses_tls() { "wss" } else { "ws" };
    let host = if hub.host.contains(':') {
        format!("[{}]", hub.host)
    } else {
        hub.host.clone()
    };
    let address = format!("{scheme}://{host}:{}{WEBSOCKET_PATH}", hub.websocket_port());
    let mut request = address.into_client_request().map_err(io::Error::other)?;
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", WEBSOCKET_PROTOCOL);
    let (websocket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .map_err(io::Error::other)?;
    let (sink, messages) = websocket.split();
    let chunks = messages
        .map_err(io::Error::other)
        .try_filter_map(|message| ready(chunk(message)));
    let sink = sink
        .sink_map_err(io::Error::other as fn(_) -> io::Error)
        .with(|bytes: Bytes| ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    let reader = StreamReader::new(chunks);
    let writer = SinkWriter::new(CopyToBytes::new(sink));
    Ok(Box::new(tokio::io::join(reader, writer)))
}

/// AMQP travels in binary messages; where one ends has no meaning. Pings are answered below.
fn chunk(message: Message) -> io::Result<Option<Bytes>> {
    match message {
        Message::Binary(bytes) => Ok(Some(bytes)),
        Message::Text(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "text in an AMQP WebSocket",
        )),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(None),
    }
}
