//! The published React client after it lost its connection or its session: values flow again without anybody touching
//! the page, and each of them once.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, Rest, Testbed, react_client::ReactClient, tcp_proxy::TcpProxy,
};

/// How soon values must flow again after the connection was cut.
const RECOVERY: Duration = Duration::from_secs(10);

/// One hook of every kind that shows something.
const HOOKS: [&str; 6] = ["t", "c", "w", "d", "m", "n"];

async fn mount_all(page: &mut ReactClient) {
    let device = json!({"deviceId": "d1"});
    let hooks = [
        ("telemetry", json!({"deviceId": "d1", "telemetryKey": "t"})),
        ("connectionState", device.clone()),
        ("deviceTwin", device.clone()),
        ("d2cMessages", device),
        (
            "multiTelemetry",
            json!({"initialSubscribers": {"d1": ["t", "m"]}}),
        ),
        (
            "multiConnectionState",
            json!({"initialSubscribers": ["d1", "d2"]}),
        ),
    ];
    for (id, (hook, inputs)) in HOOKS.into_iter().zip(hooks) {
        page.mount(id, hook, inputs).await;
    }
}

/// Requires that every hook gets the next value, once.
async fn every_hook_gets_values(testbed: &mut Testbed, page: &mut ReactClient, n: u32) {
    let body = json!({"t": n, "m": n, "x": n});
    let twin = json!({"version": n, "properties": {"reported": {"n": n}, "desired": {}}});
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;
    let happened = page.data_is("w", &twin).await;
    assert_eq!(happened.data("t"), [json!({"t": n})]);
    assert_eq!(happened.data("m"), [json!({"t": n, "m": n})]);
    assert_eq!(happened.data("d"), [body]);
    assert_eq!(happened.data("c"), [json!(true)]);
    assert_eq!(happened.data("n"), [json!(true)]);
}

#[tokio::test]
async fn all_hooks_recover_from_a_cut_connection() {
    let mut testbed = Testbed::start().await;
    let proxy = TcpProxy::start(testbed.rest.authority()).await;
    let mut page = ReactClient::connected(&proxy.url, PRIMARY_KEY, json!({})).await;
    mount_all(&mut page).await;
    every_hook_gets_values(&mut testbed, &mut page, 1).await;
    let session_before = page.session_id.clone();

    proxy.cut();
    let cut = Instant::now();
    let reconnected = page.reconnected().await;
    // The manager comes back with the old id and must be told that it is over; only then a new session is made.
    assert_eq!(
        reconnected.connections(),
        [
            "socket_disconnect: transport close",
            "socket_connect_error: No such sessionId",
            "socket_connect"
        ]
    );
    assert_ne!(page.session_id, session_before);
    let settled = page.settled(&HOOKS).await;
    // A value of each is there at once, and live ones follow.
    assert_eq!(settled.data("t"), [json!({"t": 1})]);
    assert_eq!(settled.data("c"), [json!(true)]);
    let recovered = cut.elapsed();
    assert!(
        recovered <= RECOVERY,
        "the hooks were subscribed again after {recovered:?}"
    );
    for n in 2..5 {
        every_hook_gets_values(&mut testbed, &mut page, n).await;
    }
    page.finish().await;
}

#[tokio::test]
async fn a_page_without_hooks_keeps_its_session_over_a_cut_connection() {
    let mut testbed = Testbed::start().await;
    let proxy = TcpProxy::start(testbed.rest.authority()).await;
    let mut page = ReactClient::connected(&proxy.url, PRIMARY_KEY, json!({})).await;
    let session_before = page.session_id.clone();
    proxy.cut();
    page.reconnected().await;
    assert_eq!(page.session_id, session_before);
    mount_all(&mut page).await;
    every_hook_gets_values(&mut testbed, &mut page, 1).await;
    page.finish().await;
}

#[tokio::test]
async fn all_hooks_recover_from_a_restart_of_the_relay() {
    let mut testbed = Testbed::start().await;
    let mut page = ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, json!({})).await;
    mount_all(&mut page).await;

    testbed.relay.process.signal_termination().await;
    testbed.relay.process.ended().await;
    let lost = page.connection_is("socket_disconnect").await;
    assert_eq!(
        lost.connections(),
        ["socket_disconnect: io server disconnect"]
    );
    testbed.start_relay_again().await;
    page.reconnected().await;
    page.settled(&HOOKS).await;
    every_hook_gets_values(&mut testbed, &mut page, 1).await;
    page.finish().await;
}

#[tokio::test]
async fn all_hooks_recover_when_the_relay_was_killed() {
    let mut testbed = Testbed::start().await;
    let mut page = ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, json!({})).await;
    mount_all(&mut page).await;

    testbed.relay.process.kill().await;
    page.connection_is("socket_disconnect").await;
    testbed.start_relay_again().await;
    page.reconnected().await;
    page.settled(&HOOKS).await;
    every_hook_gets_values(&mut testbed, &mut page, 1).await;
    page.finish().await;
}

#[tokio::test]
async fn all_hooks_recover_when_sessions_are_deleted() {
    let mut testbed = Testbed::start().await;
    let mut page = ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, json!({})).await;
    mount_all(&mut page).await;
    for (round, path) in [
        (1, format!("/sessions/{}", page.session_id)),
        (2, "/sessions".to_owned()),
    ] {
        let session_before = page.session_id.clone();
        testbed.rest.delete(&path).key(PRIMARY_KEY).await.is(204);
        let reconnected = page.reconnected().await;
        assert_eq!(
            reconnected.connections(),
            ["socket_disconnect: io server disconnect", "socket_connect"]
        );
        assert_ne!(page.session_id, session_before);
        page.settled(&HOOKS).await;
        every_hook_gets_values(&mut testbed, &mut page, round).await;
    }
    page.finish().await;
}

#[tokio::test]
async fn a_user_whose_session_was_deleted_stays_out_while_the_backend_refuses() {
    let mut testbed = Testbed::start().await;
    let mut page = ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, json!({})).await;
    let inputs = json!({"deviceId": "d1", "telemetryKey": "t"});
    page.mount("t", "telemetry", inputs.clone()).await;
    page.refuse_grants(Some("FORBIDDEN")).await;
    let path = format!("/sessions/{}", page.session_id);
    testbed.rest.delete(&path).key(PRIMARY_KEY).await.is(204);
    page.reconnected().await;
    let settled = page.settled(&["t"]).await;
    assert_eq!(settled.calls(), [""; 0]);
    assert_eq!(settled.grant_errors("t"), ["FORBIDDEN", "FORBIDDEN"]);

    testbed.process("d1", json!({"t": 1})).await;
    page.refuse_grants(None).await;
    page.unmount("t").await;
    let mounted = page.mount("t", "telemetry", inputs).await;
    assert_eq!(mounted.data("t"), [json!({"t": 1})]);
    page.finish().await;
}

#[tokio::test]
async fn a_page_that_is_opened_before_the_relay_runs_waits_for_it() {
    let mut testbed = Testbed::start().await;
    testbed.relay.process.kill().await;
    let options = json!({"reconnectTimeoutMs": 200});
    let mut page = ReactClient::start(&testbed.rest.url, PRIMARY_KEY, options).await;
    page.connection_is("ux4iot_unreachable").await;
    page.mount(
        "t",
        "telemetry",
        json!({"deviceId": "d1", "telemetryKey": "t"}),
    )
    .await;
    testbed.start_relay_again().await;
    page.reconnected().await;
    page.settled(&["t"]).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    let happened = page.data_is("t", &json!({"t": 1})).await;
    assert_eq!(happened.data("t"), [json!({"t": 1})]);
    page.finish().await;
}

#[tokio::test]
async fn what_a_closed_page_had_is_gone() {
    let mut testbed = Testbed::start().await;
    let mut page = ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, json!({})).await;
    mount_all(&mut page).await;
    let session_id = page.session_id.clone();
    page.finish().await;
    let rest: &Rest = &testbed.rest;
    rest.eventually("the session is over", || async {
        let answer = rest.get("/lastValue/d1").session(&session_id).await;
        (answer.status == 404).then_some(Value::Null)
    })
    .await;
    testbed.still_serves().await;
}
