//! Server-sent events of the started binary, read by a browser's `EventSource` and by a plain HTTP client.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::harness::node_script::NodeScript;
use crate::harness::tcp_proxy::TcpProxy;
use crate::harness::{
    GRANT_TOKEN_SECRET, PATIENCE, PRIMARY_KEY, Testbed, connection_state, every_key, grant_token,
};

/// A browser starts, and events are watched until they come.
const BROWSER_PATIENCE: Duration = Duration::from_mins(1);

async fn testbed() -> Testbed {
    Testbed::with(&[("HUBRELAY_GRANT_TOKEN_SECRET", GRANT_TOKEN_SECRET)]).await
}

#[tokio::test]
async fn a_browser_follows_devices_through_a_cut_and_misses_nothing() {
    let mut testbed = testbed().await;
    testbed.process("d1", json!({"n": 1})).await;
    let proxy = TcpProxy::start(testbed.rest.authority()).await;
    let token = grant_token(&[every_key("d1"), connection_state("d1")]);
    let url = format!(
        "{}/events?telemetry=d1/n&connectionState=d1&token={token}",
        proxy.url
    );
    let mut page = NodeScript::start("event_source.mjs", &[&url]);

    let line = page.next_line_within(BROWSER_PATIENCE).await;
    assert_eq!(line["event"], "snapshot", "{line}");
    let session = line["data"]["sessionId"]
        .as_str()
        .expect("a session")
        .to_owned();
    assert_eq!(line["data"]["snapshot"][0]["telemetry"]["n"]["value"], 1);
    testbed.process("d1", json!({"n": 2})).await;
    let line = page.next_event("updates").await;
    assert_eq!(line["data"]["updates"][0]["telemetry"], json!({"n": 2}));
    let place = line["lastEventId"].as_str().expect("an id");
    assert!(place.starts_with(&session), "{place}");

    proxy.cut();
    for number in 3..=5 {
        testbed.process("d1", json!({"n": number})).await;
    }
    let line = page.next_event("snapshot").await;
    assert_eq!(line["data"]["recovered"], true, "{line}");
    assert_eq!(line["data"]["sessionId"], session);
    let mut numbers = Vec::new();
    while numbers.last() != Some(&5) {
        let line = page.next_event("updates").await;
        for update in line["data"]["updates"].as_array().expect("a list") {
            numbers.extend(update["telemetry"]["n"].as_u64());
        }
    }
    assert_eq!(numbers, [3, 4, 5]);

    testbed
        .rest
        .delete("/grants")
        .key(PRIMARY_KEY)
        .json(&json!({"sessionId": session, "deviceId": "d1", "type": "telemetry"}))
        .await
        .is(204);
    let line = page.next_event("ended").await;
    assert_eq!(line["data"]["reason"], "revoked");
    page.finish().await;
    let log = testbed.relay.process.log();
    let (_, signature) = token.rsplit_once('.').expect("it has a signature");
    assert!(
        !log.contains(signature) && !log.contains(&session),
        "a secret is in the log"
    );
}

#[tokio::test]
async fn a_browser_that_is_refused_does_not_ask_again() {
    let testbed = testbed().await;
    let url = format!("{}/events?telemetry=d1&token=x.y.z", testbed.rest.url);
    let mut page = NodeScript::start("event_source.mjs", &[&url]);
    let line = page.next_line_within(BROWSER_PATIENCE).await;
    assert_eq!(line["event"], "closed", "{line}");
    page.finish().await;
}

#[tokio::test]
async fn a_stream_says_goodbye_when_the_relay_stops() {
    let mut testbed = testbed().await;
    let url = format!("{}/events?telemetry=d1", testbed.rest.url);
    let request = reqwest::Client::new()
        .get(url)
        .header("Shared-Access-Key", PRIMARY_KEY);
    let response = request.send().await.expect("the relay answers");
    assert_eq!(response.status(), 200);
    testbed.process("d1", json!({"n": 1})).await;
    testbed.relay.process.signal_termination().await;
    let text = timeout(PATIENCE, response.text())
        .await
        .expect("the stream ends");
    let text = text.expect("and does so in order");
    let events: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(events, ["snapshot", "updates", "goodbye"], "{text}");
    assert!(testbed.relay.process.ended().await.success());
}
