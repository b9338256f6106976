//! What a devhub is started with.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    LogBounds,
    clock::{Clock, SystemClock},
    event_hub::ConsumerGroups,
    iot_hub::Routes,
    sas::SharedAccessKey,
};

/// How a devhub is set up. The default is a hub named `devhub` with four partitions on any free port
/// of this machine, without TLS.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen for AMQP over plain TCP; port 0 means any.
    pub amqp: SocketAddr,
    /// Where to listen for AMQP over TLS; port 0 means any.
    pub amqp_tls: Option<SocketAddr>,
    /// Where to listen for MQTT of devices over plain TCP; port 0 means any.
    pub mqtt: Option<SocketAddr>,
    /// Where to listen for MQTT of devices over TLS; port 0 means any. Some device SDKs insist on 8883.
    pub mqtt_tls: Option<SocketAddr>,
    /// Where to listen for the IoT Hub service REST API over TLS; port 0 means any.
    pub rest: Option<SocketAddr>,
    /// Where certificates and keys are kept, so that a restarted devhub is still trusted and still takes its
    /// clients' connection strings; without it they live in memory only.
    pub tls_dir: Option<PathBuf>,
    /// The name of the event hub.
    pub hub_name: String,
    /// The name of the IoT hub, as its events tell it.
    pub iot_hub_name: String,
    /// Which events of the IoT hub reach the event hub.
    pub routes: Routes,
    /// How many partitions it has; at least one.
    pub partitions: u16,
    /// Which consumer groups it has.
    pub consumer_groups: ConsumerGroups,
    /// What each partition keeps.
    pub log_bounds: LogBounds,
    /// The name of the one policy.
    pub shared_access_key_name: String,
    /// The policy's key; when not given, the one kept in `tls_dir`, or a random one.
    pub shared_access_key: Option<SharedAccessKey>,
    /// Takes every token unseen. For quick starts only: everybody who reaches the port is let in.
    pub accept_any_token: bool,
    /// How many connections of each protocol may be open; more are refused.
    pub connections_max: usize,
    /// The idle time-out told to AMQP peers.
    pub idle_timeout: Duration,
    /// Where the wall clock is read.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            amqp: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            amqp_tls: None,
            mqtt: None,
            mqtt_tls: None,
            rest: None,
            tls_dir: None,
            hub_name: "devhub".to_owned(),
            iot_hub_name: "devhub".to_owned(),
            routes: Routes::default(),
            partitions: 4,
            consumer_groups: ConsumerGroups::Any,
            log_bounds: LogBounds::default(),
            shared_access_key_name: "RootManageSharedAccessKey".to_owned(),
            shared_access_key: None,
            accept_any_token: false,
            connections_max: 1000,
            idle_timeout: Duration::from_mins(2),
            clock: Arc::new(SystemClock),
        }
    }
}
