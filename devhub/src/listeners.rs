//! What devhub listens on, and what is served there.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error,
    amqp::server::{self as amqp, Shared},
    mqtt::{client_certificate, server::Server as MqttServer},
    options::Options,
    service_api::{self, Service},
    tls::{self, Identity},
};

#[cfg(unix)]
const SEGMENT_BYTES: u32 = 16 * 1024;

/// How long to wait when the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Bound = (TcpListener, SocketAddr);

/// Bound ports that nobody serves yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    amqp: Bound,
    amqp_tls: Option<Bound>,
    mqtt: Option<Bound>,
    mqtt_tls: Option<Bound>,
    rest: Option<Bound>,
}

/// Where devhub can be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) amqp: SocketAddr,
    pub(crate) amqp_tls: Option<SocketAddr>,
    pub(crate) mqtt: Option<SocketAddr>,
    pub(crate) mqtt_tls: Option<SocketAddr>,
    pub(crate) rest: Option<SocketAddr>,
}

/// What is served.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) amqp: Arc<Shared>,
    pub(crate) mqtt: MqttServer,
    pub(crate) rest: Service,
    /// At the service REST API.
    pub(crate) connections_max: usize,
}

impl Listeners {
    /// Binds all that the options ask for.
    pub(crate) async fn bind(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            amqp: bind(options.amqp).await?,
            amqp_tls: bind_if_any(options.amqp_tls).await?,
            mqtt: bind_if_any(options.mqtt).await?,
            mqtt_tls: bind_if_any(options.mqtt_tls).await?,
            rest: bind_if_any(options.rest).await?,
        })
    }

    /// Serves on all of them in `tasks` until `stop`. Those with TLS need an identity.
    pub(crate) fn serve(
        self,
        servers: &Servers,
        identity: Option<&Identity>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Addresses, tls::Error> {
        let amqp = |(listener, address): Bound, tls| {
            let shared = Arc::clone(&servers.amqp);
            tasks.spawn(amqp::accept(
                listener,
                tls,
                shared,
                tasks.clone(),
                stop.clone(),
            ));
            address
        };
        let mqtt = |(listener, address): Bound, tls| {
            let server = servers.mqtt.clone();
            tasks.spawn(server.accept(listener, tls, tasks.clone(), stop.clone()));
            address
        };
        let rest = |(listener, address): Bound, tls: Arc<rustls::ServerConfig>| {
            tasks.spawn(service_api::serve(
                listener,
                tls.into(),
                servers.rest.clone(),
                servers.connections_max,
                tasks.clone(),
                stop.clone(),
            ));
            address
        };
        let tls = identity.map(Identity::server_config);
        let mqtt_tls = identity
            .map(client_certificate::server_config)
            .transpose()?;
        Ok(Addresses {
            amqp: amqp(self.amqp, None),
            amqp_tls: self.amqp_tls.map(|bound| amqp(bound, tls.clone())),
            mqtt: self.mqtt.map(|bound| mqtt(bound, None)),
            mqtt_tls: self.mqtt_tls.map(|bound| mqtt(bound, mqtt_tls)),
            rest: self.rest.zip(tls).map(|(bound, tls)| rest(bound, tls)),
        })
    }
}

/// Accepts connections until `stop`. `serve` makes of each a future that is run in `tasks`, or refuses it, as there are
/// too many.
pub(crate) async fn accept<C>(
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr) -> Option<C>,
) where
    C: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => match serve(stream, peer) {
                Some(connection) => drop(tasks.spawn(connection)),
                None => {
                    tracing::warn!(network.peer = %peer, "refused a connection, as there are too many");
                }
            },
            Err(error) => {
                tracing::warn!(error.message = %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How clients on this machine name an address: `localhost` where that leads to it. A port that clients take by
/// themselves is left out.
pub(crate) fn host_and_port(address: SocketAddr, default_port: Option<u16>) -> String {
    let ip = address.ip();
    let is_localhost =
        ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
    let host = match ip {
        _ if is_localhost => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    if default_port == Some(address.port()) {
        host
    } else {
        format!("{host}:{}", address.port())
    }
}

async fn bind_if_any(address: Option<SocketAddr>) -> Result<Option<Bound>, Error> {
    match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(address: SocketAddr) -> Result<Bound, Error> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        // The Python SDK for Event Hubs sets the segment size that it reads from its socket. Over loopback that may
        // be larger than the system lets it set, so it is kept smaller from here.
        #[cfg(unix)]
        socket2::SockRef::from(&listener).set_tcp_mss(SEGMENT_BYTES)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound
        .await
        .map_err(|source| Error::Bind { address, source })
}
