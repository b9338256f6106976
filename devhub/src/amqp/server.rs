//! The listeners: they accept connections, up to a bound, and own the tasks that serve them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, join, split},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    error::AmqpError,
    mailbox::{Mailbox, Verdict},
    transport, websocket,
};
use crate::{cbs::Authority, event_hub::EventHub, faults::Switches, listeners};

/// For each step of a connection's beginning.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hub: EventHub,
    pub(crate) authority: Authority,
    pub(crate) faults: Arc<Switches>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) container_id: String,
    /// What peers are told; twice as much is granted.
    pub(crate) idle_timeout: Duration,
}

/// The open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    last_id: AtomicU64,
    mailboxes: Mutex<HashMap<u64, Arc<Mailbox>>>,
}

impl Connections {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            last_id: AtomicU64::new(0),
            mailboxes: Mutex::default(),
        }
    }

    pub(crate) fn close_all(&self, error: &AmqpError) -> usize {
        let mailboxes = self.mailboxes.lock();
        for mailbox in mailboxes.values() {
            mailbox.post(Verdict::Close(error.clone()));
        }
        mailboxes.len()
    }

    /// Registers a connection until the guard is dropped; `None` when there are too many.
    fn register(self: &Arc<Self>) -> Option<Registered> {
        let mut mailboxes = self.mailboxes.lock();
        if mailboxes.len() >= self.max {
            return None;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::<Mailbox>::default();
        mailboxes.insert(id, Arc::clone(&mailbox));
        Some(Registered {
            connections: Arc::clone(self),
            id,
            mailbox,
        })
    }
}

struct Registered {
    connections: Arc<Connections>,
    id: u64,
    mailbox: Arc<Mailbox>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.mailboxes.lock().remove(&self.id);
    }
}

/// Accepts connections until `stop`; each is served by a task of `tasks`, over TLS if there is a
/// configuration for it.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let tls = tls.map(TlsAcceptor::from);
    listeners::accept(listener, &tasks, &stop, |stream, peer| {
        let registered = shared.connections.register()?;
        let (shared, tls, stop) = (Arc::clone(&shared), tls.clone(), stop.clone());
        Some(async move {
            tracing::debug!(network.peer = %peer, "accepted a connection");
            serve(stream, tls, shared, &registered.mailbox, stop).await;
            tracing::debug!(network.peer = %peer, "a connection ended");
        })
    })
    .await;
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mailbox: &Arc<Mailbox>,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error.message = %error, "cannot switch Nagle's algorithm off");
    }
    let Some(tls) = tls else {
        return serve_stream(stream, shared, mailbox, stop).await;
    };
    let accepted = tokio::select! {
        accepted = timeout(START_TIMEOUT, tls.accept(stream)) => accepted,
        () = stop.cancelled() => return,
    };
    match accepted {
        Ok(Ok(stream)) => serve_stream(stream, shared, mailbox, stop).await,
        Ok(Err(error)) => tracing::debug!(error.message = %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Serves AMQP, or AMQP inside of a WebSocket when the peer begins with HTTP.
async fn serve_stream<S>(
    mut stream: S,
    shared: Arc<Shared>,
    mailbox: &Arc<Mailbox>,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mailbox = Arc::clone(mailbox);
    let mut start = [0; 4];
    let started = tokio::select! {
        read = timeout(START_TIMEOUT, stream.read_exact(&mut start)) => read,
        () = stop.cancelled() => return,
    };
    if !matches!(started, Ok(Ok(_))) {
        return tracing::debug!("a connection ended before it began");
    }
    let served = if start == websocket::HTTP_START {
        let (reader, writer) = split(stream);
        let stream = join(start.as_slice().chain(reader), writer);
        let accepted = tokio::select! {
            accepted = timeout(START_TIMEOUT, websocket::accept(stream)) => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok(Ok(stream)) => transport::serve(stream, &[], shared, mailbox, stop).await,
            Ok(Err(error)) => {
                return tracing::debug!(error.message = %error, "a WebSocket handshake failed");
            }
            Err(_) => return tracing::debug!("a WebSocket handshake took too long"),
        }
    } else {
        transport::serve(stream, &start, shared, mailbox, stop).await
    };
    if let Err(error) = served {
        tracing::debug!(error.message = %error, "a connection broke off");
    }
}
