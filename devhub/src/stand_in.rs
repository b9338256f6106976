//! A running devhub: what is bound, where it can be reached, and how it ends.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    amqp::server::{self, Connections, Shared},
    cbs::Authority,
    event_hub::EventHub,
    faults::{Faults, Switches},
    kept_file::Error as FileError,
    options::Options,
    sas::SharedAccessKey,
    tls::{self, Identity},
};

#[cfg(unix)]
const SEGMENT_BYTES: u32 = 16 * 1024;

/// Why a devhub did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The option has a value that cannot be served.
    #[error("{option} must {rule}")]
    Option {
        /// The field of [`Options`].
        option: &'static str,
        /// What is allowed.
        rule: &'static str,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The key cannot be kept.
    #[error(transparent)]
    Key(#[from] FileError),
    /// There are no certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// A running devhub. It ends when [`Devhub::stop`] is awaited; when it is merely dropped, its tasks
/// end soon after.
#[derive(Debug)]
pub struct Devhub {
    amqp: SocketAddr,
    amqp_tls: Option<SocketAddr>,
    identity: Option<Identity>,
    policy: String,
    key: SharedAccessKey,
    faults: Faults,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Devhub {
    /// Binds all listeners and starts to serve. Must be called on a Tokio runtime.
    pub async fn start(options: Options) -> Result<Self, Error> {
        validate(&options)?;
        let identity = match (&options.amqp_tls, &options.tls_dir) {
            (None, None) => None,
            (_, Some(directory)) => Some(Identity::load_or_create(directory, &*options.clock)?),
            (Some(_), None) => Some(Identity::create(&*options.clock)?),
        };
        let (listener, amqp) = bind(options.amqp).await?;
        let tls_listener = match options.amqp_tls {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let hub = EventHub::new(
            &options.hub_name,
            options.partitions,
            options.consumer_groups,
            options.log_bounds,
            options.clock,
        );
        let policy = options.shared_access_key_name;
        let key = match (options.shared_access_key, &options.tls_dir) {
            (Some(key), _) => key,
            (None, Some(directory)) => {
                SharedAccessKey::load_or_create(directory, "shared-access-key")?
            }
            (None, None) => SharedAccessKey::generate(),
        };
        let faults = Faults {
            hub: hub.clone(),
            switches: Arc::<Switches>::default(),
            connections: Arc::new(Connections::new(options.connections_max)),
        };
        let shared = Arc::new(Shared {
            hub,
            authority: Authority {
                policy: policy.clone(),
                key: key.clone(),
                accepts_any_token: options.accept_any_token,
            },
            faults: Arc::clone(&faults.switches),
            connections: Arc::clone(&faults.connections),
            container_id: uuid::Uuid::new_v4().simple().to_string(),
            idle_timeout: options.idle_timeout,
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let serve = |listener, tls| {
            let shared = Arc::clone(&shared);
            tasks.spawn(server::accept(
                listener,
                tls,
                shared,
                tasks.clone(),
                stop.clone(),
            ));
        };
        serve(listener, None);
        let amqp_tls = tls_listener.map(|(listener, address)| {
            serve(listener, identity.as_ref().map(Identity::server_config));
            address
        });
        tracing::info!(
            amqp.address = %amqp,
            amqp.tls_address = amqp_tls.map(tracing::field::display),
            event_hub.name = shared.hub.name(),
            event_hub.partitions = shared.hub.partition_count(),
            "the event hub is ready",
        );
        Ok(Self {
            amqp,
            amqp_tls,
            identity,
            policy,
            key,
            faults,
            tasks,
            stop,
        })
    }

    /// The event hub, to publish into and to look at.
    pub fn event_hub(&self) -> &EventHub {
        &self.faults.hub
    }

    /// The fault switches.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Where AMQP is served over plain TCP.
    pub fn amqp_address(&self) -> SocketAddr {
        self.amqp
    }

    /// Where AMQP is served over TLS.
    pub fn amqp_tls_address(&self) -> Option<SocketAddr> {
        self.amqp_tls
    }

    /// The connection string for clients without TLS. It holds the key.
    pub fn event_hub_connection_string(&self) -> String {
        let plain = self.connection_string(self.amqp);
        format!("{plain};UseDevelopmentEmulator=true")
    }

    /// The connection string for clients with TLS, which must trust [`Devhub::ca_pem`]. It holds the
    /// key.
    pub fn tls_connection_string(&self) -> Option<String> {
        Some(self.connection_string(self.amqp_tls?))
    }

    /// The certificates, when TLS or a directory for them was asked for.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> Option<&str> {
        self.identity.as_ref().map(Identity::ca_pem)
    }

    /// The file that holds the authority's certificate.
    pub fn ca_path(&self) -> Option<&Path> {
        self.identity.as_ref().and_then(Identity::ca_path)
    }

    /// Closes all connections with `amqp:connection:forced` and waits until every task has ended,
    /// which takes a few seconds at most.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn connection_string(&self, address: SocketAddr) -> String {
        let host = if address.ip().is_loopback() || address.ip().is_unspecified() {
            format!("localhost:{}", address.port())
        } else {
            address.to_string()
        };
        format!(
            "Endpoint=sb://{host}/;SharedAccessKeyName={};SharedAccessKey={};EntityPath={}",
            self.policy,
            self.key.expose(),
            self.faults.hub.name(),
        )
    }
}

impl Drop for Devhub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn validate(options: &Options) -> Result<(), Error> {
    let invalid = |option, rule| Err(Error::Option { option, rule });
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    if options.partitions == 0 {
        return invalid("partitions", "be at least 1");
    }
    if !is_name(&options.hub_name) {
        return invalid("hub_name", "consist of letters, digits, '-', '_' and '.'");
    }
    if !is_name(&options.shared_access_key_name) {
        return invalid(
            "shared_access_key_name",
            "consist of letters, digits, '-', '_' and '.'",
        );
    }
    if let Some(key) = &options.shared_access_key
        && (key.expose().is_empty() || key.expose().contains([';', ' ']))
    {
        return invalid("shared_access_key", "be text without ';' and spaces");
    }
    if options.idle_timeout.is_zero() {
        return invalid("idle_timeout", "be longer than nothing");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        // The Python SDK sets the segment size that it reads from its socket. Over loopback that may
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
