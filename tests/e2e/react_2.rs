//! The published `ux4iot-react` 2.0.2 from npm, unmodified, in a real browser, against a relay that serves 2.x.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, Testbed, node_script::NodeScript, tcp_proxy::TcpProxy,
};

const LEGACY: (&str, &str) = ("HUBRELAY_LEGACY_V2", "true");

/// A browser starts before the first line is printed.
const BROWSER_PATIENCE: Duration = Duration::from_mins(1);

/// How soon values must flow again after the connection was cut.
const RECOVERY: Duration = Duration::from_secs(10);

/// A page with hooks of the library.
struct Page {
    script: NodeScript,
    /// The session that it began with.
    session_id: String,
}

impl Page {
    async fn open(url: &str) -> Self {
        let options = json!({"url": url, "key": PRIMARY_KEY});
        let mut script = NodeScript::start("react_2.mjs", &[&options.to_string()]);
        let mut ready = false;
        let mut session_id = None;
        loop {
            let line = script.next_line_within(BROWSER_PATIENCE).await;
            ready |= line["event"] == "ready";
            session_id = session_id.or_else(|| line["sessionId"].as_str().map(str::to_owned));
            if ready && let Some(session_id) = session_id.take() {
                return Self { script, session_id };
            }
        }
    }

    async fn finish(self) {
        self.script.finish().await;
    }

    async fn mount(&mut self, id: &str, hook: &str, inputs: Value) {
        self.script
            .send(&json!({"command": "mount", "id": id, "hook": hook, "inputs": inputs}))
            .await;
    }

    async fn unmount(&mut self, id: &str) {
        self.script
            .send(&json!({"command": "unmount", "id": id}))
            .await;
    }

    async fn call(&mut self, id: &str, args: Value) {
        self.script
            .send(&json!({"command": "call", "id": id, "args": args}))
            .await;
    }

    /// The lines until `is_last` holds.
    async fn until(&mut self, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut lines = Vec::new();
        loop {
            let line = self.script.next_line().await;
            assert_ne!(line["event"], "error", "{line}");
            let done = is_last(&line);
            lines.push(line);
            if done {
                return lines;
            }
        }
    }

    /// Waits for a call of the relay.
    async fn calls(&mut self, call: &str, status: u16) {
        self.until(|line| line["call"] == call && line["status"] == status)
            .await;
    }

    /// Waits until a hook is given `data`, and answers what all hooks were given until then.
    async fn is_given(&mut self, id: &str, data: &Value) -> Vec<(String, Value)> {
        self.until(|line| line["event"] == "data" && line["id"] == id && line["data"][0] == *data)
            .await
            .into_iter()
            .filter(|line| line["event"] == "data")
            .map(|mut line| {
                let id = line["id"].as_str().expect("an id").to_owned();
                (id, line["data"][0].take())
            })
            .collect()
    }

    /// Waits until a hook shows `value`.
    async fn shows(&mut self, id: &str, value: &Value) {
        self.until(|line| line["event"] == "shows" && line["id"] == id && line["value"] == *value)
            .await;
    }
}

fn one_key(telemetry_key: &str) -> Value {
    json!({"deviceId": "d1", "telemetryKey": telemetry_key})
}

fn device() -> Value {
    json!({"deviceId": "d1"})
}

#[tokio::test]
async fn check_70_the_published_2_x_client_shows_last_values_and_then_live_ones() {
    let mut testbed = Testbed::with(&[LEGACY]).await;
    testbed.process("d1", json!({"t": 1})).await;
    let mut page = Page::open(&testbed.rest.url).await;
    page.mount("t", "telemetry", one_key("t")).await;
    page.shows("t", &json!(1)).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2, "u": 2})))
        .await;
    page.shows("t", &json!(2)).await;

    page.mount("c", "connectionState", device()).await;
    page.shows("c", &json!(true)).await;
    testbed
        .inject(DeviceEvent::connection_state("d1", "deviceDisconnected"))
        .await;
    page.shows("c", &json!(false)).await;

    // A hook that appears again shows the last value again.
    page.unmount("t").await;
    page.mount("t", "telemetry", one_key("t")).await;
    page.shows("t", &json!(2)).await;
    page.finish().await;
}

#[tokio::test]
async fn the_other_hooks_of_the_published_2_x_client_work_too() {
    let mut testbed = Testbed::with(&[LEGACY, ("HUBRELAY_DEVICE_TWIN_CACHE_TTL", "0")]).await;
    let twin = json!({"version": 1, "properties": {"reported": {"r": 1}, "desired": {}}});
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;
    testbed.process("d1", json!({"t": 0, "u": "x"})).await;
    let mut page = Page::open(&testbed.rest.url).await;

    page.mount("d", "d2cMessages", device()).await;
    page.calls("PUT /grants", 204).await;
    page.mount("w", "deviceTwin", device()).await;
    page.shows("w", &twin).await;
    let subscribers = json!({"initialSubscribers": {"d1": ["t", "u"]}});
    page.mount("m", "multiTelemetry", subscribers).await;
    page.until(|line| {
        line["event"] == "shows"
            && line["value"]["d1"]["t"]["value"] == 0
            && line["value"]["d1"]["u"]["value"] == "x"
    })
    .await;

    let body = json!({"t": false, "u": 2, "v": {"w": [1]}});
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    page.until(|line| {
        line["event"] == "shows"
            && line["value"]["d1"]["t"]["value"] == false
            && line["value"]["d1"]["u"]["value"] == 2
    })
    .await;
    page.shows("d", &body).await;
    let patch = json!({"version": 2, "properties": {"reported": {"r": 2}}});
    testbed
        .inject(DeviceEvent::twin_change("d1", "updateTwin", &patch))
        .await;
    let merged = json!({"version": 2, "properties": {"reported": {"r": 2}, "desired": {}}});
    page.shows("w", &merged).await;

    page.call("m", json!(["d1", "v"])).await;
    page.until(|line| line["value"]["d1"]["v"]["value"] == json!({"w": [1]}))
        .await;

    let inputs = json!({"deviceId": "d1", "methodName": "reboot"});
    page.mount("r", "directMethod", inputs).await;
    page.call("r", json!([{"now": true}])).await;
    let told = page.until(|line| line["event"] == "failure").await;
    assert!(
        told.contains(&json!({"event": "grantError", "id": "r", "outcome": "ERROR"})),
        "{told:?}"
    );
    page.finish().await;
}

#[tokio::test]
async fn the_published_2_x_client_goes_on_after_a_cut_connection() {
    let testbed = Testbed::with(&[LEGACY]).await;
    let proxy = TcpProxy::start(testbed.rest.authority()).await;
    let mut page = Page::open(&proxy.url).await;
    page.mount("t", "telemetry", one_key("n")).await;
    page.calls("PUT /grants", 204).await;
    let flood = testbed
        .injector
        .flood_paced("d1", "n", Duration::from_millis(50));
    let mut last = 0;
    for round in 0..2 {
        for _ in 0..5 {
            last = next_value(&mut page, last).await;
        }
        if round == 1 {
            break;
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
    }
    // From here on every value arrives, none of them twice.
    for _ in 0..20 {
        let next = next_value(&mut page, last).await;
        assert_eq!(next, last + 1);
        last = next;
    }
    flood.stop().await;
    page.finish().await;
}

/// The next value the hook is given, which must be newer than `last`; no new session may be made for it.
async fn next_value(page: &mut Page, last: u64) -> u64 {
    let lines = page.until(|line| line["event"] == "data").await;
    assert!(
        lines.iter().all(|line| line["event"] != "call"),
        "{lines:?}"
    );
    let value = lines.last().expect("it was waited for")["data"][0]
        .as_u64()
        .expect("a count");
    assert!(value > last, "{value} after {last}");
    value
}

#[tokio::test]
async fn the_published_2_x_client_goes_on_after_restarts_of_the_relay() {
    let mut testbed = Testbed::with(&[LEGACY]).await;
    let mut page = Page::open(&testbed.rest.url).await;
    page.mount("t", "telemetry", one_key("t")).await;
    page.calls("PUT /grants", 204).await;
    for round in 1..3 {
        if round == 1 {
            testbed.relay.process.signal_termination().await;
            testbed.relay.process.ended().await;
        } else {
            testbed.relay.process.kill().await;
        }
        testbed.start_relay_again_with(&[LEGACY]).await;
        page.calls("PUT /grants", 204).await;
        testbed
            .inject(DeviceEvent::telemetry("d1", &json!({"t": round})))
            .await;
        let given = page.is_given("t", &json!(round)).await;
        assert_eq!(given.len(), 1, "{given:?}");
    }
    page.finish().await;
}

#[tokio::test]
async fn the_published_2_x_client_gets_nothing_of_what_was_revoked() {
    let mut testbed = Testbed::with(&[LEGACY]).await;
    let mut page = Page::open(&testbed.rest.url).await;
    for key in ["t", "witness"] {
        page.mount(key, "telemetry", one_key(key)).await;
        page.calls("PUT /grants", 204).await;
    }
    let mut revoked = one_key("t");
    revoked["grantType"] = json!("subscribeToTelemetry");
    revoked["sessionId"] = json!(page.session_id);
    let call = testbed.rest.delete("/grants").key(PRIMARY_KEY);
    call.json(&revoked).await.is(204);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1, "witness": 1})))
        .await;
    let given = page.is_given("witness", &json!(1)).await;
    assert_eq!(given.len(), 1, "{given:?}");
    page.finish().await;
}

#[tokio::test]
async fn the_published_2_x_client_comes_back_after_its_session_was_deleted() {
    let mut testbed = Testbed::with(&[LEGACY]).await;
    let mut page = Page::open(&testbed.rest.url).await;
    page.mount("t", "telemetry", one_key("t")).await;
    page.calls("PUT /grants", 204).await;
    let deleted = testbed.rest.delete("/sessions").key(PRIMARY_KEY).await;
    deleted.is(204);
    testbed.process("d1", json!({"t": 1})).await;
    // The last value, then a live one.
    let given = page.is_given("t", &json!(1)).await;
    assert_eq!(given.len(), 1, "{given:?}");
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2})))
        .await;
    let given = page.is_given("t", &json!(2)).await;
    assert_eq!(given.len(), 1, "{given:?}");
    page.finish().await;
}
