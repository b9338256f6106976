//! A running devhub: what is bound, where it can be reached, and how it ends.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    amqp::server::{self, Connections, Shared},
    cbs::Authority,
    event_hub::EventHub,
    faults::{Faults, Switches},
    iot_hub::{Authentication, IdentityId, IotHub, IotHubSettings},
    kept_file::Error as FileError,
    mqtt::{client_certificate, server::Server as MqttServer},
    options::Options,
    sas::SharedAccessKey,
    service_api::{self, RequestCounts, Service},
    tls::{self, Identity},
};

/// Where device SDKs connect to when nothing else is said.
const MQTT_TLS_PORT: u16 = 8883;
const HTTPS_PORT: u16 = 443;

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
    mqtt: Option<SocketAddr>,
    mqtt_tls: Option<SocketAddr>,
    rest: Option<SocketAddr>,
    identity: Option<Identity>,
    policy: String,
    key: SharedAccessKey,
    service: Service,
    faults: Faults,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Devhub {
    /// Binds all listeners and starts to serve. Must be called on a Tokio runtime.
    pub async fn start(options: Options) -> Result<Self, Error> {
        validate(&options)?;
        let identity = tls_identity(&options)?;
        let mqtt_tls_config = identity.as_ref().map(client_certificate::server_config);
        let mqtt_tls_config = mqtt_tls_config.transpose()?;
        let (listener, amqp) = bind(options.amqp).await?;
        let tls_listener = bind_if_any(options.amqp_tls).await?;
        let mqtt_listener = bind_if_any(options.mqtt).await?;
        let mqtt_tls_listener = bind_if_any(options.mqtt_tls).await?;
        let rest_listener = bind_if_any(options.rest).await?;
        let hub = EventHub::new(
            &options.hub_name,
            options.partitions,
            options.consumer_groups,
            options.log_bounds,
            Arc::clone(&options.clock),
        );
        let kept_key = |file_name| match &options.tls_dir {
            Some(directory) => SharedAccessKey::load_or_create(directory, file_name),
            None => Ok(SharedAccessKey::generate()),
        };
        let iot_hub = IotHub::new(
            IotHubSettings {
                name: options.iot_hub_name,
                key: kept_key("iot-hub-key")?,
                routes: options.routes,
            },
            hub.clone(),
            Arc::clone(&options.clock),
        );
        let policy = options.shared_access_key_name;
        let key = match options.shared_access_key {
            Some(key) => key,
            None => kept_key("shared-access-key")?,
        };
        let service = Service::new(iot_hub.clone());
        let faults = Faults {
            service: Arc::clone(&service.faults),
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
        let mqtt_server = MqttServer::new(iot_hub, options.clock, options.connections_max);
        let serve_mqtt = |(listener, address), tls| {
            tasks.spawn(
                mqtt_server
                    .clone()
                    .accept(listener, tls, tasks.clone(), stop.clone()),
            );
            address
        };
        let mqtt = mqtt_listener.map(|bound| serve_mqtt(bound, None));
        let mqtt_tls = mqtt_tls_listener.map(|bound| serve_mqtt(bound, mqtt_tls_config));
        let rest = rest_listener
            .zip(identity.as_ref())
            .map(|((listener, address), identity)| {
                tasks.spawn(service_api::serve(
                    listener,
                    identity.server_config().into(),
                    service.clone(),
                    options.connections_max,
                    tasks.clone(),
                    stop.clone(),
                ));
                address
            });
        tracing::info!(
            amqp.address = %amqp,
            amqp.tls_address = amqp_tls.map(tracing::field::display),
            mqtt.address = mqtt.map(tracing::field::display),
            mqtt.tls_address = mqtt_tls.map(tracing::field::display),
            rest.address = rest.map(tracing::field::display),
            event_hub.name = shared.hub.name(),
            event_hub.partitions = shared.hub.partition_count(),
            "the event hub is ready",
        );
        Ok(Self {
            amqp,
            amqp_tls,
            mqtt,
            mqtt_tls,
            rest,
            identity,
            policy,
            key,
            service,
            faults,
            tasks,
            stop,
        })
    }

    /// The IoT hub, whose events go into the event hub.
    pub fn iot_hub(&self) -> &IotHub {
        &self.service.hub
    }

    /// How often the service REST API was asked for what.
    pub fn service_requests(&self) -> RequestCounts {
        self.service.requests.counts()
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

    /// Where MQTT of devices is served over plain TCP.
    pub fn mqtt_address(&self) -> Option<SocketAddr> {
        self.mqtt
    }

    /// Where MQTT of devices is served over TLS.
    pub fn mqtt_tls_address(&self) -> Option<SocketAddr> {
        self.mqtt_tls
    }

    /// The connection string of a device or module for MQTT over TLS, with the port unless it is
    /// 8883; the SDK must trust [`Devhub::ca_pem`]. It holds the primary key. `None` without a
    /// listener, for an identity that is not registered, and for one that has no key.
    pub fn device_connection_string(&self, id: &IdentityId) -> Option<String> {
        let Authentication::Sas(keys) = self.iot_hub().identity(id).ok()?.authentication else {
            return None;
        };
        let module = id
            .module_id()
            .map_or_else(String::new, |module| format!("ModuleId={module};"));
        Some(format!(
            "HostName={};DeviceId={};{module}SharedAccessKey={}",
            host_and_port(self.mqtt_tls?, Some(MQTT_TLS_PORT)),
            id.device_id(),
            keys.primary.expose(),
        ))
    }

    /// Where the service REST API is served.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.rest
    }

    /// The connection string for services, with all rights. They must trust [`Devhub::ca_pem`]. It holds a key.
    pub fn iot_hub_service_connection_string(&self) -> Option<String> {
        let host = host_and_port(self.rest?, Some(HTTPS_PORT));
        Some(self.service.hub.service_connection_string(&host))
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
        format!(
            "Endpoint=sb://{host}/;SharedAccessKeyName={};SharedAccessKey={};EntityPath={}",
            self.policy,
            self.key.expose(),
            self.faults.hub.name(),
            host = host_and_port(address, None),
        )
    }
}

impl Drop for Devhub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The certificates for all TLS listeners, if there are any, or a directory to keep them in.
fn tls_identity(options: &Options) -> Result<Option<Identity>, tls::Error> {
    let listeners = [options.amqp_tls, options.mqtt_tls, options.rest];
    let addresses: Vec<_> = listeners.iter().flatten().map(SocketAddr::ip).collect();
    match &options.tls_dir {
        Some(directory) => {
            Identity::load_or_create(directory, &addresses, &*options.clock).map(Some)
        }
        None if addresses.is_empty() => Ok(None),
        None => Identity::create(&addresses, &*options.clock).map(Some),
    }
}

/// How clients on this machine name an address: `localhost` where that leads to it. A port that clients take by
/// themselves is left out.
fn host_and_port(address: SocketAddr, default_port: Option<u16>) -> String {
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
    if !is_name(&options.iot_hub_name) {
        return invalid(
            "iot_hub_name",
            "consist of letters, digits, '-', '_' and '.'",
        );
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

async fn bind_if_any(
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, Error> {
    match address {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
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
