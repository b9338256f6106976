//! Version, status and log level.

use crate::harness::{Answer, Devhub, PRIMARY_KEY, Relay, SECONDARY_KEY, Testbed};

/// Nothing listens there: port 9 is the discard service, which no one runs.
const UNREACHABLE_EVENT_HUB: &str = "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0;\
     EntityPath=hub;UseDevelopmentEmulator=true";

#[tokio::test]
async fn check_01_version_is_public_three_part_text() {
    let testbed = Testbed::start().await;
    let answer = testbed.rest.get("/version").await.is(200);
    let numbers: Vec<&str> = answer.body.splitn(3, '.').collect();
    let [major, minor, patch] = numbers[..] else {
        panic!("{} has no three parts", answer.body);
    };
    assert!(major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok());
    assert!(patch.starts_with(|first: char| first.is_ascii_digit()));
    assert!(answer.header("content-type").starts_with("text/plain"));
}

#[tokio::test]
async fn check_02_status_is_503_until_the_consumer_runs_and_then_ok() {
    let waiting = Relay::start(UNREACHABLE_EVENT_HUB, &[]).await;
    waiting
        .rest
        .get("/status")
        .await
        .says(503, "Still initializing");

    let testbed = Testbed::start().await;
    testbed.rest.get("/status").await.says(200, "OK");
}

#[tokio::test]
async fn check_03_status_names_the_connection_string_that_cannot_be_read() {
    let relay = Relay::start("this is no connection string", &[]).await;
    let answer = misformed(&relay).await;
    assert!(
        answer.body.contains("iotHubEventHubConnectionString"),
        "{}",
        answer.body
    );

    let devhub = Devhub::start().await;
    let options = [("IOT_HUB_SERVICE_CONNECTION_STRING", "nor is this")];
    let relay = Relay::start(&devhub.event_hub_connection_string, &options).await;
    let answer = misformed(&relay).await;
    assert!(
        answer.body.contains("iotHubServiceConnectionString"),
        "{}",
        answer.body
    );
}

async fn misformed(relay: &Relay) -> Answer {
    let rest = &relay.rest;
    rest.eventually("the status is 500", || async {
        let answer = rest.get("/status").await;
        (answer.status == 500).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn check_04_log_level_changes_with_either_key_only() {
    let testbed = Testbed::start().await;
    let rest = &testbed.rest;
    let answer = rest.put("/logLevel/debug").key(PRIMARY_KEY).await.is(204);
    assert_eq!(answer.body, "");
    rest.put("/logLevel/debug").key(SECONDARY_KEY).await.is(204);
    rest.put("/logLevel/debug").await.is(401);
    rest.put("/logLevel/debug").key("wrong").await.is(401);
    rest.put("/logLevel/loud").await.is(401);
}

#[tokio::test]
async fn check_05_unknown_log_level_is_refused() {
    let testbed = Testbed::start().await;
    let call = testbed.rest.put("/logLevel/loud").key(PRIMARY_KEY);
    call.await.says(400, "Unknown log level");
}

#[tokio::test]
async fn every_documented_log_level_is_accepted() {
    let testbed = Testbed::start().await;
    for level in ["error", "warn", "info", "verbose", "debug"] {
        let path = format!("/logLevel/{level}");
        testbed.rest.put(&path).key(PRIMARY_KEY).await.is(204);
    }
}

#[tokio::test]
async fn gets_are_never_stored_by_caches() {
    let testbed = Testbed::start().await;
    for path in ["/version", "/status", "/lastValue/d1"] {
        let answer = testbed.rest.get(path).key(PRIMARY_KEY).await.is(200);
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn keys_and_session_ids_do_not_reach_the_log() {
    let testbed = Testbed::with(&[("LOG_LEVEL", "debug")]).await;
    let session = testbed.session().await;
    session.granted(&crate::harness::every_key("d1")).await;
    let refused = testbed.rest.put("/grants").key("a-wrong-key").await;
    refused.is(401);
    session.deleted().await;

    let log = testbed.relay.process.log();
    assert!(!log.is_empty());
    for secret in [
        PRIMARY_KEY,
        SECONDARY_KEY,
        "a-wrong-key",
        session.id.as_str(),
    ] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
    let event_hub_key = testbed
        .devhub
        .event_hub_connection_string
        .split(';')
        .find_map(|part| part.strip_prefix("SharedAccessKey="))
        .expect("the connection string holds a key");
    assert!(
        !log.contains(event_hub_key),
        "the log holds the Event Hub's key"
    );
}
