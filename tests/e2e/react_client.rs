//! The published React client's behaviour in a real browser, its connection cut.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{PRIMARY_KEY, Testbed, react_client::ReactClient, tcp_proxy::TcpProxy};

/// How soon values must flow again after the connection was cut.
const RECOVERY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn check_53_a_hook_in_a_browser_recovers_from_a_cut_and_sees_each_value_once() {
    let testbed = Testbed::start().await;
    let proxy = TcpProxy::start(testbed.rest.authority()).await;
    let mut page = ReactClient::in_browser(&proxy.url, PRIMARY_KEY).await;
    let inputs = json!({"deviceId": "d1", "telemetryKey": "n"});
    page.mount("hook", "telemetry", inputs).await;

    let flood = testbed
        .injector
        .flood_paced("d1", "n", Duration::from_millis(50));
    let mut last = 0;
    for _ in 0..5 {
        last = next_value(&mut page, last).await;
    }

    proxy.cut();
    let cut = Instant::now();
    let injected_before = flood.accepted();
    while last <= injected_before {
        last = next_value(&mut page, last).await;
    }
    let recovered = cut.elapsed();
    assert!(
        recovered <= RECOVERY,
        "values flowed again after {recovered:?}"
    );

    // From here on every value arrives, none of them twice.
    for _ in 0..20 {
        let next = next_value(&mut page, last).await;
        assert_eq!(next, last + 1);
        last = next;
    }
    flood.stop().await;
    page.finish().await;
}

/// The next value that is pushed to the hook, which must be newer than `last`. Between a last value that it reads and
/// its subscription the page may miss values.
async fn next_value(page: &mut ReactClient, last: u64) -> u64 {
    let value = page.next_pushed("hook").await["n"]
        .as_u64()
        .expect("a count");
    assert!(value > last, "{value} after {last}");
    value
}
