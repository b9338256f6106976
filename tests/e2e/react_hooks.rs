//! The eight hooks of the published React client: the exact calls that each makes as it appears, changes and goes, and
//! that each value reaches each hook once.

use serde_json::{Value, json};

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, Testbed,
    react_client::{Happened, ReactClient},
};

/// A page at the relay, connected.
async fn page(testbed: &Testbed) -> ReactClient {
    ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, json!({})).await
}

fn one_key(telemetry_key: &str) -> Value {
    json!({"deviceId": "d1", "telemetryKey": telemetry_key})
}

fn device() -> Value {
    json!({"deviceId": "d1"})
}

#[tokio::test]
async fn use_telemetry_reads_the_last_value_and_then_subscribes() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 0, "u": "x"})).await;
    let mut page = page(&testbed).await;

    let mounted = page.mount("t", "telemetry", one_key("t")).await;
    assert_eq!(
        mounted.calls(),
        [
            "PUT /grants 204",
            "GET /lastValue/d1/t 200",
            "PUT /subscription 204"
        ]
    );
    assert_eq!(mounted.data("t"), [json!({"t": 0})]);

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1, "u": "y"})))
        .await;
    page.data_is("t", &json!({"t": 1})).await;
    page.finish().await;
}

#[tokio::test]
async fn use_telemetry_subscribes_although_there_is_no_last_value() {
    let mut testbed = Testbed::start().await;
    let mut page = page(&testbed).await;
    let mounted = page.mount("t", "telemetry", one_key("t")).await;
    assert_eq!(
        mounted.calls(),
        [
            "PUT /grants 204",
            "GET /lastValue/d1/t 404",
            "PUT /subscription 204"
        ]
    );
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": false})))
        .await;
    page.data_is("t", &json!({"t": false})).await;
    page.finish().await;
}

#[tokio::test]
async fn an_unmounted_hook_is_silent_and_a_remounted_one_goes_on_without_a_new_grant() {
    let mut testbed = Testbed::start().await;
    let mut page = page(&testbed).await;
    page.mount("t", "telemetry", one_key("t")).await;
    page.mount("witness", "telemetry", one_key("w")).await;

    let unmounted = page.unmount("t").await;
    assert_eq!(unmounted.calls(), ["DELETE /subscription 204"]);
    testbed
        .process("d1", json!({"t": 1, "w": "while unmounted"}))
        .await;
    page.data_is("witness", &json!({"w": "while unmounted"}))
        .await;

    let mounted = page.mount("t", "telemetry", one_key("t")).await;
    assert_eq!(
        mounted.calls(),
        ["GET /lastValue/d1/t 200", "PUT /subscription 204"]
    );
    assert_eq!(mounted.data("t"), [json!({"t": 1})]);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2})))
        .await;
    page.data_is("t", &json!({"t": 2})).await;
    page.finish().await;
}

#[tokio::test]
async fn a_hook_whose_inputs_change_follows_the_new_ones_only() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 0, "u": 0})).await;
    let mut page = page(&testbed).await;
    page.mount("t", "telemetry", one_key("t")).await;

    let changed = page.mount("t", "telemetry", one_key("u")).await;
    assert_eq!(
        changed.sorted_calls(),
        [
            "DELETE /subscription 204",
            "GET /lastValue/d1/u 200",
            "PUT /grants 204",
            "PUT /subscription 204"
        ]
    );
    assert_eq!(changed.data("t"), [json!({"u": 0})]);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2, "u": 2})))
        .await;
    let happened = page.data_is("t", &json!({"u": 2})).await;
    assert_eq!(happened.data("t").len(), 1);

    let changed = page
        .mount(
            "t",
            "telemetry",
            json!({"deviceId": "d2", "telemetryKey": "u"}),
        )
        .await;
    assert_eq!(
        changed.sorted_calls(),
        [
            "DELETE /subscription 204",
            "GET /lastValue/d2/u 404",
            "PUT /grants 204",
            "PUT /subscription 204"
        ]
    );
    testbed.process("d1", json!({"u": 3})).await;
    testbed
        .inject(DeviceEvent::telemetry("d2", &json!({"u": "other"})))
        .await;
    let happened = page.data_is("t", &json!({"u": "other"})).await;
    assert_eq!(happened.data("t").len(), 1);
    page.finish().await;
}

#[tokio::test]
async fn hooks_that_want_the_same_share_one_subscription() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 0})).await;
    let mut page = page(&testbed).await;
    page.mount("first", "telemetry", one_key("t")).await;
    let second = page.mount("second", "telemetry", one_key("t")).await;
    assert_eq!(second.calls(), ["GET /lastValue/d1/t 200"]);

    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    let happened = page.data_is("second", &json!({"t": 1})).await;
    assert_eq!(happened.data("first"), [json!({"t": 1})]);

    assert_eq!(page.unmount("first").await.calls(), [""; 0]);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2})))
        .await;
    page.data_is("second", &json!({"t": 2})).await;
    assert_eq!(
        page.unmount("second").await.calls(),
        ["DELETE /subscription 204"]
    );
    page.finish().await;
}

#[tokio::test]
async fn use_connection_state_sees_both_states() {
    let mut testbed = Testbed::start().await;
    let mut page = page(&testbed).await;
    let mounted = page.mount("c", "connectionState", device()).await;
    assert_eq!(
        mounted.calls(),
        [
            "PUT /grants 204",
            // Nothing was heard of the device yet.
            "GET /connectionState/d1 400",
            "PUT /subscription 204"
        ]
    );
    for (operation, connected) in [("deviceDisconnected", false), ("deviceConnected", true)] {
        testbed
            .inject(DeviceEvent::connection_state("d1", operation))
            .await;
        page.data_is("c", &json!(connected)).await;
    }
    assert_eq!(
        page.unmount("c").await.calls(),
        ["DELETE /subscription 204"]
    );
    let mounted = page.mount("c", "connectionState", device()).await;
    assert_eq!(
        mounted.calls(),
        ["GET /connectionState/d1 200", "PUT /subscription 204"]
    );
    assert_eq!(mounted.data("c"), [json!(true)]);
    page.finish().await;
}

#[tokio::test]
async fn use_device_twin_sees_the_whole_twin() {
    let mut testbed = Testbed::with(&[("HUBRELAY_DEVICE_TWIN_CACHE_TTL", "0")]).await;
    let mut page = page(&testbed).await;
    let mounted = page.mount("w", "deviceTwin", device()).await;
    assert_eq!(
        mounted.calls(),
        [
            "PUT /grants 204",
            "GET /deviceTwin/d1 400",
            "PUT /subscription 204"
        ]
    );
    let properties = json!({"reported": {"r": 1}, "desired": {"d": 1}});
    let twin = json!({"version": 3, "properties": properties});
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;
    page.data_is("w", &twin).await;
    let patch = json!({"version": 4, "properties": {"reported": {"r": 2}}});
    testbed
        .inject(DeviceEvent::twin_change("d1", "updateTwin", &patch))
        .await;
    let merged = json!({"version": 4, "properties": {"reported": {"r": 2}, "desired": {"d": 1}}});
    page.data_is("w", &merged).await;

    page.unmount("w").await;
    let mounted = page.mount("w", "deviceTwin", device()).await;
    assert_eq!(
        mounted.calls(),
        ["GET /deviceTwin/d1 200", "PUT /subscription 204"]
    );
    assert_eq!(mounted.data("w"), [merged]);
    page.finish().await;
}

#[tokio::test]
async fn use_d2c_messages_reads_nothing_and_sees_whole_messages() {
    let mut testbed = Testbed::start().await;
    let mut page = page(&testbed).await;
    let mounted = page.mount("d", "d2cMessages", device()).await;
    assert_eq!(
        mounted.calls(),
        ["PUT /grants 204", "PUT /subscription 204"]
    );
    let body = json!({"_ts": "2026-01-01T00:00:00Z", "deviceId": "d1", "n": [1, {"m": null}]});
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    page.data_is("d", &body).await;
    assert_eq!(
        page.unmount("d").await.calls(),
        ["DELETE /subscription 204"]
    );
    page.finish().await;
}

#[tokio::test]
async fn use_multi_telemetry_adds_and_removes_keys_of_several_devices() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 0, "u": 0, "v": 0})).await;
    let mut page = page(&testbed).await;
    let subscribers = json!({"initialSubscribers": {"d1": ["t", "u"], "never seen": ["t"]}});
    let mounted = page.mount("m", "multiTelemetry", subscribers).await;
    assert_eq!(
        mounted.calls(),
        [
            "PUT /grants 204",
            "GET /lastValue/d1 200",
            "PUT /subscriptions 200",
            "PUT /grants 204",
            "GET /lastValue/never seen 200",
            "PUT /subscriptions 200"
        ]
    );
    let data = mounted.data("m");
    assert_eq!(data[0]["t"]["value"], 0);
    assert_eq!(data[0].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(data[1], json!({}));

    testbed
        .inject(DeviceEvent::telemetry(
            "d1",
            &json!({"t": 1, "u": 1, "v": 1}),
        ))
        .await;
    let happened = page.data_is("m", &json!({"t": 1, "u": 1})).await;
    assert_eq!(happened.data("m").len(), 1);

    let removed = page
        .invoke("m", "removeTelemetry", json!(["d1", ["t"]]))
        .await;
    assert_eq!(removed.calls(), ["DELETE /subscriptions 200"]);
    let added = page.invoke("m", "addTelemetry", json!(["d1", ["v"]])).await;
    assert_eq!(
        added.calls(),
        ["GET /lastValue/d1 200", "PUT /subscriptions 200"]
    );
    testbed
        .inject(DeviceEvent::telemetry(
            "d1",
            &json!({"t": 2, "u": 2, "v": 2}),
        ))
        .await;
    page.data_is("m", &json!({"u": 2, "v": 2})).await;

    let unmounted = page.unmount("m").await;
    assert_eq!(
        unmounted.calls(),
        ["DELETE /subscriptions 200", "DELETE /subscriptions 200"]
    );
    page.finish().await;
}

#[tokio::test]
async fn use_multi_connection_state_goes_from_device_to_device() {
    let mut testbed = Testbed::start().await;
    let mut page = page(&testbed).await;
    let mounted = page
        .mount(
            "m",
            "multiConnectionState",
            json!({"initialSubscribers": ["d1", "d2"]}),
        )
        .await;
    assert_eq!(
        mounted.calls(),
        [
            "PUT /grants 204",
            "GET /connectionState/d1 400",
            "PUT /subscription 204",
            "PUT /grants 204",
            "GET /connectionState/d2 400",
            "PUT /subscription 204"
        ]
    );
    for device_id in ["d1", "d2"] {
        testbed
            .inject(DeviceEvent::connection_state(
                device_id,
                "deviceDisconnected",
            ))
            .await;
        page.data_is("m", &json!(false)).await;
    }
    let removed = page
        .invoke("m", "removeConnectionState", json!(["d1"]))
        .await;
    assert_eq!(removed.calls(), ["DELETE /subscription 204"]);
    let unmounted = page.unmount("m").await;
    assert_eq!(unmounted.calls(), ["DELETE /subscription 204"]);
    page.finish().await;
}

#[tokio::test]
async fn calls_towards_devices_are_told_as_errors_while_the_hub_is_disabled() {
    let testbed = Testbed::start().await;
    let mut page = page(&testbed).await;
    let inputs = json!({"deviceId": "d1", "directMethodName": "reboot"});
    page.mount("m", "directMethod", inputs).await;
    page.mount("p", "patchDesiredProperties", device()).await;
    for (id, method) in [("m", "invoke"), ("p", "patch")] {
        let called = page.invoke(id, method, json!([{"a": 1}])).await;
        assert_eq!(called.calls(), ["PUT /grants 400"]);
        assert_eq!(called.grant_errors(id), ["ERROR"]);
        assert_eq!(called.answer()["value"], Value::Null);
    }
    page.finish().await;
}

#[tokio::test]
async fn in_strict_mode_every_hook_is_mounted_twice_and_gets_each_value_once() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 0, "m": 0})).await;
    let mut page =
        ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, json!({"strict": true})).await;
    let mounted = page.mount("t", "telemetry", one_key("t")).await;
    // What leaves in between asks for its grant again: the first answer is still out.
    assert_eq!(granted(&mounted), 3);
    assert_eq!(mounted.data("t"), [json!({"t": 0}), json!({"t": 0})]);
    let hooks = [
        ("c", "connectionState", device()),
        ("w", "deviceTwin", device()),
        ("d", "d2cMessages", device()),
        (
            "m",
            "multiTelemetry",
            json!({"initialSubscribers": {"d1": ["m"]}}),
        ),
        (
            "n",
            "multiConnectionState",
            json!({"initialSubscribers": ["d1"]}),
        ),
    ];
    for (id, hook, inputs) in hooks.clone() {
        let mounted = page.mount(id, hook, inputs).await;
        assert!(
            mounted.subscription_errors(id).is_empty(),
            "{hook}: {mounted:?}"
        );
    }

    let body = json!({"t": 1, "m": 1});
    let twin = json!({"version": 1, "properties": {"reported": {}, "desired": {}}});
    testbed.inject(DeviceEvent::telemetry("d1", &body)).await;
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;
    let happened = page.data_is("w", &twin).await;
    assert_eq!(happened.data("t"), [json!({"t": 1})]);
    assert_eq!(happened.data("m"), [json!({"m": 1})]);
    assert_eq!(happened.data("d"), [body]);
    assert_eq!(happened.data("c"), [json!(true)]);
    assert_eq!(happened.data("n"), [json!(true)]);

    for (id, ..) in hooks {
        page.unmount(id).await;
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2, "m": 2})))
        .await;
    let happened = page.data_is("t", &json!({"t": 2})).await;
    for id in ["c", "d", "m", "n"] {
        assert_eq!(happened.data(id), [Value::Null; 0]);
    }
    page.finish().await;
}

#[tokio::test]
async fn a_wrong_key_is_told_as_unauthorized() {
    let testbed = Testbed::start().await;
    let mut page = ReactClient::connected(&testbed.rest.url, "wrong", json!({})).await;
    let subscribers = json!({"initialSubscribers": {"d1": ["t"]}});
    for (id, hook, inputs) in [
        ("t", "telemetry", one_key("t")),
        ("m", "multiTelemetry", subscribers),
    ] {
        let mounted = page.mount(id, hook, inputs).await;
        assert_eq!(mounted.calls(), ["PUT /grants 401"]);
        assert_eq!(mounted.grant_errors(id), ["UNAUTHORIZED"]);
        assert_eq!(
            mounted.subscription_errors(id),
            ["No grant for subscription"]
        );
    }
    page.finish().await;
}

#[tokio::test]
async fn a_hook_that_was_refused_gets_values_once_it_is_granted() {
    let mut testbed = Testbed::start().await;
    testbed.process("d1", json!({"t": 0})).await;
    let mut page = page(&testbed).await;
    page.refuse_grants(Some("FORBIDDEN")).await;
    let refused = page.mount("t", "telemetry", one_key("t")).await;
    assert_eq!(refused.calls(), [""; 0]);
    assert_eq!(refused.grant_errors("t"), ["FORBIDDEN"]);

    page.refuse_grants(None).await;
    let unmounted = page.unmount("t").await;
    assert_eq!(unmounted.calls(), ["PUT /grants 204"]);
    let mounted = page.mount("t", "telemetry", one_key("t")).await;
    assert_eq!(
        mounted.calls(),
        ["GET /lastValue/d1/t 200", "PUT /subscription 204"]
    );
    assert_eq!(mounted.data("t"), [json!({"t": 0})]);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    page.data_is("t", &json!({"t": 1})).await;
    page.finish().await;
}

#[tokio::test]
async fn a_hook_whose_grant_was_revoked_gets_nothing_more() {
    let mut testbed = Testbed::start().await;
    let production = json!({"production": true});
    let mut page = ReactClient::connected(&testbed.rest.url, PRIMARY_KEY, production).await;
    page.mount("t", "telemetry", one_key("t")).await;
    page.mount("witness", "telemetry", one_key("w")).await;
    let grant = json!({
        "sessionId": page.session_id, "deviceId": "d1", "type": "telemetry", "telemetryKey": "t",
    });
    let revoked = testbed
        .rest
        .delete("/grants")
        .key(PRIMARY_KEY)
        .json(&grant)
        .await;
    revoked.is(204);
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1, "w": 1})))
        .await;
    let happened = page.data_is("witness", &json!({"w": 1})).await;
    assert_eq!(happened.data("t"), [Value::Null; 0]);

    // The page believes that it is still granted; what it asks for is refused.
    let mounted = page.mount("other", "telemetry", one_key("t")).await;
    assert_eq!(mounted.calls(), ["GET /lastValue/d1/t 403"]);
    page.unmount("other").await;
    let unmounted = page.unmount("t").await;
    assert_eq!(unmounted.calls(), ["DELETE /subscription 403"]);
    assert_eq!(
        unmounted.subscription_errors("t"),
        ["subscription request not granted"]
    );
    page.finish().await;
}

fn granted(happened: &Happened) -> usize {
    happened
        .calls()
        .iter()
        .filter(|call| *call == "PUT /grants 204")
        .count()
}
