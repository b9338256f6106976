use std::io::Write as _;

use tempfile::NamedTempFile;

use super::options::{Kind, OPTIONS, OptionSpec, Preset, Section};
use super::*;
use crate::committed_document::assert_committed;

const EVENT_HUB: &str =
    "Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=top-secret;EntityPath=hub";

/// An environment that holds nothing but what is required.
fn required() -> Sources {
    environment(&[])
}

/// The required option and these variables.
fn environment(variables: &[(&str, &str)]) -> Sources {
    let required = ("IOT_HUB_EVENT_HUB_CONNECTION_STRING", EVENT_HUB);
    Sources::new().with_environment([required].iter().chain(variables).copied())
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load(variables: &[(&str, &str)]) -> Config {
    Config::load(&environment(variables)).unwrap()
}

/// The single error of a configuration, as text.
fn error(sources: &Sources) -> String {
    let errors = Config::load(sources).expect_err("the configuration is invalid");
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    texts.into_iter().next().unwrap()
}

fn file_error(text: &str) -> String {
    let file = file(text);
    let path = file.path().display().to_string();
    error(&required().with_file(file.path())).replace(&path, "FILE")
}

#[test]
fn defaults_are_those_of_ux4iot_and_of_the_design() {
    let config = Config::load(&required()).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.tls, None);
    assert_eq!(config.data_dir, None);
    assert!(!config.legacy_v2);
    assert_eq!(config.shutdown_grace, Duration::from_secs(10));
    assert!((1..=64).contains(&config.shards.get()));
    assert_eq!(config.event_hub.consumer_group, "$Default");
    assert_eq!(config.event_hub.transport, EventHubTransport::Amqp);
    assert_eq!(config.event_hub.start, EventHubStart::Latest);
    assert!(matches!(config.iot_hub, IotHubApi::Disabled));
    assert_eq!(
        config.decoding,
        DecodingConfig {
            custom_timestamp_key: Some("_ts".into()),
            custom_device_id_key: Some("deviceId".into()),
            custom_connection_state_key: None,
            connection_state_on_telemetry: true,
            message_bytes_max: 1_048_576,
            json_depth_max: 64,
        }
    );
    assert_eq!(config.throttling_interval, None);
    assert_eq!(config.connection_state_ttl, Some(Duration::from_mins(1)));
    assert_eq!(config.device_twin_cache, DeviceTwinCache::Off);
    assert!(config.admin_keys.primary_is_generated());
    assert!(config.admin_keys.secondary_is_generated());
    assert_eq!(
        config.push,
        PushConfig {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            outbox_frames_max: 1024,
            outbox_bytes_max: 1_048_576,
            resume_window: Duration::from_mins(1),
            snapshot_bytes_max: 16_777_216,
            replay_frames_max: 256,
            replay_bytes_max: 262_144,
        }
    );
    assert_eq!(
        config.limits,
        Limits {
            connections_max: 50_000,
            sessions_max: 100_000,
            unbound_sessions_max: 20_000,
            session_rate_per_address_per_s: 200,
            session_burst_per_address: 5_000,
            subscriptions_per_session_max: 50_000,
            grants_per_session_max: 50_000,
            keys_per_device_max: 20_000,
            devices_max: 1_000_000,
            body_bytes_max: 8_388_608,
        }
    );
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(Limits::default(), config.limits);
    assert_eq!(DecodingConfig::default(), config.decoding);
}

#[test]
fn each_source_goes_before_the_ones_below_it() {
    let file = file("throttling_interval = 10\nlog_level = \"warn\"\nshards = 2\n");
    let sources = environment(&[("THROTTLING_INTERVAL", "20"), ("LOG_LEVEL", "error")])
        .with_file(file.path())
        .with_flag("throttling_interval", "30");
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.shards.get(), 2);
    assert_eq!(config.log.level, LogLevel::Error);
    assert_eq!(config.throttling_interval, Some(Duration::from_millis(30)));

    let effective = Effective::collect(&sources).unwrap();
    let origin = |name: &str| {
        let option = effective
            .options()
            .iter()
            .find(|option| option.name() == name);
        option.unwrap().origin().to_string()
    };
    assert_eq!(
        origin("shards"),
        format!("{} line 3", file.path().display())
    );
    assert_eq!(origin("log_level"), "environment variable LOG_LEVEL");
    assert_eq!(origin("throttling_interval"), "flag --throttling-interval");
    assert_eq!(origin("listen"), "default");
}

#[test]
fn every_option_of_ux4iot_is_read_under_its_three_environment_names() {
    for (ux4iot_name, variable) in [
        (
            "iotHubEventHubConnectionString",
            "IOT_HUB_EVENT_HUB_CONNECTION_STRING",
        ),
        (
            "iotHubServiceConnectionString",
            "IOT_HUB_SERVICE_CONNECTION_STRING",
        ),
        ("eventHubConsumerGroup", "EVENT_HUB_CONSUMER_GROUP"),
        ("throttlingInterval", "THROTTLING_INTERVAL"),
        ("connectionStateCacheTTL", "CONNECTION_STATE_CACHE_TTL"),
        ("deviceTwinCacheTTL", "DEVICE_TWIN_CACHE_TTL"),
        ("customTimestampKey", "CUSTOM_TIMESTAMP_KEY"),
        ("customDeviceIdKey", "CUSTOM_DEVICE_ID_KEY"),
        ("customConnectionStateKey", "CUSTOM_CONNECTION_STATE_KEY"),
        (
            "connectionStateOnTelemetry",
            "CONNECTION_STATE_ON_TELEMETRY",
        ),
        ("logLevel", "LOG_LEVEL"),
        ("primaryAdminSecret", "PRIMARY_ADMIN_SECRET"),
        ("secondaryAdminSecret", "SECONDARY_ADMIN_SECRET"),
    ] {
        let option = OptionSpec::by_key(ux4iot_name).expect(ux4iot_name);
        assert_eq!(
            option.environment_names(),
            [
                format!("HUBRELAY_{variable}"),
                variable.to_owned(),
                ux4iot_name.to_owned()
            ]
        );
    }
    for name in [
        "customTimestampKey",
        "CUSTOM_TIMESTAMP_KEY",
        "HUBRELAY_CUSTOM_TIMESTAMP_KEY",
    ] {
        let config = load(&[(name, "at")]);
        assert_eq!(
            config.decoding.custom_timestamp_key.as_deref(),
            Some("at"),
            "{name}"
        );
    }
}

#[test]
fn options_of_our_own_have_only_the_prefixed_name() {
    let config = load(&[
        ("HUBRELAY_SHARDS", "3"),
        ("SHARDS", "many"),
        ("listen", "nowhere"),
    ]);
    assert_eq!(config.shards.get(), 3);
}

#[test]
fn two_environment_names_of_one_option_must_agree() {
    let config = load(&[("THROTTLING_INTERVAL", "5"), ("throttlingInterval", "5")]);
    assert_eq!(config.throttling_interval, Some(Duration::from_millis(5)));
    assert_eq!(
        error(&environment(&[
            ("THROTTLING_INTERVAL", "5"),
            ("throttlingInterval", "6")
        ])),
        "`throttling_interval` is given twice with different values (environment variable THROTTLING_INTERVAL, environment variable throttlingInterval); keep one"
    );
}

#[test]
fn the_file_takes_both_spellings_but_not_twice() {
    let file = file("throttlingInterval = 7\nconnection_state_on_telemetry = false\nlisten = 0\n");
    let config = Config::load(&required().with_file(file.path())).unwrap();
    assert_eq!(config.throttling_interval, Some(Duration::from_millis(7)));
    assert!(!config.decoding.connection_state_on_telemetry);
    assert_eq!(config.listen.to_string(), "0.0.0.0:0");
    assert_eq!(
        file_error("logLevel = \"info\"\n\nlog_level = \"info\"\n"),
        "`log_level` is given twice with different values (FILE line 1, FILE line 3); keep one"
    );
}

#[test]
fn the_environment_can_name_the_file_and_the_flag_goes_before_it() {
    let of_environment = file("shards = 5\n");
    let of_flag = file("shards = 6\n");
    let path = of_environment.path().to_str().unwrap();
    let sources = environment(&[("HUBRELAY_CONFIG", path)]);
    assert_eq!(Config::load(&sources).unwrap().shards.get(), 5);
    let sources = sources.with_file(of_flag.path());
    assert_eq!(Config::load(&sources).unwrap().shards.get(), 6);
    assert_eq!(
        load(&[("HUBRELAY_CONFIG", ""), ("HUBRELAY_SHARDS", "1")])
            .shards
            .get(),
        1
    );
}

#[test]
fn times_to_live_keep_the_two_conventions_of_ux4iot() {
    for (text, expected) in [
        ("-1", None),
        ("0", None),
        ("90", Some(Duration::from_secs(90))),
    ] {
        let config = load(&[("CONNECTION_STATE_CACHE_TTL", text)]);
        assert_eq!(config.connection_state_ttl, expected, "{text}");
    }
    for (text, expected) in [
        ("-1", DeviceTwinCache::Off),
        ("0", DeviceTwinCache::Forever),
        ("90", DeviceTwinCache::For(Duration::from_secs(90))),
    ] {
        let config = load(&[("deviceTwinCacheTTL", text)]);
        assert_eq!(config.device_twin_cache, expected, "{text}");
    }
    for text in ["-1", "0", "-250"] {
        assert_eq!(
            load(&[("THROTTLING_INTERVAL", text)]).throttling_interval,
            None,
            "{text}"
        );
    }
}

#[test]
fn empty_body_member_names_switch_their_source_off() {
    let config = load(&[
        ("CUSTOM_TIMESTAMP_KEY", ""),
        ("CUSTOM_DEVICE_ID_KEY", ""),
        ("CUSTOM_CONNECTION_STATE_KEY", ""),
    ]);
    assert_eq!(config.decoding.custom_timestamp_key, None);
    assert_eq!(config.decoding.custom_device_id_key, None);
    assert_eq!(config.decoding.custom_connection_state_key, None);
    let config = load(&[("customConnectionStateKey", "online")]);
    assert_eq!(
        config.decoding.custom_connection_state_key.as_deref(),
        Some("online")
    );
}

#[test]
fn an_empty_variable_counts_as_not_set_where_the_option_cannot_be_empty() {
    let config = load(&[
        ("THROTTLING_INTERVAL", ""),
        ("LOG_LEVEL", ""),
        ("HUBRELAY_LISTEN", ""),
        ("CONNECTION_STATE_ON_TELEMETRY", ""),
        ("EVENT_HUB_CONSUMER_GROUP", ""),
    ]);
    assert_eq!(config.throttling_interval, None);
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.event_hub.consumer_group, "$Default");
}

#[test]
fn port_0_is_allowed() {
    for text in ["127.0.0.1:0", ":0", "0"] {
        assert_eq!(
            load(&[("HUBRELAY_LISTEN", text)]).listen.port(),
            0,
            "{text}"
        );
    }
}

#[test]
fn bad_values_name_option_value_origin_and_what_is_allowed() {
    let cases = [
        (
            ("THROTTLING_INTERVAL", "fast"),
            "`throttling_interval` cannot be `fast` (environment variable THROTTLING_INTERVAL); allowed: a whole number up to 86400000",
        ),
        (
            ("HUBRELAY_SHARDS", "0"),
            "`shards` cannot be `0` (environment variable HUBRELAY_SHARDS); allowed: a whole number from 1 to 64",
        ),
        (
            ("HUBRELAY_SHARDS", "65"),
            "`shards` cannot be `65` (environment variable HUBRELAY_SHARDS); allowed: a whole number from 1 to 64",
        ),
        (
            ("connectionStateCacheTTL", "-2"),
            "`connection_state_cache_ttl` cannot be `-2` (environment variable connectionStateCacheTTL); allowed: a whole number from -1 to 315360000",
        ),
        (
            ("LOG_LEVEL", "loud"),
            "`log_level` cannot be `loud` (environment variable LOG_LEVEL); allowed: `error`, `warn`, `info`, `verbose`, `debug`",
        ),
        (
            ("CONNECTION_STATE_ON_TELEMETRY", "yes"),
            "`connection_state_on_telemetry` cannot be `yes` (environment variable CONNECTION_STATE_ON_TELEMETRY); allowed: `true`, `false`",
        ),
        (
            ("HUBRELAY_LISTEN", "example.org:80"),
            "`listen` cannot be `example.org:80` (environment variable HUBRELAY_LISTEN); allowed: `host:port`, `:port` or a port from 0 to 65535; the host is an IP address or `localhost`",
        ),
        (
            ("HUBRELAY_EVENT_HUB_TRANSPORT", "mqtt"),
            "`event_hub_transport` cannot be `mqtt` (environment variable HUBRELAY_EVENT_HUB_TRANSPORT); allowed: `amqp`, `websocket`",
        ),
    ];
    for (variable, expected) in cases {
        assert_eq!(error(&environment(&[variable])), expected);
    }
    assert_eq!(
        error(&required().with_flag("event_hub_consumer_group", " ")),
        "`event_hub_consumer_group` cannot be ` ` (flag --event-hub-consumer-group); allowed: a text that is not empty"
    );
}

#[test]
fn values_of_the_wrong_type_in_the_file_are_refused() {
    let cases = [
        (
            "shards = \"4\"",
            "`shards` cannot be the text `4` (FILE line 1); allowed: a whole number from 1 to 64",
        ),
        (
            "\nshards = 4.5",
            "`shards` cannot be `4.5` (FILE line 2); allowed: a whole number from 1 to 64",
        ),
        (
            "shards = 99999999999999999999",
            "`shards` cannot be `99999999999999999999` (FILE line 1); allowed: a whole number from 1 to 64",
        ),
        (
            "legacy_v2 = \"false\"",
            "`legacy_v2` cannot be the text `false` (FILE line 1); allowed: `true`, `false`",
        ),
        (
            "log_level = [\"info\"]",
            "`log_level` cannot be an array (FILE line 1); allowed: `error`, `warn`, `info`, `verbose`, `debug`",
        ),
        (
            "[listen]\nport = 80",
            "`listen` cannot be a table (FILE line 1); allowed: `host:port`, `:port` or a port from 0 to 65535; the host is an IP address or `localhost`",
        ),
        (
            "primary_admin_secret = 123456",
            "`primary_admin_secret` cannot be `***` (FILE line 1); allowed: printable ASCII without blanks or line ends around it, as a header can carry it",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(file_error(text), expected);
    }
}

#[test]
fn a_value_is_checked_also_where_a_higher_source_replaces_it() {
    let file = file("shards = 0\n");
    let sources = environment(&[("HUBRELAY_SHARDS", "2")]).with_file(file.path());
    assert!(error(&sources).starts_with("`shards` cannot be `0`"));
}

#[test]
fn unknown_names_are_refused_with_the_nearest_valid_one() {
    let cases = [
        (
            "throtling_interval = 1",
            "unknown option `throtling_interval` (FILE line 1); the nearest valid name is `throttling_interval`",
        ),
        (
            "thorttlingInterval = 1",
            "unknown option `thorttlingInterval` (FILE line 1); the nearest valid name is `throttling_interval`",
        ),
        (
            "log-level = \"info\"",
            "unknown option `log-level` (FILE line 1); the nearest valid name is `log_level`",
        ),
        (
            "[limits]\nsessions_max = 1",
            "unknown option `limits` (FILE line 1); the nearest valid name is `listen`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(file_error(text), expected);
    }
    assert_eq!(
        error(&environment(&[("HUBRELAY_LISTN", "1")])),
        "unknown option `HUBRELAY_LISTN` (environment variable HUBRELAY_LISTN); the nearest valid name is `HUBRELAY_LISTEN`"
    );
    assert_eq!(
        error(&environment(&[("HUBRELAY_TLS_CRT", "x")])),
        "unknown option `HUBRELAY_TLS_CRT` (environment variable HUBRELAY_TLS_CRT); the nearest valid name is `HUBRELAY_TLS_CERT`"
    );
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent.toml");
    let text = error(&required().with_file(&absent));
    assert!(
        text.starts_with("cannot read the configuration file "),
        "{text}"
    );

    let text = file_error("shards = 1\nprimary_admin_secret = \"unfinished\nlisten = 80\n");
    assert!(
        text.starts_with("FILE line 2 is not valid TOML: "),
        "{text}"
    );
    assert!(!text.contains("unfinished"), "{text}");
}

#[test]
fn the_event_hub_is_required() {
    let expected = "`iot_hub_event_hub_connection_string` is required; set it in the configuration file, as environment variable IOT_HUB_EVENT_HUB_CONNECTION_STRING, or with --iot-hub-event-hub-connection-string";
    assert_eq!(error(&Sources::new()), expected);
    let empty = [("IOT_HUB_EVENT_HUB_CONNECTION_STRING", " ")];
    assert_eq!(error(&Sources::new().with_environment(empty)), expected);
}

#[test]
fn malformed_connection_strings_are_kept_and_reported_without_their_keys() {
    let sources = Sources::new().with_environment([
        (
            "iotHubEventHubConnectionString",
            "HostName=h;SharedAccessKeyName=n;SharedAccessKey=top-secret",
        ),
        (
            "IOT_HUB_SERVICE_CONNECTION_STRING",
            "SharedAccessKey=top-secret",
        ),
    ]);
    let config = Config::load(&sources).unwrap();
    assert_eq!(
        config.event_hub.connection_string,
        Err(ConnectionStringError::IotHubGivenForEventHub)
    );
    assert!(matches!(
        config.iot_hub,
        IotHubApi::Malformed(ConnectionStringError::MissingPart("HostName"))
    ));
    assert!(config.iot_hub.connection_string().is_none());

    let effective = Effective::collect(&sources).unwrap();
    let texts: Vec<_> = effective
        .malformed_connection_strings()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].starts_with("`iot_hub_event_hub_connection_string` is not a valid connection string (`HostName=h;SharedAccessKeyName=n;SharedAccessKey=***`, environment variable iotHubEventHubConnectionString): this is the connection string of an IoT hub"), "{}", texts[0]);
    assert_eq!(
        texts[1],
        "`iot_hub_service_connection_string` is not a valid connection string (`SharedAccessKey=***`, environment variable IOT_HUB_SERVICE_CONNECTION_STRING): `HostName` is missing"
    );
}

#[test]
fn a_certificate_needs_its_key_and_both_must_be_readable() {
    let pem = file("not looked into here");
    let path = pem.path().to_str().unwrap();
    let config = load(&[("HUBRELAY_TLS_CERT", path), ("HUBRELAY_TLS_KEY", path)]);
    assert_eq!(config.tls.unwrap().key, pem.path());

    assert_eq!(
        error(&environment(&[("HUBRELAY_TLS_CERT", path)])),
        "`tls_cert` needs `tls_key` as well (environment variable HUBRELAY_TLS_CERT)"
    );
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent.pem");
    let text = error(&environment(&[
        ("HUBRELAY_TLS_CERT", path),
        ("HUBRELAY_TLS_KEY", absent.to_str().unwrap()),
    ]));
    assert!(text.starts_with("`tls_key` names "), "{text}");
    assert!(
        text.contains("(environment variable HUBRELAY_TLS_KEY), which cannot be read: "),
        "{text}"
    );
}

#[test]
fn grant_tokens_are_off_unless_a_secret_or_a_key_set_is_given() {
    let tokens = load(&[]).grant_tokens;
    assert!(tokens.secret.is_none() && tokens.secondary_secret.is_none());
    assert_eq!(tokens.key_set, None);
    let secret = "0123456789abcdef0123456789abcdef";
    let tokens = load(&[
        ("HUBRELAY_GRANT_TOKEN_SECRET", secret),
        (
            "HUBRELAY_GRANT_TOKEN_JWKS_URL",
            "https://login.example.com/keys",
        ),
        ("HUBRELAY_GRANT_TOKEN_JWKS_REFRESH_S", "60"),
        ("HUBRELAY_GRANT_TOKEN_ISSUER", " backend "),
        ("HUBRELAY_GRANT_TOKEN_AUDIENCE", "relay"),
        ("HUBRELAY_GRANT_TOKEN_CLOCK_SKEW_S", "0"),
        ("HUBRELAY_GRANT_TOKEN_LIFETIME_MAX_S", "600"),
    ])
    .grant_tokens;
    assert_eq!(tokens.secret.unwrap().expose(), secret);
    assert!(matches!(tokens.key_set, Some(KeySetLocation::Url(_))));
    assert_eq!(tokens.key_set_refresh, Duration::from_mins(1));
    assert_eq!(tokens.issuer.as_deref(), Some("backend"));
    assert_eq!(tokens.audience.as_deref(), Some("relay"));
    assert_eq!(tokens.clock_skew, Duration::ZERO);
    assert_eq!(tokens.lifetime_max, Duration::from_mins(10));
}

#[test]
fn a_weak_secret_or_an_open_way_to_the_keys_is_refused() {
    for (name, value, shown, allowed) in [
        (
            "SECRET",
            "0123456789abcdef0123456789abcde",
            "***",
            "a text of at least 32 bytes, without blanks or line ends around it",
        ),
        (
            "SECONDARY_SECRET",
            "0123456789abcdef0123456789abcdef\n",
            "***",
            "a text of at least 32 bytes, without blanks or line ends around it",
        ),
        (
            "JWKS_URL",
            "http://login.example.com/keys",
            "http://login.example.com/keys",
            "an `https` URL, or an `http` one of this machine (`localhost` or a loopback address), without user, password and fragment",
        ),
        ("CLOCK_SKEW_S", "601", "601", "a whole number from 0 to 600"),
        (
            "LIFETIME_MAX_S",
            "0",
            "0",
            "a whole number from 1 to 315360000",
        ),
    ] {
        let variable = format!("HUBRELAY_GRANT_TOKEN_{name}");
        let option = format!("grant_token_{}", name.to_lowercase());
        assert_eq!(
            error(&environment(&[(&variable, value)])),
            format!(
                "`{option}` cannot be `{shown}` (environment variable {variable}); allowed: {allowed}"
            )
        );
    }
}

#[test]
fn a_key_set_is_in_one_place_and_its_file_can_be_read() {
    let set = file("{}");
    let path = set.path().to_str().unwrap();
    let config = load(&[("HUBRELAY_GRANT_TOKEN_JWKS_FILE", path)]);
    let location = KeySetLocation::File(set.path().to_owned());
    assert_eq!(config.grant_tokens.key_set, Some(location));
    let url = (
        "HUBRELAY_GRANT_TOKEN_JWKS_URL",
        "https://login.example.com/keys",
    );
    assert_eq!(
        error(&environment(&[
            ("HUBRELAY_GRANT_TOKEN_JWKS_FILE", path),
            url
        ])),
        "`grant_token_jwks_url` (environment variable HUBRELAY_GRANT_TOKEN_JWKS_URL) and `grant_token_jwks_file` (environment variable HUBRELAY_GRANT_TOKEN_JWKS_FILE) exclude each other; keep one"
    );
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent.json");
    let absent = absent.to_str().unwrap();
    let text = error(&environment(&[("HUBRELAY_GRANT_TOKEN_JWKS_FILE", absent)]));
    assert!(text.starts_with("`grant_token_jwks_file` names "), "{text}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let errors = Config::load(&environment(&[
        ("HUBRELAY_SHARDS", "none"),
        ("LOG_LEVEL", "loud"),
        ("HUBRELAY_PORT", "1"),
    ]))
    .unwrap_err();
    assert_eq!(errors.iter().count(), 3);
    let text = errors.to_string();
    assert!(text.starts_with("invalid configuration:\n  - "), "{text}");
    assert!(
        text.contains("`shards`") && text.contains("`log_level`") && text.contains("HUBRELAY_PORT")
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_unicode_is_refused() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    let variables = [
        (
            OsString::from("IOT_HUB_EVENT_HUB_CONNECTION_STRING"),
            OsString::from(EVENT_HUB),
        ),
        (
            OsString::from("PRIMARY_ADMIN_SECRET"),
            OsString::from_vec(vec![b'k', 0xff]),
        ),
    ];
    let text = error(&Sources::new().with_environment(variables));
    assert_eq!(
        text,
        "`primary_admin_secret` cannot be `***` (environment variable PRIMARY_ADMIN_SECRET); allowed: printable ASCII without blanks or line ends around it, as a header can carry it"
    );
}

#[test]
fn a_key_that_no_header_can_carry_is_refused_and_not_shown() {
    for key in [
        "hunter2\n",
        " hunter2",
        "hunter2\t",
        "hunt\ner2",
        "h\u{fc}nter2",
    ] {
        let text = error(&environment(&[
            ("IOT_HUB_EVENT_HUB_CONNECTION_STRING", EVENT_HUB),
            ("PRIMARY_ADMIN_SECRET", key),
        ]));
        assert_eq!(
            text,
            "`primary_admin_secret` cannot be `***` (environment variable PRIMARY_ADMIN_SECRET); allowed: printable ASCII without blanks or line ends around it, as a header can carry it",
            "{key:?}"
        );
    }
}

#[test]
fn no_form_of_a_configuration_shows_a_secret() {
    let sources = environment(&[
        ("PRIMARY_ADMIN_SECRET", "top-secret-1"),
        (
            "HUBRELAY_GRANT_TOKEN_SECRET",
            "top-secret-0123456789abcdef01234567",
        ),
        (
            "IOT_HUB_SERVICE_CONNECTION_STRING",
            "HostName=h;SharedAccessKeyName=n;SharedAccessKey=dG9wLXNlY3JldA==",
        ),
    ])
    .with_flag("secondary_admin_secret", "top-secret-2");
    let effective = Effective::collect(&sources).unwrap();
    let config = effective.config().unwrap();
    assert!(config.admin_keys.accept("top-secret-1") && config.admin_keys.accept("top-secret-2"));

    let shown = format!(
        "{sources:?}\n{effective:?}\n{config:?}\n{}",
        effective.to_toml()
    );
    assert!(
        !shown.contains("top-secret") && !shown.contains("dG9w"),
        "{shown}"
    );
}

#[test]
fn the_effective_configuration_is_toml_that_names_origins() {
    let sources = environment(&[("PRIMARY_ADMIN_SECRET", "k"), ("LOG_LEVEL", "warn")]);
    let toml = Effective::collect(&sources).unwrap().to_toml();
    for line in [
        "iot_hub_event_hub_connection_string = \"Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=***;EntityPath=hub\" # environment variable IOT_HUB_EVENT_HUB_CONNECTION_STRING\n",
        "primary_admin_secret = \"***\" # environment variable PRIMARY_ADMIN_SECRET\n",
        "secondary_admin_secret = \"\" # default\n",
        "log_level = \"warn\" # environment variable LOG_LEVEL\n",
        "throttling_interval = -1 # default\n",
        "connection_state_on_telemetry = true # default\n",
        "\n# Limits\n",
    ] {
        assert!(toml.contains(line), "{line}{toml}");
    }
    let file = file(&toml);
    let config = Config::load(&Sources::new().with_file(file.path())).unwrap();
    assert_eq!(config.log.level, LogLevel::Warn);
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn the_table_of_options_is_consistent() {
    let mut names = std::collections::BTreeSet::new();
    for option in OPTIONS {
        assert!(names.insert(option.name), "{} is listed twice", option.name);
        assert!(
            option
                .name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{}",
            option.name
        );
        assert!(Section::ALL.contains(&option.section));
        assert!(
            !option.meaning.ends_with('.') && !option.meaning.is_empty(),
            "{}",
            option.name
        );
        if let Kind::Integer {
            min: Some(min),
            max,
            ..
        } = option.kind
        {
            assert!(min <= max, "{}", option.name);
        }
        assert_eq!(
            matches!(option.default, Preset::Required),
            option.name == options::EVENT_HUB_CONNECTION_STRING
        );
    }
    let sections: Vec<_> = OPTIONS.iter().map(|option| option.section).collect();
    let mut listed = sections.clone();
    listed.dedup();
    assert_eq!(listed, Section::ALL, "options stand together by section");
}

#[test]
fn words_lead_to_their_variants_and_back() {
    for level in LogLevel::ALL {
        assert_eq!(LogLevel::from_word(level.as_str()), Some(*level));
    }
    assert_eq!(LogLevel::from_word("INFO"), None);
    let config = load(&[
        ("HUBRELAY_LOG_FORMAT", "json"),
        ("HUBRELAY_EVENT_HUB_TRANSPORT", "websocket"),
        ("HUBRELAY_EVENT_HUB_START", "earliest"),
        ("logLevel", "verbose"),
    ]);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.event_hub.transport, EventHubTransport::WebSocket);
    assert_eq!(config.event_hub.start, EventHubStart::Earliest);
    assert_eq!(config.log.level, LogLevel::Verbose);
}

#[test]
fn the_committed_reference_is_current() {
    assert_committed("docs/configuration.md", &reference_markdown());
}
