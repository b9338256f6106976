//! The entries of the table of options.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{
    EVENT_HUB_CONNECTION_STRING, EVENT_HUB_START, GRANT_TOKEN_JWKS_FILE, GRANT_TOKEN_JWKS_URL,
    IOT_HUB_CA_FILE, IOT_HUB_CONNECTION_STRING, Kind, LISTEN, OptionSpec, PRIMARY_ADMIN_SECRET,
    Preset, SECONDARY_ADMIN_SECRET, Section, TLS_CERT, TLS_KEY,
};
use crate::config::{
    Config, ConnectionStringError, DeviceTwinCache, EventHubStart, EventHubTransport, IotHubApi,
    IotHubTier, LogFormat, LogLevel,
};

const DAY_S: i64 = 86_400;
const YEARS_10_S: i64 = 3_650 * DAY_S;
const MIB: i64 = 1 << 20;

const SHARDS_MAX: i64 = 64;

/// Greatest number for counts: far above sense, far below overflow.
const COUNT_MAX: i64 = 100_000_000;

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
        kind: Kind::NonEmptyText(|config, text| {
            text.clone_into(&mut config.event_hub.consumer_group);
        }),
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
        name: EVENT_HUB_START,
        ux4iot_name: None,
        section: Section::Hubs,
        kind: Kind::Word(EventHubStart::WORDS, |config, index| {
            config.event_hub.start = EventHubStart::ALL[index];
        }),
        default: Preset::Is("latest"),
        meaning: "where reading starts when no checkpoint exists: at new events, or at the oldest that the hub still holds",
    },
    OptionSpec {
        name: IOT_HUB_CA_FILE,
        ux4iot_name: None,
        section: Section::Hubs,
        kind: Kind::Path(|draft, path| draft.config.iot_hub_use.ca_file = path),
        default: Preset::Is(""),
        meaning: "PEM file with certificate authorities that are trusted for the service API of the IoT hub, beside those of the trust store; empty for none",
    },
    OptionSpec {
        name: "iot_hub_tier",
        ux4iot_name: None,
        section: Section::Hubs,
        kind: Kind::Word(IotHubTier::WORDS, |config, index| {
            config.iot_hub_use.tier = IotHubTier::ALL[index];
        }),
        default: Preset::Is("s1"),
        meaning: "tier of the IoT hub, which sets how many direct methods, twin reads and twin updates a second are passed on to it, shared fairly between sessions; the rest is answered with 429. `unlimited` leaves that to the hub",
    },
    OptionSpec {
        name: "iot_hub_units",
        ux4iot_name: None,
        section: Section::Hubs,
        kind: Kind::Integer {
            min: Some(1),
            max: 1000,
            set: |config, units| config.iot_hub_use.units = rate(units),
        },
        default: Preset::Is("1"),
        meaning: "units of that tier",
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
        name: "grant_token_secret",
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::SigningSecret(|config, secret| config.grant_tokens.secret = secret),
        default: Preset::Is(""),
        meaning: "secret of grant tokens that are signed with HS256; empty accepts none of those",
    },
    OptionSpec {
        name: "grant_token_secondary_secret",
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::SigningSecret(|config, secret| config.grant_tokens.secondary_secret = secret),
        default: Preset::Is(""),
        meaning: "second secret, equally good, so that one can be changed while tokens of the other are in use",
    },
    OptionSpec {
        name: GRANT_TOKEN_JWKS_URL,
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::Url(|draft, url| draft.grant_token_jwks_url = url),
        default: Preset::Is(""),
        meaning: "JSON Web Key Set with the public keys of grant tokens that are signed with RS256 or ES256; empty accepts none of those",
    },
    OptionSpec {
        name: GRANT_TOKEN_JWKS_FILE,
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::Path(|draft, path| draft.grant_token_jwks_file = path),
        default: Preset::Is(""),
        meaning: "the same from a file, which is read again as often as a URL would be; empty means none",
    },
    OptionSpec {
        name: "grant_token_jwks_refresh_s",
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::Integer {
            min: Some(1),
            max: DAY_S,
            set: |config, s| config.grant_tokens.key_set_refresh = seconds(s),
        },
        default: Preset::Is("300"),
        meaning: "seconds until the key set is fetched again, so that a key that was taken out of it stops being accepted; a token with a new key fetches it earlier",
    },
    OptionSpec {
        name: "grant_token_issuer",
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::Text(|config, text| config.grant_tokens.issuer = non_empty(text.trim())),
        default: Preset::Is(""),
        meaning: "issuer (`iss`) that every grant token must name; empty accepts any",
    },
    OptionSpec {
        name: "grant_token_audience",
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::Text(|config, text| config.grant_tokens.audience = non_empty(text.trim())),
        default: Preset::Is(""),
        meaning: "audience (`aud`) that every grant token must name; empty accepts any",
    },
    OptionSpec {
        name: "grant_token_clock_skew_s",
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::Integer {
            min: Some(0),
            max: 600,
            set: |config, s| config.grant_tokens.clock_skew = seconds(s),
        },
        default: Preset::Is("60"),
        meaning: "seconds by which the clock of whoever signs grant tokens may be ahead of ours (`nbf`, `iat`); expiry always goes by ours alone",
    },
    OptionSpec {
        name: "grant_token_lifetime_max_s",
        ux4iot_name: None,
        section: Section::Access,
        kind: Kind::Integer {
            min: Some(1),
            max: YEARS_10_S,
            set: |config, s| config.grant_tokens.lifetime_max = seconds(s),
        },
        default: Preset::Is("86400"),
        meaning: "seconds that the expiry (`exp`) of a grant token may lie ahead; longer ones are refused",
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
        meaning: "whether clients of ux4iot 2.x are served beside those of today",
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
        name: "resume_window_ms",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(0),
            max: 3_600_000,
            set: |config, ms| config.push.resume_window = milliseconds(ms),
        },
        default: Preset::Is("60000"),
        meaning: "milliseconds in which a client of the native protocol that lost its connection may resume it; 0 for never",
    },
    OptionSpec {
        name: "snapshot_bytes_max",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(1024),
            max: 1024 * MIB,
            set: |config, bytes| config.push.snapshot_bytes_max = count(bytes),
        },
        default: Preset::Is("16777216"),
        meaning: "bytes, about, of the current values in one answer of the native protocol; what would be larger is refused",
    },
    OptionSpec {
        name: "replay_frames_max",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(0),
            max: 1_000_000,
            set: |config, frames| config.push.replay_frames_max = count(frames),
        },
        default: Preset::Is("256"),
        meaning: "sent updates that are remembered for a client of the native protocol that resumes",
    },
    OptionSpec {
        name: "replay_bytes_max",
        ux4iot_name: None,
        section: Section::Push,
        kind: Kind::Integer {
            min: Some(0),
            max: 1024 * MIB,
            set: |config, bytes| config.push.replay_bytes_max = count(bytes),
        },
        default: Preset::Is("262144"),
        meaning: "bytes of sent updates that are remembered for a client of the native protocol that resumes",
    },
    count_limit(
        "connections_max",
        "50000",
        "open client connections; further ones are refused",
        |config, n| config.limits.connections_max = count(n),
    ),
    count_limit(
        "sessions_max",
        "100000",
        "sessions; further ones are refused",
        |config, n| config.limits.sessions_max = count(n),
    ),
    count_limit(
        "unbound_sessions_max",
        "20000",
        "sessions that no connection was bound to yet; further ones are refused",
        |config, n| config.limits.unbound_sessions_max = count(n),
    ),
    count_limit(
        "session_rate_per_address_per_s",
        "200",
        "sessions that one address may create each second on average",
        |config, n| config.limits.session_rate_per_address_per_s = rate(n),
    ),
    count_limit(
        "session_burst_per_address",
        "5000",
        "sessions that one address may create at once",
        |config, n| config.limits.session_burst_per_address = rate(n),
    ),
    count_limit(
        "subscriptions_per_session_max",
        "50000",
        "subscriptions of one session; further ones are refused",
        |config, n| config.limits.subscriptions_per_session_max = count(n),
    ),
    count_limit(
        "grants_per_session_max",
        "50000",
        "grants of one session; further ones are refused",
        |config, n| config.limits.grants_per_session_max = count(n),
    ),
    count_limit(
        "keys_per_device_max",
        "20000",
        "telemetry keys whose last values are kept for one device; further keys are dropped and counted",
        |config, n| config.limits.keys_per_device_max = count(n),
    ),
    count_limit(
        "devices_max",
        "1000000",
        "devices whose last values are kept; messages of further devices are dropped and counted",
        |config, n| config.limits.devices_max = count(n),
    ),
    count_limit(
        "iot_hub_calls_max",
        "4096",
        "direct methods and twin patches that wait for the IoT hub's answer; further ones are refused",
        |config, n| config.iot_hub_use.calls_max = count(n),
    ),
    count_limit(
        "iot_hub_calls_per_session_max",
        "256",
        "the same for one session",
        |config, n| config.iot_hub_use.calls_per_session_max = count(n),
    ),
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
            // What an event hub takes at most; the AMQP library's decoder is safe up to about this.
            max: MIB,
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
        meaning: "levels of nesting in the JSON of a device message; a deeper one is counted and no telemetry, and D2C subscribers get it as text",
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

/// A limit that counts things of which there must be at least one.
const fn count_limit(
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
    set: fn(&mut Config, i64),
) -> OptionSpec {
    OptionSpec {
        name,
        ux4iot_name: None,
        section: Section::Limits,
        kind: Kind::Integer {
            min: Some(1),
            max: COUNT_MAX,
            set,
        },
        default: Preset::Is(default),
        meaning,
    }
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
