//! The `hubrelay` program as a script meets it: exit codes, standard output, standard error.

use std::process::{Command, Output};

const EVENT_HUB: &str =
    "Endpoint=sb://localhost;SharedAccessKeyName=n;SharedAccessKey=top-secret;EntityPath=hub";

/// Runs the program with these arguments and nothing but these environment variables.
fn hubrelay(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hubrelay"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes text")
}

#[test]
fn check_config_prints_the_result_on_standard_output_without_secrets() {
    let output = hubrelay(
        &["check-config", "--shards", "2"],
        &[
            ("iotHubEventHubConnectionString", EVENT_HUB),
            ("PRIMARY_ADMIN_SECRET", "top-secret"),
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    let results = text(&output.stdout);
    assert!(
        results.contains("shards = 2 # flag --shards\n"),
        "{results}"
    );
    assert!(!results.contains("top-secret"), "{results}");
}

#[test]
fn a_malformed_connection_string_fails_check_config_with_1() {
    let environment = [("IOT_HUB_EVENT_HUB_CONNECTION_STRING", "HostName=h")];
    let output = hubrelay(&["check-config"], &environment);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("Built-in endpoints"));
}

#[test]
fn a_wrong_command_line_or_configuration_exits_with_2_before_anything_starts() {
    let no_variables: &[(&str, &str)] = &[];
    for (arguments, environment, complaint) in [
        (&["sevre"][..], no_variables, "'serve'"),
        (
            &["serve"],
            no_variables,
            "--iot-hub-event-hub-connection-string",
        ),
        (
            &["serve", "--shards", "0"],
            &[("IOT_HUB_EVENT_HUB_CONNECTION_STRING", EVENT_HUB)],
            "`shards` cannot be `0` (flag --shards); allowed: a whole number from 1 to 64",
        ),
        (
            &["demo"],
            &[("HUBRELAY_SHARD", "1")],
            "the nearest valid name is `HUBRELAY_SHARDS`",
        ),
        (
            &["devhub", "--amqp", "0"],
            &[("RUST_LOG", "devhub=loud")],
            "`RUST_LOG` cannot be `devhub=loud`",
        ),
    ] {
        let output = hubrelay(arguments, environment);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(complaint), "{output:?}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let output = hubrelay(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}
