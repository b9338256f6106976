//! AMQP over WebSocket, for networks that let only HTTP through: the byte stream of a connection in
//! binary messages, on the same port as plain AMQP.

use std::{future::ready, io};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncWrite, join};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        self, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// How an HTTP request begins; AMQP begins with its own name.
pub(crate) const HTTP_START: [u8; 4] = *b"GET ";

const PATH: &str = "/$servicebus/websocket";

/// What Microsoft's SDKs ask for, and what OASIS registered.
const SUBPROTOCOLS: [&str; 2] = ["AMQPWSB10", "amqp"];

/// The largest message of a peer, which may hold many frames.
const MESSAGE_SIZE_MAX: usize = 4 * 1024 * 1024;

/// Answers the opening handshake and returns the byte stream inside.
pub(crate) async fn accept<S>(
    stream: S,
) -> Result<impl AsyncRead + AsyncWrite + Unpin, tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_SIZE_MAX))
        .max_frame_size(Some(MESSAGE_SIZE_MAX));
    let socket = accept_hdr_async_with_config(stream, answer, Some(config)).await?;
    let (sink, stream) = socket.split();
    let received = stream.map_err(io::Error::other).try_filter_map(|message| {
        ready(match message {
            Message::Binary(bytes) => Ok(Some(bytes)),
            Message::Text(_) => Err(io::ErrorKind::InvalidData.into()),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(None),
        })
    });
    let sent = sink
        .with(|bytes: Bytes| ready(Ok::<_, tungstenite::Error>(Message::Binary(bytes))))
        .sink_map_err(io::Error::other);
    Ok(join(
        StreamReader::new(received),
        SinkWriter::new(CopyToBytes::new(sent)),
    ))
}

#[expect(
    clippy::result_large_err,
    reason = "the type is that of the library's callback"
)]
fn answer(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path().trim_end_matches('/') != PATH {
        return Err(refuse(StatusCode::NOT_FOUND, format!("the path is {PATH}")));
    }
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let chosen = SUBPROTOCOLS.into_iter().find(|subprotocol| {
        offered
            .iter()
            .filter_map(|offer| offer.to_str().ok())
            .flat_map(|offer| offer.split(','))
            .any(|offer| offer.trim().eq_ignore_ascii_case(subprotocol))
    });
    let Some(chosen) = chosen else {
        let text = format!("the subprotocol is {}", SUBPROTOCOLS[0]);
        return Err(refuse(StatusCode::BAD_REQUEST, text));
    };
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    Ok(response)
}

fn refuse(status: StatusCode, text: String) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text));
    *response.status_mut() = status;
    response
}
