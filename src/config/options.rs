//! The table of options, [`OPTIONS`]: the one place where each is named, bounded, explained and given its default.

mod table;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use table::OPTIONS;
use url::Url;

use super::address::EVERY_INTERFACE;
use super::{
    AdminKeys, Config, ConnectionStringError, DecodingConfig, DeviceTwinCache, EventHubConfig,
    EventHubStart, EventHubTransport, GrantTokenConfig, IotHubApi, IotHubTier, IotHubUse,
    KeySetLocation, Limits, LogConfig, LogFormat, LogLevel, PushConfig, Secret, TlsFiles,
};

/// Prefix of the environment names that are ours alone; every name that begins with it must belong to an option.
pub const ENVIRONMENT_PREFIX: &str = "HUBRELAY_";

/// Environment variable that names the configuration file, as `--config` does.
pub const CONFIG_FILE_VARIABLE: &str = "HUBRELAY_CONFIG";

/// Name of the option that holds the Event Hub connection string.
pub const EVENT_HUB_CONNECTION_STRING: &str = "iot_hub_event_hub_connection_string";

/// Name of the option that says where reading starts.
pub const EVENT_HUB_START: &str = "event_hub_start";

/// Name of the option that holds the connection string of the IoT hub's service API.
pub const IOT_HUB_CONNECTION_STRING: &str = "iot_hub_service_connection_string";

/// Name of the option that holds the file with authorities that are trusted for the service API.
pub const IOT_HUB_CA_FILE: &str = "iot_hub_ca_file";

/// Name of the option that holds the address to listen on.
pub const LISTEN: &str = "listen";

/// Name of the option that holds the primary admin key.
pub const PRIMARY_ADMIN_SECRET: &str = "primary_admin_secret";

/// Name of the option that holds the secondary admin key.
pub const SECONDARY_ADMIN_SECRET: &str = "secondary_admin_secret";

pub(super) const GRANT_TOKEN_JWKS_URL: &str = "grant_token_jwks_url";
pub(super) const GRANT_TOKEN_JWKS_FILE: &str = "grant_token_jwks_file";
pub(super) const TLS_CERT: &str = "tls_cert";
pub(super) const TLS_KEY: &str = "tls_key";

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
    /// A key that a header can carry; never shown.
    Secret(fn(&mut Draft, Secret)),
    /// A secret that signs tokens, long enough for HMAC-SHA256, or nothing; never shown.
    SigningSecret(fn(&mut Config, Option<Secret>)),
    /// A connection string; shown without its credentials. Malformed ones are kept as such.
    ConnectionString(fn(&mut Config, &str)),
    /// Path of a file or directory; empty means none.
    Path(fn(&mut Draft, Option<PathBuf>)),
    /// A URL whose answers can be trusted; empty means none.
    Url(fn(&mut Draft, Option<Url>)),
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
    pub(super) grant_token_jwks_url: Option<Url>,
    pub(super) grant_token_jwks_file: Option<PathBuf>,
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
        matches!(
            self.kind,
            Kind::Secret(_) | Kind::SigningSecret(_) | Kind::ConnectionString(_)
        )
    }
}

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
            iot_hub_use: IotHubUse {
                ca_file: None,
                tier: IotHubTier::S1,
                units: 0,
                calls_max: 0,
                calls_per_session_max: 0,
            },
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
            grant_tokens: GrantTokenConfig {
                secret: None,
                secondary_secret: None,
                key_set: None,
                key_set_refresh: Duration::ZERO,
                issuer: None,
                audience: None,
                clock_skew: Duration::ZERO,
                lifetime_max: Duration::ZERO,
            },
            push: PushConfig {
                ping_interval: Duration::ZERO,
                ping_timeout: Duration::ZERO,
                outbox_frames_max: 0,
                outbox_bytes_max: 0,
                resume_window: Duration::ZERO,
                snapshot_bytes_max: 0,
                replay_frames_max: 0,
                replay_bytes_max: 0,
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
            grant_token_jwks_url: None,
            grant_token_jwks_file: None,
        }
    }

    /// Joins what belongs together.
    pub(super) fn finish(self) -> Config {
        let mut config = self.config;
        config.admin_keys = AdminKeys::new(self.primary_admin_secret, self.secondary_admin_secret);
        config.grant_tokens.key_set = self
            .grant_token_jwks_url
            .map(KeySetLocation::Url)
            .or(self.grant_token_jwks_file.map(KeySetLocation::File));
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
