//! Devices that connect: up to a bound, with TLS or without.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::field::display;

use super::{
    connection::{self, Ended, Shared},
    end::End,
    sessions::Sessions,
};
use crate::{clock::Clock, iot_hub::IotHub, listeners};

/// For the TLS handshake.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The MQTT side of a devhub, for any number of listeners.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    /// One permit for each connection that may be open.
    room: Arc<Semaphore>,
}

impl Server {
    /// A server of `hub` with room for `connections_max`; more are refused.
    pub(crate) fn new(hub: IotHub, clock: Arc<dyn Clock>, connections_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                hub,
                sessions: Arc::<Sessions>::default(),
                clock,
            }),
            room: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Accepts connections until `stop`; each is served by a task of `tasks`, over TLS if there is a
    /// configuration for it.
    pub(crate) async fn accept(
        self,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let tls = tls.map(TlsAcceptor::from);
        listeners::accept(listener, &tasks, &stop, |stream, peer| {
            let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
            let (shared, tls, stop) = (Arc::clone(&self.shared), tls.clone(), stop.clone());
            Some(async move {
                match serve(stream, tls, &shared, &stop).await {
                    Ok(ended) => log(peer, &ended),
                    Err(error) => {
                        tracing::debug!(network.peer = %peer, error.message = %error, "a connection broke off before it began");
                    }
                }
                drop(room);
            })
        })
        .await;
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: &Shared,
    stop: &CancellationToken,
) -> io::Result<Ended> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(connection::serve(stream, None, shared, stop).await);
    };
    let accepted = tokio::select! {
        accepted = timeout(START_TIMEOUT, tls.accept(stream)) => accepted,
        () = stop.cancelled() => return Ok(Ended { who: None, why: End::Stopped }),
    };
    let stream = accepted.map_err(|_| io::ErrorKind::TimedOut)??;
    let (_, tls) = stream.get_ref();
    let certificate = tls
        .peer_certificates()
        .and_then(|chain| chain.first().cloned());
    Ok(connection::serve(stream, certificate.as_deref(), shared, stop).await)
}

/// What a client did wrong is worth a line to whoever is writing it.
fn log(peer: SocketAddr, Ended { who, why }: &Ended) {
    let who = who.as_ref().map(display);
    if why.is_fault_of_client() {
        tracing::warn!(network.peer = %peer, device.id = who, reason = %why, "disconnected a device");
    } else {
        tracing::debug!(network.peer = %peer, device.id = who, reason = %why, "a device's connection ended");
    }
}
