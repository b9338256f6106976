//! The table of options: the one place where each is named, bounded, explained and given its default.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::EVERY_INTERFACE;
use super::{
    AdminKeys, Config, ConnectionStringError, DecodingConfig, DeviceTwinCache, EventHubConfig,
    EventHubStart, EventHubTransport, IotHubApi, Limits, LogConfig, LogFormat, LogLevel,
    PushConfig, Secret, TlsFiles,
};

/// Prefix of the environment names that are ours alone; every name that begins with it must belong to an option.
pub const ENVIRONMENT_PREFIX: &str = "HUBRELAY_";

/// Environment variable that names the configuration file, as `--config` does.
pub const CONFIG_FILE_VARIABLE: &str = "HUBRELAY_CONFIG";

/// Name of the option that holds the Event Hub connection string.
pub const EVENT_HUB_CONNECTION_STRING: &str = "iot_hub_event_hub_connection_string";

/// Name of the option that holds the connection string of the IoT hub's service API.
pub const IOT_HUB_CONNECTION_STRING: &str = "iot_hub_service_connection_string";

/// Name of the option that holds the address to listen on.
pub const LISTEN: &str = "listen";

/// Name of the option that holds the primary admin key.
pub const PRIMARY_ADMIN_SECRET: &str = "primary_admin_secret";

/// Name of the option that holds the secondary admin key.
pub const SECONDARY_ADMIN_SECRET: &str = "secondary_admin_secret";

pub(super) const TLS_CERT: &str = "tls_cert";
pub(super) const TLS_KEY: &str = "tls_key";

const DAY_S: i64 = 86_400;
const YEARS_10_S: i64 = 3_650 * DAY_S;
const MIB: i64 = 1 << 20;

/// One option of the relay.
#[derive(Debug)]
pub struct OptionSpec {
    /// Its name: the TOML key, in snake case.
    pub name: &'static str,
    /// Its name in ux4iot, in camel case, when ux4iot has it; also accepted as TOML key and environment variable.
    pub ux4iot_name: Option<&'static str>,
    /// Where it is listed.
    pub section: Section,
    /// What values it takes and where they go.
    pub kind: Kind,
    /// Its value when no source gives one.
    pub default: Preset,
    /// What it means, in one line.
    pub meaning: &'static str,
}

/// Values an option takes, and where the parsed value goes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text(fn(&mut Config, &str)),
    /// A text that must not be empty.
    NonEmptyText(fn(&mut Config, &str)),
    /// A key; never shown.
    Secret(fn(&mut Draft, Secret)),
    /// A connection string; shown without its credentials. Malformed ones are kept as such.
    ConnectionString(fn(&mut Config, &str)),
    /// Path of a file or directory; empty means none.
    Path(fn(&mut Draft, Option<PathBuf>)),
    /// An address to listen on.
    Address(fn(&mut Config, SocketAddr)),
    /// `true` or `false`.
    Boolean(fn(&mut Config, bool)),
    /// One of some words; the setter gets its place among them.
    Word(&'static [&'static str], fn(&mut Config, usize)),
    /// A whole number within bounds, both included.
    Integer {
        /// The least one; `None` takes every negative number.
        min: Option<i64>,
        /// The greatest one.
        max: i64,
        /// Where it goes.
        set: fn(&mut Config, i64),
    },
}

/// The value of an option that no source names.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    /// This text.
    Is(&'static str),
    /// None: the option must be given.
    Required,
    /// Found out at start.
    Found {
        /// How the documentation describes it.
        described: &'static str,
        /// Finds it out.
        find: fn() -> String,
    },
}

/// A configuration under construction, with what becomes part of it only when all options are known.
#[derive(Debug)]
pub struct Draft {
    pub(super) config: Config,
    pub(super) primary_admin_secret: Secret,
    pub(super) secondary_admin_secret: Secret,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
}

/// Headings under which options are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Azure, at the other end.
    Hubs,
    /// How device messages are understood.
    DeviceMessages,
    /// Who may administer.
    Access,
    /// The relay's own listener and process.
    Server,
    /// How updates reach clients.
    Push,
    /// Bounds.
    Limits,
    /// Logs.
    Logging,
}

impl Section {
    /// Every section, in the order of listing.
    pub const ALL: &[Self] = &[
        Self::Hubs,
        Self::DeviceMessages,
        Self::Access,
        Self::Server,
        Self::Push,
        Self::Limits,
        Self::Logging,
    ];

    /// The heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Hubs => "Event Hubs and IoT Hub",
            Self::DeviceMessages => "Device messages and caches",
            Self::Access => "Access",
            Self::Server => "Server",
            Self::Push => "Push",
            Self::Limits => "Limits",
            Self::Logging => "Logging",
        }
    }
}

impl OptionSpec {
    /// The option with this TOML key, in either spelling.
    pub fn by_key(key: &str) -> Option<&'static Self> {
        OPTIONS
            .iter()
            .find(|option| option.name == key || option.ux4iot_name == Some(key))
    }

    /// Its environment names, in falling order of preference.
    pub fn environment_names(&self) -> Vec<String> {
        let upper = self.name.to_ascii_uppercase();
        let mut names = vec![format!("{ENVIRONMENT_PREFIX}{upper}")];
        if let Some(ux4iot_name) = self.ux4iot_name {
            names.push(upper);
            names.push(ux4iot_name.to_owned());
        }
        names
    }

    /// Its flag, without the leading dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Whether its value must not be shown as it is.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_) | Kind::ConnectionString(_))
    }
}

/// Every option, in the order of listing.
pub static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: EVENT_HUB_CONNECTION_STRING,
        ux4iot_name: Some("iotHubEventHubConnectionString"),
        section: Section::Hubs,
        kind: Kind::ConnectionString(|config, text| {
            config.event_hub.connection_string = text.parse();
        }),
        default: Preset::Required,
        meaning: "Event Hub, or Event Hub-compatible endpoint of an IoT hub, to read from; with `EntityPath`",
    },
    OptionSpec {
        name: IOT_HUB_CONNECTION_STRING,
        ux4iot_name: Some("iotHubServiceConnectionString"),
        section: Section::Hubs,
        kind: Kind::ConnectionString(|config, text| {
            config.iot_hub = match text.parse() {
                Ok(connection_string) => IotHubApi::Enabled(connection_string),
                Err(ConnectionStringError::Empty) => IotHubApi::Disabled,
                Err(error) => IotHubApi::Malformed(error),
            };
        }),
        default: Preset::Is(""),
        meaning: "service policy of the IoT hub (registry read, service connect) for direct methods and twins; empty disables them",
    },
    OptionSpec {
        name: "event_hub_consumer_group",
        ux4iot_name: Some("eventHubConsumerGroup"),
        section: Section::Hubs,
        kind: Kind::NonEmptyText(|config, text| config.event_hub.consumer_group = text.to_owned()),
        default: Preset::Is("$Default"),
        meaning: "consumer group to read with; no other reader should use it",
    },
    OptionSpec {
        name: "event_hub_transport",
        ux4iot_name: None,
        section: Section::Hubs,
        kind: Kind::Word(EventHubTransport::WORDS, |config, index| {
            config.event_hub.transport = EventHubTransport::ALL[index];
        }),
        default: Preset::Is("amqp"),
        meaning: "AMQP over TCP (port 5671), or over a WebSocket (port 443) for networks that let nothing else out",
    },
    OptionSpec {
        name: "event_hub_start",
        ux4iot_name: None,
        section: Section::Hubs,
        kind: Kind::Word(EventHubStart::WORDS, |config, index| {
            config.event_hub.start = EventHubStart::ALL[index];
        }),
        default: Preset::Is("latest"),
        meaning: "where reading starts when no checkpoint exists: at new events, or at the oldest that the hub still holds",
    },
    OptionSpec {
        name: "throttling_interval",
        ux4iot_name: Some("throttlingInterval"),
        section: Section::DeviceMessages,
        kind: Kind::Integer {
            min: None,
            max: DAY_S * 1000,
            set: |config, ms| {
                config.throttling_interval = (ms > 0).then(|| milliseconds(ms));
            },
        },
        default: Preset::Is("-1"),
        meaning: "milliseconds between two telemetry updates of one device to one session, newest values merged; 0 or less does not throttle",
    },
    OptionSpec {
        name: "connection_state_cache_ttl",
        ux4iot_name: Some("connectionStateCacheTTL"),
        section: Section::DeviceMessages,
        kind: Kind::Integer {
            min: Some(-1),
            max: YEARS_10_S,
            set: |config, s| config.connection_state_ttl = (s > 0).then(|| seconds(s)),
        },
        default: Preset::Is("60"),
        meaning: "seconds for which a connection state holds without news of the device; -1 or 0 for ever",
    },
    OptionSpec {
        name: "device_twin_cache_ttl",
        ux4iot_name: Some("deviceTwinCacheTTL"),
        section: Section::DeviceMessages,
        kind: Kind::Integer {
            min: Some(-1),
            max: YEARS_10_S,
            set: |config, s| {
                config.device_twin_cache = match s {
                    ..0 => DeviceTwinCache::Off,
                    0 => DeviceTwinCache::Forever,
                    1.. => DeviceTwinCache::For(seconds(s)),
                };
            },
        },
        default: Preset::Is("-1"),
        meaning: "seconds for which a device twin is kept; -1 keeps none, 0 keeps it for ever",
    },
    OptionSpec {
        name: "custom_timestamp_key",
        ux4iot_name: Some("customTimestampKey"),
        section: Section::DeviceMessages,
        kind: Kind::Text(|config, text| config.decoding.custom_timestamp_key = non_empty(text)),
        default: Preset::Is("_ts"),
        meaning: "body member that holds the time of a message; empty looks at properties only",
    },
    OptionSpec {
        name: "custom_device_id_key",
        ux4iot_name: Some("customDeviceIdKey"),
        section: Section::DeviceMessages,
        kind: Kind::Text(|config, text| config.decoding.custom_device_id_key = non_empty(text)),
        default: Preset::Is("deviceId"),
        meaning: "body member of telemetry that holds the device id, for gateways; empty keeps a device from speaking for another",
    },
    OptionSpec {
        name: "custom_connection_state_key",
        ux4iot_name: Some("customConnectionStateKey"),
        section: Section::DeviceMessages,
        kind: Kind::Text(|config, text| {
            config.decoding.custom_connection_state_key = non_empty(text);
        }),
        default: Preset::Is(""),
        meaning: "body member of telemetry whose boolean is the connection state, in place of the hub's events; empty means none",
    },
    OptionSpec {
        name: "connection_state_on_telemetry",
        ux4iot_name: Some("connectionStateOnTelemetry"),
        section: Section::DeviceMessages,
        kind: Kind::Boolean(|config, on| config.decoding.connection_state_on_telemetry = on),
        default: Preset::Is("true"),
        meaning: "whether telemetry proves that its device is connected",
    },
    OptionSpec {
        name: PRIMARY_ADMIN_SECRET,
        ux4iot_name: Some("primaryAdminSecret"),
        section: Section::Access,
        kind: Kind::Secret(|draft, secret| draft.primary_admin_secret = secret),
        default: Preset::Is(""),
        meaning: "key of the administrative API (header `Shared-Access-Key`); empty generates one that nobody knows",
    },
    OptionSpec {
        name: SECONDARY_ADMIN_SECRET,
        ux4iot_name: Some("secondaryAdminSecret"),
        section: Section::Access,
        kind: Kind::Secret(|draft, secret| draft.secondary_admin_secret = secret),
        default: Preset::Is(""),
        meaning: "second key, equally good, so that one can be changed while the other is in use; empty generates one that nobody knows",
    },
    OptionSpec {
        name: LISTEN,
        ux4iot_name: None,
        section: Section::Server,
        kind: Kind::Address(|config, address| config.listen = address),
        default: Preset::Is("0.0.0.0:8080"),
        meaning: "address of the HTTP listener; `:port` or a port alone listens on every interface, port 0 takes a free one",
    },
    OptionSpec {
        name: TLS_CERT,
        ux4iot_name: None,
        section: Section::Server,
        kind: Kind::Path(|draft, path| draft.tls_cert = path),
        default: Preset::Is(""),
        meaning: "PEM file with the certificate chain of the HTTP listener; needs `tls_key`; empty serves plain HTTP",
    },
    OptionSpec {
        name: TLS_KEY,
        ux4iot_name: None,
        section: Section::Server,
        kind: Kind::Path(|draft, path| draft.tls_key = path),
        default: Preset::Is(""),
        meaning: "PEM file with the private key of that certificate",
    },
    OptionSpec {
        name: "data_dir",
        ux4iot_name: None,
        section: Section::Server,
        kind: Kind::Path(|draft, path| draft.config.data_dir = path),
        default: Preset::Is(""),
        meaning: "reserved: directory of the durable store of a later release; accepted, but nothing is written there yet",
    },
    OptionSpec {
        name: "legacy_v2",
        ux4iot_name: None,
        section: Section::Server,
        kind: Kind::Boolean(|config, on| config.legacy_v2 = on),
        default: Preset::Is("false"),
        meaning: "reserved: the protocol of ux4iot 2.x; not available yet, so only `false` is accepted",
    },
    OptionSpec {
        name: "shards",
        ux4iot_name: None,
        section: Section::Server,
        kind: Kind::Integer {
            min: Some(1),
            max: SHARDS_MAX,
            set: |config, shards| {
                config.shards = NonZeroUsize::new(count(shards)).unwrap_or(NonZeroUsize::MIN);
            },
        },
        default: Preset::Found {
            described: "number of cores",
            find: || {
                let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
                i64::try_from(cores)
                    .unwrap_or(SHARDS_MAX)
                    .min(SHARDS_MAX)
                    .to_string()
            },
        },
        meaning: "number of tasks that share the devices between them",
    },
    OptionSpec {
        name: "shutdown_grace_ms",
        ux4iot_name: None,
        section: Section::Server,
        kind: Kind::Integer {
            min: Some(0),
            max: 3_600_000,
            set: |config, ms| config.shutdown_grace = milliseconds(ms),
        },
        default: Preset::Is("10000"),
        meaning: "milliseconds that a drain may take before what is left is aborted",
    },
    OptionSpec {
        name: "ping_interval_ms",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(100),
            max: 3_600_000,
            set: |config, ms| config.push.ping_interval = milliseconds(ms),
        },
        default: Preset::Is("25000"),
        meaning: "milliseconds between two pings to a client",
    },
    OptionSpec {
        name: "ping_timeout_ms",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(100),
            max: 3_600_000,
            set: |config, ms| config.push.ping_timeout = milliseconds(ms),
        },
        default: Preset::Is("20000"),
        meaning: "milliseconds that the answer to a ping may take before the connection is closed",
    },
    OptionSpec {
        name: "outbox_frames_max",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(1),
            max: 1_000_000,
            set: |config, frames| config.push.outbox_frames_max = count(frames),
        },
        default: Preset::Is("1024"),
        meaning: "frames that wait for one connection before only the newest values are kept",
    },
    OptionSpec {
        name: "outbox_bytes_max",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(1024),
            max: 1024 * MIB,
            set: |config, bytes| config.push.outbox_bytes_max = count(bytes),
        },
        default: Preset::Is("1048576"),
        meaning: "bytes that wait for one connection before only the newest values are kept",
    },
    OptionSpec {
        name: "connections_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.connections_max = count(n),
        },
        default: Preset::Is("50000"),
        meaning: "open client connections; further ones are refused",
    },
    OptionSpec {
        name: "sessions_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.sessions_max = count(n),
        },
        default: Preset::Is("100000"),
        meaning: "sessions; further ones are refused",
    },
    OptionSpec {
        name: "unbound_sessions_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.unbound_sessions_max = count(n),
        },
        default: Preset::Is("20000"),
        meaning: "sessions that no connection was bound to yet; further ones are refused",
    },
    OptionSpec {
        name: "session_rate_per_address_per_s",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.session_rate_per_address_per_s = rate(n),
        },
        default: Preset::Is("200"),
        meaning: "sessions that one address may create each second on average",
    },
    OptionSpec {
        name: "session_burst_per_address",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.session_burst_per_address = rate(n),
        },
        default: Preset::Is("5000"),
        meaning: "sessions that one address may create at once",
    },
    OptionSpec {
        name: "subscriptions_per_session_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.subscriptions_per_session_max = count(n),
        },
        default: Preset::Is("50000"),
        meaning: "subscriptions of one session; further ones are refused",
    },
    OptionSpec {
        name: "grants_per_session_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.grants_per_session_max = count(n),
        },
        default: Preset::Is("50000"),
        meaning: "grants of one session; further ones are refused",
    },
    OptionSpec {
        name: "keys_per_device_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.keys_per_device_max = count(n),
        },
        default: Preset::Is("20000"),
        meaning: "telemetry keys whose last values are kept for one device; further keys are dropped and counted",
    },
    OptionSpec {
        name: "devices_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set: |config, n| config.limits.devices_max = count(n),
        },
        default: Preset::Is("1000000"),
        meaning: "devices whose last values are kept; messages of further devices are dropped and counted",
    },
    OptionSpec {
        name: "body_bytes_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1024),
            max: 1024 * MIB,
            set: |config, bytes| config.limits.body_bytes_max = count(bytes),
        },
        default: Preset::Is("8388608"),
        meaning: "bytes in the body of a REST request; longer ones are refused",
    },
    OptionSpec {
        name: "message_bytes_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1024),
            max: 64 * MIB,
            set: |config, bytes| config.decoding.message_bytes_max = count(bytes),
        },
        default: Preset::Is("1048576"),
        meaning: "bytes in the body of a device message; longer ones are dropped and counted",
    },
    OptionSpec {
        name: "json_depth_max",
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: 120,
            set: |config, depth| config.decoding.json_depth_max = count(depth),
        },
        default: Preset::Is("64"),
        meaning: "levels of nesting in the JSON of a device message; deeper ones are dropped and counted",
    },
    OptionSpec {
        name: "log_level",
        ux4iot_name: Some("logLevel"),
        section: Section::Logging,
        kind: Kind::Word(LogLevel::WORDS, |config, index| {
            config.log.level = LogLevel::ALL[index];
        }),
        default: Preset::Is("info"),
        meaning: "how much is logged; `PUT /logLevel/:level` changes it while running, and `RUST_LOG` goes before it at start",
    },
    OptionSpec {
        name: "log_format",
        ux4iot_name: None,
        section: Section::Logging,
        kind: Kind::Word(LogFormat::WORDS, |config, index| {
            config.log.format = LogFormat::ALL[index];
        }),
        default: Preset::Is("text"),
        meaning: "lines for people, in colour on a terminal, or one JSON object a line; always on standard error",
    },
];

const SHARDS_MAX: i64 = 64;

/// Greatest number for counts: far above sense, far below overflow.
const COUNT_MAX: i64 = 100_000_000;

impl Draft {
    /// A draft in which nothing is set; the defaults of [`OPTIONS`] then fill in every field.
    pub(super) fn blank() -> Self {
        let config = Config {
            listen: SocketAddr::new(EVERY_INTERFACE, 0),
            tls: None,
            data_dir: None,
            legacy_v2: false,
            shards: NonZeroUsize::MIN,
            shutdown_grace: Duration::ZERO,
            event_hub: EventHubConfig {
                connection_string: Err(ConnectionStringError::Empty),
                consumer_group: String::new(),
                transport: EventHubTransport::Amqp,
                start: EventHubStart::Latest,
            },
            iot_hub: IotHubApi::Disabled,
            decoding: DecodingConfig {
                custom_timestamp_key: None,
                custom_device_id_key: None,
                custom_connection_state_key: None,
                connection_state_on_telemetry: false,
                message_bytes_max: 0,
                json_depth_max: 0,
            },
            throttling_interval: None,
            connection_state_ttl: None,
            device_twin_cache: DeviceTwinCache::Off,
            admin_keys: AdminKeys::new(Secret::new(""), Secret::new("")),
            push: PushConfig {
                ping_interval: Duration::ZERO,
                ping_timeout: Duration::ZERO,
                outbox_frames_max: 0,
                outbox_bytes_max: 0,
            },
            limits: Limits {
                connections_max: 0,
                sessions_max: 0,
                unbound_sessions_max: 0,
                session_rate_per_address_per_s: 0,
                session_burst_per_address: 0,
                subscriptions_per_session_max: 0,
                grants_per_session_max: 0,
                keys_per_device_max: 0,
                devices_max: 0,
                body_bytes_max: 0,
            },
            log: LogConfig {
                level: LogLevel::Info,
                format: LogFormat::Text,
            },
        };
        Self {
            config,
            primary_admin_secret: Secret::new(""),
            secondary_admin_secret: Secret::new(""),
            tls_cert: None,
            tls_key: None,
        }
    }

    /// Joins what belongs together.
    pub(super) fn finish(self) -> Config {
        let mut config = self.config;
        config.admin_keys = AdminKeys::new(self.primary_admin_secret, self.secondary_admin_secret);
        config.tls = self
            .tls_cert
            .zip(self.tls_key)
            .map(|(certificate, key)| TlsFiles { certificate, key });
        config
    }
}

/// The path that `text` names; an empty text names none.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| Path::new(text).to_owned())
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn seconds(s: i64) -> Duration {
    Duration::from_secs(u64::try_from(s).unwrap_or(0))
}

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn rate(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
