//! The configuration of the relay, complete and checked before anything is bound.
//!
//! It comes, in rising priority, from defaults, a TOML file, the environment and flags. All of that is driven by one
//! table, [`options::OPTIONS`]: parsing, `check-config`, `--help` and `docs/configuration.md` follow from it. Whatever
//! is unknown or out of range is refused with an [`Error`] that names the option, where the value came from, the value
//! (masked when secret) and what is allowed.
//!
//! One exception: a malformed connection string does not stop the relay, which then reports it in `GET /status` (as
//! ux4iot does); it is kept here as an error value.

pub mod address;
pub mod connection_string;
mod effective;
mod error;
pub mod grant_tokens;
pub mod options;
mod reference;
pub mod secret;
mod sources;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use connection_string::{
    ConnectionStringError, EventHubConnectionString, EventHubCredential, IotHubConnectionString,
};
pub use effective::{Effective, EffectiveOption};
pub use error::{Error, Errors, Origin};
pub use grant_tokens::{GrantTokenConfig, KeySetLocation};
pub use reference::reference_markdown;
pub(crate) use reference::{described_default, sentence};
pub use secret::{AdminKeys, Secret};
pub use sources::Sources;

/// Everything that can be configured about the relay.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the HTTP listener: REST API, Socket.IO, probes and metrics. Port 0 means any free one.
    pub listen: SocketAddr,
    /// Certificate and key of the HTTP listener; `None` serves plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where the durable store of a later release will keep its files. Not used yet.
    pub data_dir: Option<PathBuf>,
    /// Whether the protocol of ux4iot 2.x is spoken as well.
    pub legacy_v2: bool,
    /// Number of shards that share the devices.
    pub shards: NonZeroUsize,
    /// How long a drain may take before what is left is aborted.
    pub shutdown_grace: Duration,
    /// Where device messages come from.
    pub event_hub: EventHubConfig,
    /// The service API of the IoT hub, for direct methods and twins.
    pub iot_hub: IotHubApi,
    /// How the service API of the IoT hub is used.
    pub iot_hub_use: IotHubUse,
    /// How device messages are understood.
    pub decoding: DecodingConfig,
    /// Shortest time between two telemetry updates of one device to one session; `None` does not throttle.
    pub throttling_interval: Option<Duration>,
    /// How long a connection state holds without news of the device; `None` means for ever.
    pub connection_state_ttl: Option<Duration>,
    /// How long a device twin is kept.
    pub device_twin_cache: DeviceTwinCache,
    /// The keys of the administrative part of the REST API.
    pub admin_keys: AdminKeys,
    /// Which grant tokens are accepted.
    pub grant_tokens: GrantTokenConfig,
    /// How connections to clients are kept.
    pub push: PushConfig,
    /// Every bound of the service.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// PEM files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Private key of that certificate.
    pub key: PathBuf,
}

/// The source of device messages.
#[derive(Clone, Debug)]
pub struct EventHubConfig {
    /// Where the event hub is; an error value when the configured string is malformed.
    pub connection_string: Result<EventHubConnectionString, ConnectionStringError>,
    /// The consumer group to read with.
    pub consumer_group: String,
    /// How AMQP is carried.
    pub transport: EventHubTransport,
    /// Where reading starts when no checkpoint exists.
    pub start: EventHubStart,
}

/// The service API of the IoT hub.
#[derive(Clone, Debug)]
pub enum IotHubApi {
    /// Not configured: calls that need it answer that it is disabled.
    Disabled,
    /// Configured with a malformed string, which `GET /status` reports. Calls see it as disabled.
    Malformed(ConnectionStringError),
    /// Configured.
    Enabled(IotHubConnectionString),
}

impl IotHubApi {
    /// The connection string, when the API is enabled.
    pub fn connection_string(&self) -> Option<&IotHubConnectionString> {
        match self {
            Self::Enabled(connection_string) => Some(connection_string),
            Self::Disabled | Self::Malformed(_) => None,
        }
    }
}

/// How the service API of the IoT hub is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotHubUse {
    /// PEM file with certificate authorities that are trusted beside those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// What the hub can take.
    pub tier: IotHubTier,
    /// Number of units of that tier.
    pub units: u32,
    /// Direct methods and twin patches under way at one time; further ones are refused.
    pub calls_max: usize,
    /// The same for one session.
    pub calls_per_session_max: usize,
}

/// How device messages are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodingConfig {
    /// Body member that holds the time of a message; `None` looks at properties only.
    pub custom_timestamp_key: Option<String>,
    /// Body member of telemetry that holds the device id; `None` looks at properties only.
    pub custom_device_id_key: Option<String>,
    /// Body member of telemetry that holds the connection state; `None` takes it from the hub's connection events.
    pub custom_connection_state_key: Option<String>,
    /// Whether telemetry proves that its device is connected. Without effect when there is a custom connection-state
    /// key.
    pub connection_state_on_telemetry: bool,
    /// Longest body of one device message, in bytes; longer ones are dropped and counted.
    pub message_bytes_max: usize,
    /// Deepest nesting of JSON in a body; deeper ones are dropped and counted.
    pub json_depth_max: usize,
}

/// How long a device twin is kept after it was read from the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceTwinCache {
    /// Each request asks the hub.
    Off,
    /// Until a twin event replaces it.
    Forever,
    /// For this long.
    For(Duration),
}

/// How connections to clients are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushConfig {
    /// Time between two pings of the server (Engine.IO `pingInterval`).
    pub ping_interval: Duration,
    /// How long the answer to a ping may take (Engine.IO `pingTimeout`).
    pub ping_timeout: Duration,
    /// Most frames that wait for one connection before telemetry is conflated.
    pub outbox_frames_max: usize,
    /// Most bytes that wait for one connection before telemetry is conflated.
    pub outbox_bytes_max: usize,
    /// How long a native session that lost its connection can be resumed.
    pub resume_window: Duration,
    /// Most bytes, about, of the last values in one snapshot.
    pub snapshot_bytes_max: usize,
    /// Most frames of a native connection that are remembered after they were sent.
    pub replay_frames_max: usize,
    /// Most bytes of a native connection that are remembered after they were sent.
    pub replay_bytes_max: usize,
}

/// The bounds of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections; further ones are refused.
    pub connections_max: usize,
    /// Sessions; further ones are refused.
    pub sessions_max: usize,
    /// Sessions that no connection was ever bound to; further ones are refused.
    pub unbound_sessions_max: usize,
    /// Sessions that one address may create each second on average.
    pub session_rate_per_address_per_s: u32,
    /// Sessions that one address may create at once.
    pub session_burst_per_address: u32,
    /// Subscriptions of one session; further ones are refused.
    pub subscriptions_per_session_max: usize,
    /// Grants of one session; further ones are refused.
    pub grants_per_session_max: usize,
    /// Telemetry keys whose last values are kept for one device; further keys are dropped and counted.
    pub keys_per_device_max: usize,
    /// Devices whose last values are kept; further devices are dropped and counted.
    pub devices_max: usize,
    /// Longest body of a REST request, in bytes.
    pub body_bytes_max: usize,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The level at start; `PUT /logLevel/:level` changes it.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// Defines an enum whose variants are written as fixed words in the configuration.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of [`Self::WORDS`].
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// How the variants are written.
            pub const WORDS: &[&str] = &[$($word),+];

            /// How this variant is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The variant that is written so, if there is one.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|variant| variant.as_str() == word)
            }
        }
    };
}

words! {
    /// How much is logged; each level includes those before it.
    LogLevel {
        /// What failed and needs somebody.
        Error = "error",
        /// What is wrong but was coped with.
        Warn = "warn",
        /// What an operator wants to know in normal running.
        Info = "info",
        /// Details of the relay's own work.
        Verbose = "verbose",
        /// Details of the relay and of the libraries below it.
        Debug = "debug",
    }
}

words! {
    /// The form of a log line.
    LogFormat {
        /// For people; in colour on a terminal.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// How AMQP is carried to the event hub.
    EventHubTransport {
        /// Over TCP: port 5671, or 5672 for a stand-in without TLS.
        Amqp = "amqp",
        /// Over a WebSocket on port 443, for networks that let nothing else out.
        WebSocket = "websocket",
    }
}

words! {
    /// Pricing and scale tier of an IoT hub, which says how many calls it takes.
    IotHubTier {
        /// Free.
        Free = "free",
        /// Basic 1.
        B1 = "b1",
        /// Standard 1.
        S1 = "s1",
        /// Standard 2.
        S2 = "s2",
        /// Standard 3.
        S3 = "s3",
        /// No budget: the hub alone decides.
        Unlimited = "unlimited",
    }
}

words! {
    /// Where reading starts when no checkpoint exists.
    EventHubStart {
        /// At what arrives from now on.
        Latest = "latest",
        /// At the oldest event that the hub still holds.
        Earliest = "earliest",
    }
}

impl Config {
    /// Reads and checks every option.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, not only the first thing. A missing Event Hub connection string is an error; a
    /// malformed one is not (see [`Effective::malformed_connection_strings`]).
    pub fn load(sources: &Sources) -> Result<Self, Errors> {
        Effective::collect(sources)?.config()
    }
}

impl Default for Config {
    /// Every option at its default, which leaves out the one that has none: the event hub is
    /// [`ConnectionStringError::Empty`].
    fn default() -> Self {
        Effective::defaults().apply()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Config::default().limits
    }
}

impl Default for PushConfig {
    fn default() -> Self {
        Config::default().push
    }
}

impl Default for DecodingConfig {
    fn default() -> Self {
        Config::default().decoding
    }
}

#[cfg(test)]
mod tests;
