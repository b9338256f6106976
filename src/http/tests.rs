//! Over real sockets, with time-outs that are either short or never reached.

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::Ipv4Addr;

use axum::Extension;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::telemetry::Metrics;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Far longer than anything takes here; a test that reaches it has failed.
const NEVER: Duration = Duration::from_mins(1);

const LIMITS: Limits = Limits {
    connections_max: 100,
    head_timeout: NEVER,
    body_timeout: NEVER,
    stall_timeout: NEVER,
    drain_timeout: NEVER,
};

/// A running server, stopped and awaited by [`Running::stopped`].
struct Running {
    address: SocketAddr,
    metrics: Arc<ApiMetrics>,
    stop: CancellationToken,
    run: JoinHandle<()>,
}

impl Running {
    fn start(limits: Limits, tls: Option<&TlsFiles>, router: Router) -> Self {
        let metrics = Metrics::new().api;
        let server = Server::bind(ANY_PORT, tls, limits, Arc::clone(&metrics)).unwrap();
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let run = tokio::spawn(server.run(router, stop.clone()));
        Self {
            address,
            metrics,
            stop,
            run,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stopped(self) {
        self.stop.cancel();
        timeout(NEVER, self.run)
            .await
            .expect("the server stops")
            .unwrap();
    }
}

fn router() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// With a route that hands over what it upgrades.
fn upgrading_router() -> (Router, mpsc::Receiver<Upgraded>) {
    let (hand_over, sockets) = mpsc::channel(1);
    let upgrade = async move |request: Request| {
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move { hand_over.send(upgrade.await.unwrap()).await.unwrap() });
        (
            StatusCode::SWITCHING_PROTOCOLS,
            [("connection", "upgrade"), ("upgrade", "test")],
        )
    };
    (router().route("/upgrade", get(upgrade)), sockets)
}

/// Upgrades a connection whose client does not wait for the answer, and takes its socket.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut S,
    sockets: &mut mpsc::Receiver<Upgraded>,
) -> UpgradedSocket {
    let request =
        b"GET /upgrade HTTP/1.1\r\nhost: relay\r\nconnection: upgrade\r\nupgrade: test\r\n\r\nearly";
    client.write_all(request).await.unwrap();
    let upgraded = timeout(NEVER, sockets.recv()).await.unwrap().unwrap();
    let (mut socket, early) = UpgradedSocket::take(upgraded);
    assert!(socket.is_bare(), "it is still wrapped");
    assert_eq!(early, "early");
    socket.write_all(b"answer").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"answer") {
        answer.push(timeout(NEVER, client.read_u8()).await.unwrap().unwrap());
    }
    socket
}

/// Sends a request and reads one response with the body `hello`, leaving the connection open.
async fn say_hello<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) {
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n")
        .await
        .unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"hello") {
        let mut chunk = [0; 1024];
        let read = timeout(NEVER, socket.read(&mut chunk))
            .await
            .unwrap()
            .unwrap();
        assert_ne!(
            read,
            0,
            "closed after {}",
            String::from_utf8_lossy(&response)
        );
        response.extend_from_slice(&chunk[..read]);
    }
    assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// Reads to the end of the connection; a reset counts as the end.
async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut response = Vec::new();
    match timeout(NEVER, socket.read_to_end(&mut response))
        .await
        .expect("the server closes")
    {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8(response).unwrap()
}

#[tokio::test]
async fn a_connection_is_kept_for_further_requests_and_knows_its_client() {
    let router = Router::new().route(
        "/",
        get(
            async |Extension(ClientAddress(address)): Extension<ClientAddress>| {
                assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
                "hello"
            },
        ),
    );
    let server = Running::start(LIMITS, None, router);
    assert_ne!(server.address.port(), 0);
    let mut socket = server.connect().await;
    say_hello(&mut socket).await;
    say_hello(&mut socket).await;
    assert_eq!(server.metrics.open_sockets.get(), 1);
    server.stopped().await;
}

#[tokio::test]
async fn a_request_head_that_does_not_arrive_in_time_ends_the_connection() {
    let limits = Limits {
        head_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let server = Running::start(limits, None, router());
    let started = Instant::now();
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: re").await.unwrap();
    assert_eq!(read_to_end(&mut slow).await, "");
    assert_eq!(read_to_end(&mut silent).await, "");
    assert!(started.elapsed() >= limits.head_timeout);
    server.stopped().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = Limits {
        head_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let server = Running::start(limits, None, router());
    let mut socket = server.connect().await;
    say_hello(&mut socket).await;
    assert_eq!(read_to_end(&mut socket).await, "");
    server.stopped().await;
}

/// A direct method may take ten minutes.
#[tokio::test]
async fn no_time_limit_holds_for_a_handler() {
    let limit = Duration::from_millis(50);
    let limits = Limits {
        head_timeout: limit,
        body_timeout: limit,
        stall_timeout: limit,
        ..LIMITS
    };
    let slow = async move || {
        sleep(limit * 6).await;
        "hello"
    };
    let server = Running::start(limits, None, Router::new().route("/", get(slow)));
    say_hello(&mut server.connect().await).await;
    server.stopped().await;
}

#[tokio::test]
async fn a_request_head_without_end_is_refused() {
    let server = Running::start(LIMITS, None, router());
    let mut socket = server.connect().await;
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(2 * HEAD_BYTES_MAX));
    // The server may close before it has read everything.
    let _ = socket.write_all(endless.as_bytes()).await;
    let response = read_to_end(&mut socket).await;
    assert!(
        response.is_empty() || response.starts_with("HTTP/1.1 431 "),
        "{response}"
    );
    server.stopped().await;
}

#[tokio::test]
async fn a_request_body_that_does_not_arrive_in_time_fails_the_read() {
    async fn read(request: Request) -> &'static str {
        let error = request
            .into_body()
            .collect()
            .await
            .expect_err("never complete");
        let source = error.source().expect("the reason");
        let timed_out = source.is::<BodyTimedOut>();
        if timed_out { "timed out" } else { "broken" }
    }
    let limits = Limits {
        body_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let server = Running::start(limits, None, Router::new().route("/", post(read)));
    let started = Instant::now();
    let mut socket = server.connect().await;
    socket
        .write_all(b"POST / HTTP/1.1\r\nhost: relay\r\ncontent-length: 10\r\n\r\nabc")
        .await
        .unwrap();
    let response = read_to_end(&mut socket).await;
    assert!(response.ends_with("\r\n\r\ntimed out"), "{response}");
    assert!(started.elapsed() >= limits.body_timeout);
    server.stopped().await;
}

#[tokio::test]
async fn a_response_that_the_client_does_not_take_ends_the_connection() {
    let (entered, mut entries) = mpsc::channel::<()>(1);
    let long = async move || {
        entered.send(()).await.unwrap();
        "x".repeat(64 << 20)
    };
    let limits = Limits {
        stall_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let server = Running::start(limits, None, Router::new().route("/", get(long)));
    let mut socket = server.connect().await;
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n")
        .await
        .unwrap();
    timeout(NEVER, entries.recv()).await.unwrap().unwrap();
    // Stopping waits for the response, which could never end otherwise.
    server.stopped().await;
}

#[tokio::test]
async fn a_connection_beyond_the_cap_is_closed_at_once_and_counted() {
    let server = Running::start(
        Limits {
            connections_max: 1,
            ..LIMITS
        },
        None,
        router(),
    );
    let mut first = server.connect().await;
    say_hello(&mut first).await;
    let mut second = server.connect().await;
    assert_eq!(read_to_end(&mut second).await, "");
    assert_eq!(server.metrics.refused_sockets.get(), 1);
    say_hello(&mut first).await;
    server.stopped().await;
}

#[tokio::test]
async fn an_upgraded_socket_keeps_its_place_until_its_owner_drops_it() {
    let (router, mut sockets) = upgrading_router();
    let server = Running::start(
        Limits {
            connections_max: 1,
            ..LIMITS
        },
        None,
        router,
    );
    let upgraded = upgrade(&mut server.connect().await, &mut sockets).await;

    let mut refused = server.connect().await;
    assert_eq!(read_to_end(&mut refused).await, "");
    assert_eq!(server.metrics.open_sockets.get(), 1);

    drop(upgraded);
    say_hello(&mut server.connect().await).await;
    server.stopped().await;
}

#[tokio::test]
async fn stopping_lets_a_running_request_finish_and_accepts_nothing_more() {
    let (entered, mut entries) = mpsc::channel::<()>(1);
    let release = Arc::new(Notify::new());
    let wait = {
        let release = Arc::clone(&release);
        async move || {
            entered.send(()).await.unwrap();
            release.notified().await;
            "hello"
        }
    };
    let server = Running::start(LIMITS, None, router().route("/wait", get(wait)));
    let mut idle = server.connect().await;
    say_hello(&mut idle).await;
    let mut running = server.connect().await;
    running
        .write_all(b"GET /wait HTTP/1.1\r\nhost: relay\r\n\r\n")
        .await
        .unwrap();
    timeout(NEVER, entries.recv()).await.unwrap().unwrap();

    server.stop.cancel();
    assert_eq!(
        read_to_end(&mut idle).await,
        "",
        "an idle connection is closed"
    );
    let refused = TcpStream::connect(server.address).await.map(drop);
    assert_eq!(
        refused.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionRefused)
    );
    assert!(!server.run.is_finished());

    release.notify_one();
    let response = read_to_end(&mut running).await;
    assert!(response.ends_with("\r\n\r\nhello"), "{response}");
    server.stopped().await;
}

#[tokio::test]
async fn a_request_that_does_not_finish_in_the_grace_is_cut() {
    let (entered, mut entries) = mpsc::channel::<()>(1);
    let hang = async move || {
        entered.send(()).await.unwrap();
        std::future::pending::<&'static str>().await
    };
    let limits = Limits {
        drain_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let server = Running::start(limits, None, Router::new().route("/", get(hang)));
    let mut socket = server.connect().await;
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n")
        .await
        .unwrap();
    timeout(NEVER, entries.recv()).await.unwrap().unwrap();
    let metrics = Arc::clone(&server.metrics);
    server.stopped().await;
    assert_eq!(read_to_end(&mut socket).await, "");
    assert_eq!(metrics.open_sockets.get(), 0);
}

#[tokio::test]
async fn with_a_certificate_the_server_speaks_tls_and_offers_http_1_1() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: directory.path().join("certificate.pem"),
        key: directory.path().join("key.pem"),
    };
    std::fs::write(&files.certificate, certified.cert.pem()).unwrap();
    std::fs::write(&files.key, certified.signing_key.serialize_pem()).unwrap();
    let limits = Limits {
        head_timeout: Duration::from_millis(500),
        ..LIMITS
    };
    let (router, mut sockets) = upgrading_router();
    let server = Running::start(limits, Some(&files), router);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let mut stream = connector
        .connect(name, server.connect().await)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    say_hello(&mut stream).await;
    drop(upgrade(&mut stream, &mut sockets).await);

    let mut silent = server.connect().await;
    assert_eq!(
        read_to_end(&mut silent).await,
        "",
        "a handshake has to come in time"
    );
    let mut plain = server.connect().await;
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n")
        .await
        .unwrap();
    read_to_end(&mut plain).await;
    assert_eq!(server.metrics.tls_failures.get(), 2);
    server.stopped().await;
}

#[tokio::test]
async fn what_cannot_be_set_up_is_an_error_that_names_the_place() {
    let metrics = Metrics::new().api;
    let first = Server::bind(ANY_PORT, None, LIMITS, Arc::clone(&metrics)).unwrap();
    let error = Server::bind(first.local_addr(), None, LIMITS, Arc::clone(&metrics))
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}", first.local_addr())
    );

    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = directory.path().join("missing.pem");
    for certificate in [&empty, &missing] {
        let files = TlsFiles {
            certificate: certificate.clone(),
            key: missing.clone(),
        };
        let error = Server::bind(ANY_PORT, Some(&files), LIMITS, Arc::clone(&metrics))
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            format!("cannot read a certificate from {}", certificate.display())
        );
    }
}
