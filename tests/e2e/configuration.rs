//! Configuration: what is refused and how it is said, and what wins.

use std::{io::Write, process::Output};

use tempfile::NamedTempFile;

use crate::harness::Hubrelay;

const CONNECTION_STRING: &str = "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=reader;SharedAccessKey=dGhlIGtleQ==;\
     EntityPath=hub;UseDevelopmentEmulator=true";
const CONNECTION_STRING_NAME: &str = "IOT_HUB_EVENT_HUB_CONNECTION_STRING";

#[tokio::test]
async fn a_bad_value_is_refused_naming_option_value_and_what_is_allowed() {
    for (name, value, expected) in [
        (
            "THROTTLING_INTERVAL",
            "fast",
            ["throttling_interval", "fast", "number"],
        ),
        (
            "CONNECTION_STATE_ON_TELEMETRY",
            "yes",
            ["connection_state_on_telemetry", "yes", "true"],
        ),
        (
            "CONNECTION_STATE_CACHE_TTL",
            "-2",
            ["connection_state_cache_ttl", "-2", "-1"],
        ),
        ("LOG_LEVEL", "loud", ["log_level", "loud", "verbose"]),
        ("HUBRELAY_LISTEN", "nowhere", ["listen", "nowhere", "port"]),
    ] {
        let environment = [(CONNECTION_STRING_NAME, CONNECTION_STRING), (name, value)];
        let output = Hubrelay::run(&["serve"], &environment).await;
        assert_refused(&output, &expected);
    }
}

#[tokio::test]
async fn a_misspelt_name_is_refused_naming_the_nearest() {
    let environment = [
        (CONNECTION_STRING_NAME, CONNECTION_STRING),
        ("HUBRELAY_LISTN", "127.0.0.1:0"),
    ];
    let output = Hubrelay::run(&["serve"], &environment).await;
    assert_refused(&output, &["HUBRELAY_LISTN", "HUBRELAY_LISTEN"]);

    let file = file("throtling_interval = 1000\n");
    let path = file.path().to_str().expect("the path is UTF-8");
    let environment = [(CONNECTION_STRING_NAME, CONNECTION_STRING)];
    let output = Hubrelay::run(&["serve", "--config", path], &environment).await;
    assert_refused(
        &output,
        &["throtling_interval", "throttling_interval", "line 1"],
    );

    let output = Hubrelay::run(&["serve", "--listn", "127.0.0.1:0"], &environment).await;
    assert_refused(&output, &["--listn", "--listen"]);
}

#[tokio::test]
async fn a_configuration_file_that_cannot_be_used_is_refused() {
    let environment = [(CONNECTION_STRING_NAME, CONNECTION_STRING)];
    let output = Hubrelay::run(&["serve", "--config", "no-such-file.toml"], &environment).await;
    assert_refused(&output, &["no-such-file.toml"]);

    let file = file("listen = \n");
    let path = file.path().to_str().expect("the path is UTF-8");
    let output = Hubrelay::run(&["serve", "--config", path], &environment).await;
    assert_refused(&output, &["line 1"]);
}

#[tokio::test]
async fn flags_outrank_the_environment_which_outranks_the_file() {
    let file = file(&format!(
        "iot_hub_event_hub_connection_string = {CONNECTION_STRING:?}\n\
         throttling_interval = 1\nconnection_state_cache_ttl = 1\ndevice_twin_cache_ttl = 1\n"
    ));
    let path = file.path().to_str().expect("the path is UTF-8");
    let environment = [
        ("CONNECTION_STATE_CACHE_TTL", "2"),
        ("deviceTwinCacheTTL", "2"),
    ];
    let arguments = [
        "check-config",
        "--config",
        path,
        "--device-twin-cache-ttl",
        "3",
    ];
    let output = Hubrelay::run(&arguments, &environment).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    for (option, value) in [
        ("throttling_interval", 1),
        ("connection_state_cache_ttl", 2),
        ("device_twin_cache_ttl", 3),
    ] {
        assert!(
            printed.contains(&format!("{option} = {value}")),
            "{printed}"
        );
    }
}

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file can be created");
    file.write_all(content.as_bytes())
        .expect("the file can be written");
    file
}

#[track_caller]
fn assert_refused(output: &Output, expected: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty(), "stdout is for results");
    for part in expected {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
}
