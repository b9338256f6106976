//! The listener: TLS and HTTP/1.1, up to a bound of connections.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::Service;
use super::admission::DropConnection;
use crate::listeners;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the head of a request, and so for a kept connection to be idle.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);

/// For requests under way when devhub stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the API until `stop`; each connection is a task of `tasks`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    service: Service,
    connections_max: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let router = service.router();
    let places = Arc::new(Semaphore::new(connections_max));
    listeners::accept(listener, &tasks, &stop, |stream, peer| {
        let place = Arc::clone(&places).try_acquire_owned().ok()?;
        let connection = serve_connection(stream, tls.clone(), router.clone(), stop.clone());
        Some(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error.message = %error, network.peer = %peer, "a connection broke off");
            }
            drop(place);
        })
    })
    .await;
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the TLS handshake took too long")]
    SlowHandshake,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// A fault switch closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault switch dropped the connection")]
struct Dropped;

async fn serve_connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => accepted,
        () = stop.cancelled() => return Ok(()),
    };
    let stream = accepted.map_err(|_| Error::SlowHandshake)??;
    let service = service_fn(move |request: Request<Incoming>| {
        // A router is always ready.
        let answered = router.clone().call(request.map(Body::new));
        async move { sendable(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // What is still under way then is cut off.
    match timeout(DRAIN_TIMEOUT, connection).await {
        Ok(served) => Ok(served?),
        Err(_) => Ok(()),
    }
}

fn sendable(response: Result<Response, Infallible>) -> Result<Response, Dropped> {
    let Ok(response) = response;
    if response.extensions().get::<DropConnection>().is_some() {
        return Err(Dropped);
    }
    Ok(response)
}
