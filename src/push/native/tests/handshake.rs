//! The way in: handshake, subprotocols, places.

use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request};

use super::harness::{Server, refused_handshake, roomy};
use crate::push::Settings;
use crate::telemetry::metrics::ConnectionRefusal;

fn request(server: &Server, subprotocols: Option<&'static str>) -> Request<()> {
    let url = format!("ws://{}/ws", server.address);
    let mut request = url.into_client_request().unwrap();
    if let Some(subprotocols) = subprotocols {
        let subprotocols = HeaderValue::from_static(subprotocols);
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", subprotocols);
    }
    request
}

#[tokio::test]
async fn the_known_subprotocol_is_selected_when_it_is_offered() {
    let server = Server::start().await;
    let offered = request(&server, Some("chat, hubrelay.v1.json"));
    let (_, response) = tokio_tungstenite::connect_async(offered).await.unwrap();
    assert_eq!(
        response.headers()["sec-websocket-protocol"],
        "hubrelay.v1.json"
    );
    let (_, response) = tokio_tungstenite::connect_async(request(&server, None))
        .await
        .unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
}

#[tokio::test]
async fn unknown_subprotocols_are_refused_by_name() {
    let server = Server::start().await;
    let (status, text) = refused_handshake(request(&server, Some("hubrelay.v9.cbor"))).await;
    assert_eq!(status, 400);
    assert!(text.contains("hubrelay.v1.json"), "{text}");
    let refused = &server.metrics.push.refused;
    assert_eq!(refused.get(ConnectionRefusal::ProtocolVersion).get(), 1);
}

#[tokio::test]
async fn what_is_no_handshake_is_refused() {
    let server = Server::start().await;
    let url = format!("http://{}/ws", server.address);
    let http = reqwest::Client::new();
    assert_eq!(http.get(&url).send().await.unwrap().status(), 400);
    assert_eq!(http.post(&url).send().await.unwrap().status(), 405);
    let mut old = request(&server, None);
    let version = HeaderValue::from_static("8");
    old.headers_mut().insert("sec-websocket-version", version);
    assert_eq!(refused_handshake(old).await.0, 400);
    let asked = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "8"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let asked = asked
        .into_iter()
        .fold(http.get(&url), |ask, (name, value)| ask.header(name, value));
    let refused = asked.send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.headers()["sec-websocket-version"], "13");
    server.still_serves().await;
}

#[tokio::test]
async fn connections_have_a_bound() {
    let settings = Settings {
        connections_max: 2,
        handshakes_max: 2,
        ..Settings::default()
    };
    let server = Server::with(settings, roomy()).await;
    let _first = server.client().await;
    let second = server.client().await;
    assert_eq!(refused_handshake(request(&server, None)).await.0, 503);
    drop(second);
    server.connections_become(1).await;
    server.client().await;
}

#[tokio::test]
async fn a_hello_gives_the_place_of_a_handshake_back() {
    let settings = Settings {
        handshakes_max: 1,
        ..Settings::default()
    };
    let server = Server::with(settings, roomy()).await;
    let (_first, _) = server.granted([]).await;
    let (_second, _) = server.granted([]).await;
    let _silent = server.client().await;
    assert_eq!(refused_handshake(request(&server, None)).await.0, 503);
}
