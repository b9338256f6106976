//! The HTTP/1.1 server: sockets, TLS and the limits on what a client may hold open.
//!
//! A [`Server`] owns its listener and every connection task. It guarantees that
//! - a connection that sends its request head or body too slowly is ended (slow-loris), and so is one that is idle or
//!   does not take its responses;
//! - no more than [`Limits::connections_max`] sockets are open at once, upgraded ones included. One more is closed as
//!   soon as it was accepted, and counted: a client sees at once that it has to come back later;
//! - [`Server::run`] returns only when every connection it still owned has ended. Upgraded sockets belong to whoever
//!   took them.
//!
//! It does not route: it takes a [`Router`] and hands it requests that carry the [`ClientAddress`] as an extension.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

pub use self::body_deadline::BodyTimedOut;
use self::body_deadline::DeadlineBody;
use self::client_socket::{ClientSocket, Sockets};
use self::tls::WrittenThrough;
pub use self::upgraded::UpgradedSocket;

use crate::config::{Config, TlsFiles};
use crate::telemetry::metrics::ApiMetrics;

mod body_deadline;
mod client_socket;
mod tls;
mod upgraded;

#[cfg(test)]
mod tests;

/// Connections that may wait to be accepted; the operating system may have a lower limit.
const BACKLOG: u32 = 4096;

/// Longest request head in bytes; a longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// First and longest pause after the operating system refused to accept, for example because no file descriptor is
/// left.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(20);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The address a request came from, as an extension of the request. Behind a proxy this is the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// What clients may hold open, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sockets open at once, upgraded ones included.
    pub connections_max: usize,
    /// Time for a TLS handshake, and for the head of a request to arrive in full. It starts when the server begins to
    /// wait for the head, so it is the longest that a kept-alive connection stays idle as well.
    pub head_timeout: Duration,
    /// Time for the body of a request to arrive in full.
    pub body_timeout: Duration,
    /// Time that a client may leave a write waiting before its socket fails, upgraded or not.
    pub stall_timeout: Duration,
    /// Time that running requests get to finish once the server has been told to stop.
    pub drain_timeout: Duration,
}

impl Limits {
    /// The limits that the configuration sets, with the time-outs that it leaves alone. Running requests get half of
    /// the program's grace, so that the rest of it can still end in order after they were cut.
    pub fn from_config(config: &Config) -> Self {
        Self {
            connections_max: config.limits.connections_max,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_mins(1),
            drain_timeout: config.shutdown_grace / 2,
        }
    }
}

/// Why a server could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is in use, not of this machine, or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A TLS file is missing, unreadable, or holds no PEM item of the wanted kind.
    #[error("cannot read {what} from {path}", path = path.display())]
    ReadPem {
        /// Which item was wanted.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with the file.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate and the key do not go together, or their kind is not supported.
    #[error("the TLS certificate cannot be used with its key")]
    UnusableCertificate(#[source] rustls::Error),
}

/// A bound listener that does not accept yet.
pub struct Server {
    listener: TcpListener,
    local_address: SocketAddr,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    metrics: Arc<ApiMetrics>,
}

impl Server {
    /// Listens on `address`; port 0 takes any free port. With `tls` the server speaks nothing else.
    pub fn bind(
        address: SocketAddr,
        tls: Option<&TlsFiles>,
        limits: Limits,
        metrics: Arc<ApiMetrics>,
    ) -> Result<Self, Error> {
        let tls = tls.map(tls::acceptor).transpose()?;
        let listen = || {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            // Lets a restarted relay have its port at once, while connections of the old one still linger.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let local_address = listener.local_addr()?;
            Ok((listener, local_address))
        };
        let (listener, local_address) =
            listen().map_err(|source| Error::Listen { address, source })?;
        Ok(Self {
            listener,
            local_address,
            tls,
            limits,
            metrics,
        })
    }

    /// The address that clients can reach, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves `router` until `stop` is cancelled. Then nothing is accepted any more, idle connections are closed, and
    /// running requests get [`Limits::drain_timeout`] to finish; what is left is cut.
    pub async fn run(self, router: Router, stop: CancellationToken) {
        let Self {
            listener,
            local_address: _,
            tls,
            limits,
            metrics,
        } = self;
        let connections = Connections {
            router,
            tls,
            limits,
            sockets: Sockets::new(
                limits.connections_max,
                limits.stall_timeout,
                Arc::clone(&metrics),
            ),
            metrics,
            stop,
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        connections.accept_from(listener).await;
        connections.drain().await;
    }
}

/// Everything that the connections of one running server share.
struct Connections {
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    metrics: Arc<ApiMetrics>,
    sockets: Arc<Sockets>,
    stop: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Connections {
    /// Accepts until told to stop, then closes the listener.
    async fn accept_from(&self, listener: TcpListener) {
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    self.admit(socket, address);
                }
                Err(error) if concerns_one_socket(&error) => {}
                Err(error) => {
                    self.metrics.accept_failures.inc();
                    tracing::warn!(error.message = %error, retry.wait_ms = pause.as_millis(), "cannot accept connections");
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = sleep(pause) => pause = (pause * 2).min(ACCEPT_PAUSE_MAX),
                    }
                }
            }
        }
    }

    /// Starts the task of one accepted socket, or closes the socket when there is no place for it.
    fn admit(&self, socket: TcpStream, address: SocketAddr) {
        // Fails only on a socket that is gone already, which the first read finds out.
        let _ = socket.set_nodelay(true);
        let Some(socket) = self.sockets.admit(socket) else {
            self.metrics.refused_sockets.inc();
            tracing::debug!(client.address = %address, "connection refused, too many are open");
            return;
        };
        let requests = Requests {
            router: self.router.clone(),
            address: ClientAddress(address),
            limits: self.limits,
            stop: self.stop.clone(),
            cut: self.cut.clone(),
        };
        match self.tls.clone() {
            None => self.tasks.spawn(requests.serve(socket)),
            Some(tls) => {
                self.tasks
                    .spawn(requests.serve_tls(tls, socket, Arc::clone(&self.metrics)))
            }
        };
    }

    /// Lets running requests finish, for a bounded time.
    async fn drain(self) {
        self.tasks.close();
        if timeout(self.limits.drain_timeout, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                http.connections = self.tasks.len(),
                "cutting connections that did not finish in time"
            );
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Serves the requests of one connection.
struct Requests {
    router: Router,
    address: ClientAddress,
    limits: Limits,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Requests {
    async fn serve_tls(self, tls: TlsAcceptor, socket: ClientSocket, metrics: Arc<ApiMetrics>) {
        let handshake = timeout(self.limits.head_timeout, tls.accept(socket));
        let handshake = tokio::select! {
            () = self.stop.cancelled() => return,
            handshake = handshake => handshake.unwrap_or_else(|elapsed| Err(elapsed.into())),
        };
        match handshake {
            Ok(stream) => self.serve(WrittenThrough::new(stream)).await,
            Err(error) => {
                metrics.tls_failures.inc();
                tracing::debug!(client.address = %self.address.0, error.message = %error, "TLS handshake failed");
            }
        }
    }

    async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            router,
            address,
            limits,
            stop,
            cut,
        } = self;
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(address);
            let deadline = Instant::now() + limits.body_timeout;
            let request = request.map(|body| Body::new(DeadlineBody::new(body, deadline)));
            // A router is always ready.
            router.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = connection.as_mut() => ended,
                    () = cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(client.address = %address.0, error.message = %error, "connection ended early");
        }
    }
}

/// Whether a failed accept says something about the socket that was to be accepted and nothing about the next one.
fn concerns_one_socket(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
