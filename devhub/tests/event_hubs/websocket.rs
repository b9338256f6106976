//! AMQP inside of a WebSocket.

use devhub::Devhub;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::{
    client::{soon, start},
    malformed::{OPENING, contains},
};

async fn connect(
    devhub: &Devhub,
    path: &str,
    subprotocol: &'static str,
) -> Result<WebSocketStream<TcpStream>, Error> {
    let address = devhub.amqp_address();
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    let subprotocol = subprotocol.parse().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", subprotocol);
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(request, stream)
        .await
        .map(|(socket, _)| socket)
}

#[tokio::test]
async fn a_connection_opens_on_the_path_and_subprotocol_of_the_sdks() {
    let devhub = start().await;
    for path in ["/$servicebus/websocket", "/$servicebus/websocket/"] {
        let mut socket = connect(&devhub, path, "AMQPWSB10").await.unwrap();
        let opening = Message::binary(OPENING);
        socket.send(opening).await.unwrap();
        let mut answer = Vec::new();
        while !contains(&answer, "ANONYMOUS") || !contains(&answer, "\x53\x10") {
            let message = soon(socket.next()).await.unwrap().unwrap();
            assert!(message.is_binary());
            answer.extend(message.into_data());
        }
        socket.close(None).await.unwrap();
    }
    devhub.stop().await;
}

#[tokio::test]
async fn other_paths_and_subprotocols_are_refused() {
    let devhub = start().await;
    for (path, subprotocol, status) in [
        ("/", "AMQPWSB10", 404),
        ("/$servicebus/websocket", "mqtt", 400),
    ] {
        match connect(&devhub, path, subprotocol).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status),
            other => panic!("not refused: {other:?}"),
        }
    }
    devhub.stop().await;
}
