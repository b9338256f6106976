use std::io::Write as _;

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;
use crate::config::options::OPTIONS;

const EVENT_HUB: &str =
    "Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=top-secret;EntityPath=hub";

const IOT_HUB: &str =
    "HostName=localhost:8443;SharedAccessKeyName=iothubowner;SharedAccessKey=dG9wLXNlY3JldA==";

fn parse(arguments: &[&str]) -> Command {
    let arguments = std::iter::once(&"hubrelay").chain(arguments);
    Cli::try_parse_from(arguments).map_or_else(|error| panic!("{error}"), |cli| cli.command)
}

fn refused(arguments: &[&str]) -> clap::Error {
    let arguments = std::iter::once(&"hubrelay").chain(arguments);
    Cli::try_parse_from(arguments).expect_err("the arguments are wrong")
}

fn devhub_options(arguments: &[&str]) -> DevhubOptions {
    match parse(&[&["devhub"], arguments].concat()) {
        Command::Devhub(args) => args.options(DEVHUB_DEVICES),
        command => panic!("parsed {command:?}"),
    }
}

fn serve_sources(arguments: &[&str], environment: &[(&str, &str)]) -> Sources {
    match parse(&[&["serve"], arguments].concat()) {
        Command::Serve(args) => args
            .config
            .sources_over(Sources::new().with_environment(environment.iter().copied())),
        command => panic!("parsed {command:?}"),
    }
}

/// Exit code, standard output and standard error of `check-config`.
fn checked(sources: &Sources) -> (u8, String, String) {
    let (mut results, mut complaints) = (Vec::new(), Vec::new());
    let code = check_config(sources, &mut results, &mut complaints);
    (
        code,
        String::from_utf8(results).unwrap(),
        String::from_utf8(complaints).unwrap(),
    )
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn devhub_has_the_documented_defaults() {
    assert_eq!(
        devhub_options(&[]),
        DevhubOptions {
            amqp: "127.0.0.1:5672".parse().unwrap(),
            amqps: "127.0.0.1:5671".parse().unwrap(),
            rest: "127.0.0.1:8443".parse().unwrap(),
            mqtt: "127.0.0.1:1883".parse().unwrap(),
            mqtts: "127.0.0.1:8883".parse().unwrap(),
            partitions: 4,
            devices: 8,
            rate: None,
            tls_dir: None,
            json: false,
        }
    );
}

#[test]
fn devhub_takes_every_documented_flag() {
    let options = devhub_options(&[
        "--amqp",
        "0",
        "--amqps",
        ":0",
        "--rest",
        "0.0.0.0:0",
        "--mqtt",
        "localhost:1",
        "--mqtts",
        "[::1]:2",
        "--partitions",
        "32",
        "--devices",
        "0",
        "--rate",
        "50",
        "--tls-dir",
        "certs",
        "--json",
    ]);
    assert_eq!(
        options,
        DevhubOptions {
            amqp: "127.0.0.1:0".parse().unwrap(),
            amqps: "127.0.0.1:0".parse().unwrap(),
            rest: "0.0.0.0:0".parse().unwrap(),
            mqtt: "127.0.0.1:1".parse().unwrap(),
            mqtts: "[::1]:2".parse().unwrap(),
            partitions: 32,
            devices: 0,
            rate: NonZeroU32::new(50),
            tls_dir: Some("certs".into()),
            json: true,
        }
    );
}

#[test]
fn demo_takes_the_flags_of_devhub_and_an_address_of_its_own() {
    let Command::Demo(args) = parse(&["demo", "--listen", "0", "--amqp", "0", "--json"]) else {
        panic!("demo is a command");
    };
    assert_eq!(args.listen.to_string(), "127.0.0.1:0");
    let options = args.devhub.options(DEMO_DEVICES);
    assert_eq!(options.devices, 12);
    assert!(options.json);
    assert_eq!(options.amqp.port(), 0);
}

#[test]
fn the_demo_relay_reads_the_environment_but_keeps_its_own_address_and_hubs() {
    let Command::Demo(args) = parse(&["demo", "--listen", "127.0.0.1:9"]) else {
        panic!("demo is a command");
    };
    let options = DemoOptions {
        listen: args.listen,
        devhub: args.devhub.options(DEMO_DEVICES),
        relay: Sources::new().with_environment([
            ("IOT_HUB_EVENT_HUB_CONNECTION_STRING", "elsewhere"),
            ("IOT_HUB_SERVICE_CONNECTION_STRING", "elsewhere"),
            ("HUBRELAY_IOT_HUB_CA_FILE", "elsewhere"),
            ("HUBRELAY_LISTEN", "127.0.0.1:10"),
            ("THROTTLING_INTERVAL", "40"),
        ]),
    };
    let ca_certificate = tempfile::NamedTempFile::new().unwrap();
    let config = options
        .relay_config(EVENT_HUB, IOT_HUB, ca_certificate.path())
        .unwrap();
    assert_eq!(config.listen.port(), 9);
    assert_eq!(config.event_hub.connection_string.unwrap().event_hub, "hub");
    let iot_hub = config.iot_hub.connection_string().unwrap();
    assert_eq!((&*iot_hub.host, iot_hub.port), ("localhost", Some(8443)));
    let ca_file = config.iot_hub_use.ca_file.unwrap();
    assert_eq!(ca_file, ca_certificate.path());
    assert_eq!(config.throttling_interval.unwrap().as_millis(), 40);
}

#[test]
fn wrong_values_of_devhub_flags_say_what_is_expected() {
    for (arguments, expected) in [
        (["devhub", "--amqp", "nowhere:1"], "expected `host:port`"),
        (["devhub", "--partitions", "0"], "0 is not in 1..=1024"),
        (["devhub", "--devices", "-1"], "-1"),
        (
            ["devhub", "--devices", "10001"],
            "10001 is not in 0..=10000",
        ),
        (
            ["devhub", "--rate", "0"],
            "expected a whole number from 1 to 1000000",
        ),
        (
            ["devhub", "--rate", "NaN"],
            "expected a whole number from 1 to 1000000",
        ),
        (["devhub", "--log-format", "xml"], "expected text, json"),
        (
            ["demo", "--log-level", "loud"],
            "expected error, warn, info, verbose, debug",
        ),
    ] {
        let error = refused(&arguments);
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    assert_eq!(refused(&[]).exit_code(), 2);
    assert_eq!(refused(&["server"]).exit_code(), 2);
    assert_eq!(refused(&["--help"]).exit_code(), 0);
    assert_eq!(refused(&["--version"]).exit_code(), 0);
    let error = refused(&["serve", "--throtling-interval", "1"]);
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().contains("'--throttling-interval'"),
        "{error}"
    );
}

#[test]
fn every_option_is_a_flag_of_serve_and_check_config_with_help() {
    for command in ["serve", "check-config"] {
        let error = refused(&[command, "--help"]);
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        let help = error.to_string();
        for option in OPTIONS {
            assert!(
                help.contains(&format!("--{}", option.flag())),
                "{}",
                option.name
            );
            assert!(
                help.contains(
                    &option.environment_names()[usize::from(option.ux4iot_name.is_some())]
                )
            );
        }
        assert!(help.contains("--config"));
    }
}

#[test]
fn flags_go_before_the_environment_and_the_last_of_a_name_holds() {
    let sources = serve_sources(
        &[
            "--throttling-interval",
            "-1",
            "--shards",
            "2",
            "--shards=3",
            "--connection-state-on-telemetry",
            "false",
        ],
        &[
            ("IOT_HUB_EVENT_HUB_CONNECTION_STRING", EVENT_HUB),
            ("THROTTLING_INTERVAL", "9"),
        ],
    );
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.throttling_interval, None);
    assert_eq!(config.shards.get(), 3);
    assert!(!config.decoding.connection_state_on_telemetry);
}

#[test]
fn a_boolean_flag_without_a_value_switches_on() {
    let sources = serve_sources(
        &["--connection-state-on-telemetry"],
        &[
            ("IOT_HUB_EVENT_HUB_CONNECTION_STRING", EVENT_HUB),
            ("CONNECTION_STATE_ON_TELEMETRY", "false"),
        ],
    );
    assert!(
        Config::load(&sources)
            .unwrap()
            .decoding
            .connection_state_on_telemetry
    );
}

#[test]
fn debug_of_the_command_line_shows_no_secret() {
    let command = parse(&["serve", "--primary-admin-secret", "top-secret"]);
    let shown = format!("{command:?}");
    assert!(
        shown.contains("primary_admin_secret") && !shown.contains("top-secret"),
        "{shown}"
    );
}

#[test]
fn check_config_prints_the_effective_configuration_and_exits_with_0() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "primary_admin_secret = \"top-secret\"").unwrap();
    let sources = serve_sources(
        &[
            "--config",
            file.path().to_str().unwrap(),
            "--iot-hub-event-hub-connection-string",
            EVENT_HUB,
        ],
        &[],
    );
    let (code, results, complaints) = checked(&sources);
    assert_eq!((code, complaints.as_str()), (0, ""));
    assert!(
        results.contains("primary_admin_secret = \"***\" # "),
        "{results}"
    );
    assert!(!results.contains("top-secret"), "{results}");
}

#[test]
fn check_config_exits_with_1_for_a_malformed_connection_string() {
    let sources = serve_sources(&["--iot-hub-event-hub-connection-string", "nonsense"], &[]);
    let (code, results, complaints) = checked(&sources);
    assert_eq!(code, 1);
    assert!(
        results.contains("iot_hub_event_hub_connection_string = \"***\""),
        "{results}"
    );
    assert_eq!(
        complaints,
        "error: `iot_hub_event_hub_connection_string` is not a valid connection string (`***`, flag --iot-hub-event-hub-connection-string): part 1 has no `=`; expected `Name=Value` pairs joined by `;`\n"
    );
}

#[test]
fn check_config_exits_with_2_for_anything_else() {
    let (code, results, complaints) = checked(&serve_sources(&["--shards", "0"], &[]));
    assert_eq!((code, results.as_str()), (2, ""));
    assert_eq!(
        complaints,
        "error: invalid configuration: `shards` cannot be `0` (flag --shards); allowed: a whole number from 1 to 64\n"
    );

    let (code, _, complaints) = checked(&serve_sources(&[], &[]));
    assert_eq!(code, 2);
    assert!(
        complaints.contains("`iot_hub_event_hub_connection_string` is required"),
        "{complaints}"
    );
}
