//! Modules of devices: identities of their own in grants, subscriptions, pushes and reads.

use serde_json::{Value, json};

use crate::harness::{
    DeviceEvent, PRIMARY_KEY, Session, Testbed, connection_state, d2c_messages, device_twin,
    device_twin_at, every_key, native::Native, of_module, telemetry,
};

async fn testbed() -> Testbed {
    Testbed::with(&[("DEVICE_TWIN_CACHE_TTL", "0")]).await
}

/// Publishes telemetry of a module and returns once the relay has processed it.
async fn process_of_module(testbed: &mut Testbed, module_id: &str, body: &Value) {
    let event = DeviceEvent::stamped_by_iot_hub("d1", body).of_module(module_id);
    testbed.inject(event).await;
    let path = format!("/lastValue/d1?moduleId={module_id}");
    let rest = testbed.rest.clone();
    rest.eventually("the telemetry of the module is known", || async {
        let answer = rest.get(&path).key(PRIMARY_KEY).await.is(200).json();
        let mut wanted = body.as_object().expect("telemetry is an object").iter();
        wanted
            .all(|(key, value)| answer["data"][key]["value"] == *value)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_module_and_its_device_are_followed_apart() {
    let mut testbed = testbed().await;
    let module = of_module(every_key("d1"), "m1");
    let (_, mut of_module_1) = testbed.following([module]).await;
    let (_, mut of_module_2) = testbed.following([of_module(every_key("d1"), "m2")]).await;
    let (_, mut of_device) = testbed.following([every_key("d1")]).await;

    let of = |module_id: &str, n: u32| {
        DeviceEvent::stamped_by_iot_hub("d1", &json!({"n": n})).of_module(module_id)
    };
    testbed.inject(of("m1", 1)).await;
    testbed.inject(of("m2", 2)).await;
    let device = DeviceEvent::stamped_by_iot_hub("d1", &json!({"n": 3}));
    testbed.inject(device).await;
    testbed.inject(of("m1", 4)).await;

    for n in [1, 4] {
        let event = of_module_1.next_data().await;
        assert_eq!(event.device_id(), "d1");
        assert_eq!(event.module_id(), Some("m1"));
        assert_eq!(event.telemetry(), json!({"n": n}));
    }
    let event = of_module_2.next_data().await;
    assert_eq!(event.module_id(), Some("m2"));
    assert_eq!(event.telemetry(), json!({"n": 2}));
    let event = of_device.next_data().await;
    assert_eq!(event.module_id(), None);
    assert_eq!(event.telemetry(), json!({"n": 3}));
}

#[tokio::test]
async fn every_kind_of_update_of_a_module_names_it() {
    let mut testbed = testbed().await;
    let of_m1 = |what| [of_module(what, "m1")];
    let (_, mut states) = testbed.following(of_m1(connection_state("d1"))).await;
    let tags = device_twin_at("d1", &["/tags"]);
    let (_, mut twins) = testbed.following(of_m1(tags)).await;
    let (_, mut messages) = testbed.following(of_m1(d2c_messages("d1"))).await;

    let connected = DeviceEvent::connection_state("d1", "moduleConnected").of_module("m1");
    testbed.inject(connected).await;
    let event = states.next_data().await;
    assert_eq!(event.module_id(), Some("m1"));
    assert!(event.connection_state());

    let twin = json!({"version": 2, "tags": {"a": 1}, "properties": {"reported": {"b": 1}, "desired": {}}});
    let changed = DeviceEvent::twin_change("d1", "replaceTwin", &twin).of_module("m1");
    testbed.inject(changed).await;
    let event = twins.next_data().await;
    assert_eq!(event.module_id(), Some("m1"));
    let seen =
        json!({"version": 2, "tags": {"a": 1}, "properties": {"reported": {}, "desired": {}}});
    assert_eq!(event.device_twin(), seen);

    let body = json!({"n": 1});
    let sent = DeviceEvent::stamped_by_iot_hub("d1", &body).of_module("m1");
    testbed.inject(sent).await;
    let event = messages.next_data().await;
    assert_eq!(event.module_id(), Some("m1"));
    assert_eq!(event.message(), body);

    // What is known of the module is not known of the device.
    for path in ["connectionState", "deviceTwin"] {
        let of_module = format!("/{path}/d1?moduleId=m1");
        let answer = testbed.rest.get(&of_module).key(PRIMARY_KEY).await.is(200);
        assert_eq!(answer.json()["moduleId"], "m1", "{}", answer.body);
    }
    let of_device = testbed.rest.get("/deviceTwin/d1").key(PRIMARY_KEY).await;
    of_device.is(400);
}

#[tokio::test]
async fn a_grant_on_a_device_says_nothing_of_its_modules_nor_the_other_way_round() {
    let mut testbed = testbed().await;
    process_of_module(&mut testbed, "m1", &json!({"n": 1})).await;
    testbed.process("d1", json!({"n": 2})).await;
    let of_device = testbed.session().await;
    let of_module_1 = testbed.session().await;
    for what in [
        every_key("d1"),
        connection_state("d1"),
        device_twin("d1"),
        d2c_messages("d1"),
    ] {
        of_device.granted(&what).await;
        of_module_1.granted(&of_module(what.clone(), "m1")).await;

        of_device.subscribed(&what).await;
        of_module_1.subscribed(&of_module(what.clone(), "m1")).await;
        let refused = "subscription request not granted";
        let module = of_module(what.clone(), "m1");
        of_device.subscribe(&module).await.says(403, refused);
        of_module_1.subscribe(&what).await.says(403, refused);
        let other = of_module(what, "m2");
        of_module_1.subscribe(&other).await.says(403, refused);
    }
    for (path, device_sees) in [
        ("/lastValue/d1/n", true),
        ("/lastValue/d1", true),
        ("/lastValue/d1/n?moduleId=m1", false),
        ("/lastValue/d1?moduleId=m1", false),
    ] {
        let (sees, does_not) = if device_sees {
            (&of_device, &of_module_1)
        } else {
            (&of_module_1, &of_device)
        };
        sees.get(path).await.is(200);
        does_not.get(path).await.is(403);
    }
    for path in ["connectionState", "deviceTwin"] {
        let of_other = format!("/{path}/d1?moduleId=m1");
        of_device.get(&of_other).await.is(403);
        of_module_1.get(&format!("/{path}/d1")).await.is(403);
    }
}

#[tokio::test]
async fn last_values_of_a_module_are_read_and_deleted_by_its_id() {
    let mut testbed = testbed().await;
    process_of_module(&mut testbed, "m1", &json!({"a": 1, "b": 2})).await;
    testbed.process("d1", json!({"a": 3})).await;
    let session = testbed.session().await;
    let module = of_module(every_key("d1"), "m1");
    session.granted(&module).await;

    let one = session.get("/lastValue/d1/a?moduleId=m1").await.is(200);
    let start = r#"{"deviceId":"d1","moduleId":"m1","data":{"a":1},"timestamp":"#;
    assert!(one.body.starts_with(start), "{}", one.body);
    let client = session.client();
    let identity = relay_protocol::Identity::module("d1", "m1");
    let all = client.last_values(&identity).await.expect("granted");
    assert_eq!(all.module_id, identity.module_id);
    assert!(all.data.keys().eq(["a", "b"]), "{all:?}");

    let deleted = client
        .delete_last_value(&identity, "a")
        .await
        .expect("granted");
    assert!(deleted.data.keys().eq(["a"]), "{deleted:?}");
    session.get("/lastValue/d1/a?moduleId=m1").await.is(404);
    testbed
        .rest
        .get("/lastValue/d1/a")
        .key(PRIMARY_KEY)
        .await
        .is(200);
}

#[tokio::test]
async fn a_module_id_that_cannot_be_is_refused() {
    let testbed = testbed().await;
    let long = "m".repeat(129);
    for query in [
        "moduleId=",
        "moduleId=%ff",
        "moduleId=a&moduleId=b",
        &format!("moduleId={long}"),
    ] {
        for path in [
            "lastValue/d1",
            "lastValue/d1/t",
            "connectionState/d1",
            "deviceTwin/d1",
        ] {
            let answer = testbed
                .rest
                .get(&format!("/{path}?{query}"))
                .key(PRIMARY_KEY)
                .await;
            answer.says(
                400,
                "The query member moduleId is not a moduleId of 1 to 128 bytes, or there more than once",
            );
        }
        let events = testbed
            .rest
            .get(&format!("/events?telemetry=d1&{query}"))
            .key(PRIMARY_KEY)
            .await;
        events.is(400);
    }
    let session = testbed.session().await;
    for wrong in [json!(""), json!(7), json!({}), json!(long)] {
        let mut what = every_key("d1");
        what["moduleId"] = wrong;
        let answer = session.subscribe(&what).await;
        answer.says(400, "unknown subscription type");
        let answer = session.subscribe_all(std::slice::from_ref(&what)).await;
        answer.says(
            400,
            "Not all elements in the request body are subscription requests",
        );
    }
    // What serializers write for "none" is none.
    session.granted(&every_key("d1")).await;
    let mut what = every_key("d1");
    what["moduleId"] = Value::Null;
    session.subscribe(&what).await.is(204);
}

#[tokio::test]
async fn in_bulk_modules_and_devices_stand_side_by_side() {
    let testbed = testbed().await;
    let session = testbed.session().await;
    let device = telemetry("d1", "a");
    let module = of_module(telemetry("d1", "a"), "m1");
    session.granted(&module).await;
    let answer = session
        .subscribe_all(&[device.clone(), module.clone()])
        .await;
    assert_eq!(answer.is(200).json(), json!([session.request(&module)]));
    session.granted(&device).await;
    session
        .all_subscribed(&[module.clone(), device.clone()])
        .await;
    session.all_unsubscribed(&[module, device]).await;
}

#[tokio::test]
async fn native_selectors_snapshots_updates_and_endings_name_the_module() {
    let mut testbed = testbed().await;
    process_of_module(&mut testbed, "m1", &json!({"a": 1})).await;
    testbed.process("d1", json!({"a": 2})).await;
    let (mut native, id) = Native::open(&testbed.rest).await;
    let rest = testbed.rest.clone();
    let session = Session { rest, id };
    session.granted(&of_module(every_key("d1"), "m1")).await;
    session.granted(&telemetry("d1", "a")).await;

    let module = json!({"type": "telemetry", "deviceId": "d1", "moduleId": "m1"});
    let device = json!({"type": "telemetry", "deviceId": "d1", "telemetryKeys": ["a"]});
    let other = json!({"type": "telemetry", "deviceId": "d1", "moduleId": "m2"});
    let subscribe = json!({"type": "subscribe", "subscriptions": [module, device, other]});
    let answer = native.request(subscribe).await;
    assert_eq!(answer["refused"][0]["index"], 2, "{answer}");
    let snapshot = answer["snapshot"].as_array().expect("a list");
    let value_of = |module_id: Value| {
        let found = snapshot.iter().find(|of| of["moduleId"] == module_id);
        found.map(|of| of["telemetry"]["a"]["value"].clone())
    };
    assert_eq!(value_of(json!("m1")), Some(json!(1)), "{answer}");
    assert_eq!(value_of(Value::Null), Some(json!(2)), "{answer}");

    process_of_module(&mut testbed, "m1", &json!({"a": 3})).await;
    let updates = native.expect("updates").await;
    let update = &updates["updates"][0];
    assert_eq!(update["moduleId"], "m1", "{updates}");
    assert_eq!(update["telemetry"], json!({"a": 3}), "{updates}");

    session.revoked(&of_module(every_key("d1"), "m1")).await;
    let ended = native.expect("ended").await;
    assert_eq!(ended["subscriptions"], json!([module]), "{ended}");
    testbed.process("d1", json!({"a": 4})).await;
    let updates = native.expect("updates").await;
    assert_eq!(updates["updates"][0]["moduleId"], Value::Null, "{updates}");

    let wrong = json!({"type": "lastValues", "of": [{"type": "deviceTwin", "deviceId": "d1", "moduleId": ""}]});
    let error = native.request(wrong).await;
    assert_eq!(error["code"], "invalidModuleId", "{error}");
    assert_eq!(error["field"], "of[0].moduleId", "{error}");
}

#[tokio::test]
async fn an_event_stream_is_about_the_module_that_its_query_names() {
    let mut testbed = testbed().await;
    process_of_module(&mut testbed, "m1", &json!({"a": 1})).await;
    testbed.process("d1", json!({"a": 2})).await;
    let url = format!("{}/events?moduleId=m1&telemetry=d1", testbed.rest.url);
    let request = reqwest::Client::new()
        .get(url)
        .header("Shared-Access-Key", PRIMARY_KEY);
    let mut response = request.send().await.expect("the relay answers");
    let mut text = String::new();
    while !text.contains("\n\n") {
        let chunk = response.chunk().await.expect("the stream goes on");
        let chunk = chunk.expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).expect("events are text"));
    }
    assert!(
        text.contains(
            r#""snapshot":[{"deviceId":"d1","moduleId":"m1","telemetry":{"a":{"value":1,"#
        ),
        "{text}"
    );
}
