//! Patches of desired properties and tags: from a session through the relay and the hub to the device, and what comes
//! back by the hub's twin events.

use serde_json::{Value, json};

use crate::harness::{
    Answer, PRIMARY_KEY, Session, Socket, Testbed, UNKNOWN_SESSION, desired_properties,
    device_twin, of_module,
};

/// Changing the tags of a device.
fn tags(device_id: &str) -> Value {
    json!({"deviceId": device_id, "type": "tags"})
}

async fn patch_desired(session: &Session, device_id: &str, patch: Value) -> Answer {
    let call = session.rest.patch("/deviceTwinDesiredProperties");
    let body = json!({"deviceId": device_id, "desiredPropertyPatch": patch});
    call.session(&session.id).json(&body).await
}

#[tokio::test]
async fn check_63_after_a_partial_twin_event_subscribers_get_the_whole_twin() {
    let testbed = Testbed::with_iot_hub(&[("DEVICE_TWIN_CACHE_TTL", "0")]).await;
    let mut device = testbed.devhub.connect_device("d1", json!({})).await;
    device
        .send(&json!({"report": {"a": 1, "b": {"c": 2}}}))
        .await;
    while device.next_line().await != json!({"reported": true}) {}
    let (session, mut socket) = testbed.following([device_twin("d1")]).await;
    session.granted(&desired_properties("d1")).await;
    patch_desired(&session, "d1", json!({"interval": 5}))
        .await
        .is(200);

    let patched = twin_where(&mut socket, |twin| {
        twin["properties"]["desired"]["interval"] == 5
    })
    .await;
    assert_eq!(patched["properties"]["reported"]["b"], json!({"c": 2}));
    device
        .send(&json!({"report": {"b": {"d": 3}, "a": null}}))
        .await;
    let reported = twin_where(&mut socket, |twin| {
        twin["properties"]["reported"]["b"]["d"] == 3
    })
    .await;
    let properties = &reported["properties"];
    assert_eq!(properties["reported"]["b"], json!({"c": 2, "d": 3}));
    assert_eq!(properties["reported"].get("a"), None);
    assert_eq!(properties["desired"]["interval"], 5);
}

/// The first twin that is as wanted.
async fn twin_where(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let twin = socket.next_data().await.device_twin();
        if wanted(&twin) {
            return twin;
        }
    }
}

#[tokio::test]
async fn check_67_a_patch_of_desired_properties_reaches_the_device_and_answers_the_twin() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let mut device = testbed.devhub.connect_device("d1", json!({})).await;
    let session = testbed.session().await;
    let patch = json!({"interval": 5, "mode": {"night": true}});
    patch_desired(&session, "d1", patch.clone())
        .await
        .says(403, "Forbidden");
    session.granted(&desired_properties("d1")).await;

    let answer = patch_desired(&session, "d1", patch).await.is(200).json();
    assert_eq!(answer["status"], 200);
    let desired = &answer["payload"]["properties"]["desired"];
    assert_eq!(desired["interval"], 5);
    assert_eq!(desired["mode"], json!({"night": true}));
    loop {
        let line = device.next_line().await;
        if line["desired"]["interval"] == 5 {
            break;
        }
    }
    let removed = patch_desired(&session, "d1", json!({"mode": null})).await;
    let removed = removed.is(200).json();
    let desired = &removed["payload"]["properties"]["desired"];
    assert_eq!(
        (&desired["interval"], desired.get("mode")),
        (&json!(5), None)
    );

    testbed
        .devhub
        .hub_fault(json!({"status": 500, "requests": 1}))
        .await;
    patch_desired(&session, "d1", json!({"interval": 6}))
        .await
        .says(500, "IoTHub Response: error");
}

#[tokio::test]
async fn patches_need_a_session_which_a_key_does_not_replace() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    for (path, member) in [
        ("/deviceTwinDesiredProperties", "desiredPropertyPatch"),
        ("/deviceTwinTags", "tagPatch"),
    ] {
        let body = json!({"deviceId": "d1", member: {}});
        let call = testbed.rest.patch(path).key(PRIMARY_KEY);
        call.json(&body).await.says(404, "No such sessionId");
        let call = testbed.rest.patch(path).session(UNKNOWN_SESSION);
        call.json(&body).await.says(404, "No such sessionId");
    }
}

#[tokio::test]
async fn tags_take_a_grant_of_their_own_and_are_kept_from_the_device() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let session = testbed.session().await;
    session.granted(&desired_properties("d1")).await;
    let patch = async |patch: Value| {
        let call = testbed.rest.patch("/deviceTwinTags").session(&session.id);
        call.json(&json!({"deviceId": "d1", "tagPatch": patch}))
            .await
    };
    patch(json!({"site": "Graz"})).await.says(403, "Forbidden");
    session.granted(&tags("d1")).await;
    let answer = patch(json!({"site": "Graz", "floor": 2})).await;
    assert_eq!(
        answer.is(200).json()["payload"]["tags"],
        json!({"site": "Graz", "floor": 2})
    );
    let answer = patch(json!({"floor": null})).await.is(200).json();
    assert_eq!(answer["payload"]["tags"], json!({"site": "Graz"}));
}

#[tokio::test]
async fn a_patch_with_an_etag_applies_only_to_the_twin_that_was_seen() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let session = testbed.session().await;
    session.granted(&desired_properties("d1")).await;
    let patch = async |etag: &str| {
        let call = testbed.rest.patch("/deviceTwinDesiredProperties");
        let body = json!({"deviceId": "d1", "desiredPropertyPatch": {"a": 1}, "ifMatch": etag});
        call.session(&session.id).json(&body).await
    };
    let etag = testbed.devhub.twin("d1").await["etag"].clone();
    let etag = etag.as_str().expect("a twin has an etag");
    patch(etag).await.is(200);
    let stale = patch(etag).await.is(412).json();
    assert!(stale["Message"].is_string(), "{stale}");
    patch("*").await.is(200);
}

#[tokio::test]
async fn what_the_hub_does_not_take_is_refused_as_the_hub_does() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let session = testbed.session().await;
    for device in ["d1", "nobody"] {
        session.granted(&desired_properties(device)).await;
    }
    let unknown = patch_desired(&session, "nobody", json!({"a": 1})).await;
    assert!(unknown.is(404).json()["Message"].is_string());
    let long = "x".repeat(5 * 1024);
    let many: Value = (0..9)
        .map(|n| (format!("k{n}"), json!("y".repeat(4000))))
        .collect();
    for patch in [
        json!({"a": long}),
        many,
        json!({"a.b": 1}),
        json!({"n": 1_u64 << 60}),
    ] {
        let refused = patch_desired(&session, "d1", patch).await;
        assert!([400, 413].contains(&refused.status), "{}", refused.body);
        assert!(refused.json()["Message"].is_string());
    }
    for patch in [json!([]), json!("{}"), json!(null), json!(5)] {
        let refused = patch_desired(&session, "d1", patch).await;
        refused.says(400, "Malformed desired properties request");
    }
}

#[tokio::test]
async fn the_twin_of_a_module_is_read_and_patched_by_its_id() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register_module("d1", "m1").await;
    let session = testbed.session().await;
    session.granted(&desired_properties("d1")).await;
    let patch = async || {
        let body = json!({"deviceId": "d1", "moduleId": "m1", "desiredPropertyPatch": {"a": 1}});
        let call = testbed.rest.patch("/deviceTwinDesiredProperties");
        call.session(&session.id).json(&body).await
    };
    patch().await.says(403, "Forbidden");
    session
        .granted(&of_module(desired_properties("d1"), "m1"))
        .await;
    patch().await.is(200);

    let read = async |path: &str| {
        let answer = testbed.rest.get(path).key(PRIMARY_KEY).await;
        answer.is(200).json()
    };
    let of_module = read("/deviceTwin/d1?moduleId=m1").await;
    assert_eq!(of_module["moduleId"], "m1");
    assert_eq!(of_module["data"]["properties"]["desired"]["a"], 1);
    let of_device = read("/deviceTwin/d1").await;
    assert_eq!(of_device["data"]["properties"]["desired"].get("a"), None);
}

#[tokio::test]
async fn a_narrowed_grant_writes_below_its_pointers_and_sees_no_more() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    testbed.devhub.register(&["d1".to_owned()]).await;
    let owner = testbed.session().await;
    owner.granted(&desired_properties("d1")).await;
    patch_desired(&owner, "d1", json!({"interval": 1, "secret": "s"}))
        .await
        .is(200);

    let session = testbed.session().await;
    let mut grant = desired_properties("d1");
    grant["pointers"] = json!(["/interval"]);
    session.granted(&grant).await;
    let answer = patch_desired(&session, "d1", json!({"interval": 2})).await;
    let answer = answer.is(200);
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    assert_eq!(
        answer.json()["payload"]["properties"]["desired"],
        json!({"interval": 2})
    );
    for patch in [
        json!({"secret": "t"}),
        json!({"interval": 3, "secret": null}),
    ] {
        patch_desired(&session, "d1", patch)
            .await
            .says(403, "Forbidden");
    }
    let twin = testbed.devhub.twin("d1").await;
    assert_eq!(twin["properties"]["desired"]["secret"], "s");
    assert_eq!(twin["properties"]["desired"]["interval"], 2);
}
