//! A running devhub: what is bound, where it can be reached, and how it ends.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    amqp::server::{Connections, Shared},
    cbs::Authority,
    event_hub::EventHub,
    faults::{Faults, Switches},
    iot_hub::{IdentityId, IotHub, IotHubSettings},
    kept_file::Error as FileError,
    listeners::{Addresses, Listeners, Servers, host_and_port},
    mqtt::server::Server as MqttServer,
    options::Options,
    sas::SharedAccessKey,
    service_api::{RequestCounts, Service},
    tls::{self, Identity},
};

const HTTPS_PORT: u16 = 443;
/// Where device SDKs connect to when nothing else is said.
const MQTT_TLS_PORT: u16 = 8883;

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
    addresses: Addresses,
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
        let listeners = Listeners::bind(&options).await?;
        let hub = EventHub::new(
            &options.hub_name,
            options.partitions,
            options.consumer_groups,
            options.log_bounds,
            Arc::clone(&options.clock),
        );
        let kept_key = |file_name| kept_key(options.tls_dir.as_deref(), file_name);
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
        let service = Service::new(iot_hub);
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
        let servers = Servers {
            amqp: shared,
            mqtt: MqttServer::new(service.hub.clone(), options.clock, options.connections_max),
            rest: service.clone(),
            connections_max: options.connections_max,
        };
        let addresses = listeners.serve(&servers, identity.as_ref(), &tasks, &stop)?;
        tracing::info!(
            amqp.address = %addresses.amqp,
            amqp.tls_address = addresses.amqp_tls.map(tracing::field::display),
            mqtt.address = addresses.mqtt.map(tracing::field::display),
            mqtt.tls_address = addresses.mqtt_tls.map(tracing::field::display),
            rest.address = addresses.rest.map(tracing::field::display),
            event_hub.name = faults.hub.name(),
            event_hub.partitions = faults.hub.partition_count(),
            "the event hub is ready",
        );
        Ok(Self {
            addresses,
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
        self.addresses.amqp
    }

    /// Where AMQP is served over TLS.
    pub fn amqp_tls_address(&self) -> Option<SocketAddr> {
        self.addresses.amqp_tls
    }

    /// Where the service REST API is served.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.addresses.rest
    }

    /// The connection string for services, with all rights. They must trust [`Devhub::ca_pem`]. It holds a key.
    pub fn iot_hub_service_connection_string(&self) -> Option<String> {
        let host = host_and_port(self.addresses.rest?, Some(HTTPS_PORT));
        Some(self.service.hub.service_connection_string(&host))
    }

    /// Where MQTT of devices is served over plain TCP.
    pub fn mqtt_address(&self) -> Option<SocketAddr> {
        self.addresses.mqtt
    }

    /// Where MQTT of devices is served over TLS.
    pub fn mqtt_tls_address(&self) -> Option<SocketAddr> {
        self.addresses.mqtt_tls
    }

    /// The connection string of a device or module for MQTT over TLS, with the port unless it is
    /// 8883; the SDK must trust [`Devhub::ca_pem`]. It holds the primary key. `None` without a
    /// listener, for an identity that is not registered, and for one that has no key.
    pub fn device_connection_string(&self, id: &IdentityId) -> Option<String> {
        let host = host_and_port(self.addresses.mqtt_tls?, Some(MQTT_TLS_PORT));
        self.service.hub.device_connection_string(id, &host)
    }

    /// The connection string for clients without TLS. It holds the key.
    pub fn event_hub_connection_string(&self) -> String {
        let plain = self.connection_string(self.addresses.amqp);
        format!("{plain};UseDevelopmentEmulator=true")
    }

    /// The connection string for clients with TLS, which must trust [`Devhub::ca_pem`]. It holds the
    /// key.
    pub fn tls_connection_string(&self) -> Option<String> {
        Some(self.connection_string(self.addresses.amqp_tls?))
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

/// The key in a file of the directory, or one for this time only.
fn kept_key(directory: Option<&Path>, file_name: &str) -> Result<SharedAccessKey, FileError> {
    match directory {
        Some(directory) => SharedAccessKey::load_or_create(directory, file_name),
        None => Ok(SharedAccessKey::generate()),
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
