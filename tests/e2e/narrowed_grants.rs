//! Grants for parts of a twin: what they show, add up to, and take away.

use serde_json::{Value, json};

use crate::harness::{
    DeviceEvent, GRANT_TOKEN_SECRET, PRIMARY_KEY, Session, Testbed, device_twin, device_twin_at,
    grant_token, native::Native,
};

/// Parsable, which is all that enables the IoT Hub side; nothing calls it here.
const SERVICE_CONNECTION_STRING: &str =
    "HostName=127.0.0.1:9;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0";

/// A relay that keeps twins for good.
async fn testbed() -> Testbed {
    Testbed::with(&[
        ("DEVICE_TWIN_CACHE_TTL", "0"),
        ("HUBRELAY_GRANT_TOKEN_SECRET", GRANT_TOKEN_SECRET),
    ])
    .await
}

/// The twin of `d1` in its `version`, with that number in every place.
fn twin(version: u64) -> Value {
    json!({
        "version": version,
        "tags": {"site": version, "owner": version},
        "properties": {
            "reported": {"firmware": version, "network": {"ip": version, "mac": version}},
            "desired": {"interval": version, "secret": version},
        },
    })
}

async fn replace(testbed: &mut Testbed, version: u64) {
    let event = DeviceEvent::twin_change("d1", "replaceTwin", &twin(version));
    testbed.inject(event).await;
}

fn firmware() -> Value {
    device_twin_at("d1", &["/properties/reported/firmware"])
}

fn site_and_ip() -> Value {
    device_twin_at("d1", &["/properties/reported/network/ip", "/tags/site"])
}

fn only_firmware(version: u64) -> Value {
    json!({"version": version, "properties": {"reported": {"firmware": version}, "desired": {}}})
}

fn only_site_and_ip(version: u64) -> Value {
    json!({
        "version": version,
        "properties": {"reported": {"network": {"ip": version}}, "desired": {}},
        "tags": {"site": version},
    })
}

fn firmware_site_and_ip(version: u64) -> Value {
    json!({
        "version": version,
        "properties": {
            "reported": {"firmware": version, "network": {"ip": version}},
            "desired": {},
        },
        "tags": {"site": version},
    })
}

async fn read(session: &Session) -> Value {
    let answer = session.get("/deviceTwin/d1").await.is(200);
    answer.json()["data"].take()
}

/// What a twin carries beside its version, as far as the tests care.
fn without_versions(mut twin: Value) -> Value {
    for side in ["reported", "desired"] {
        if let Some(side) = twin["properties"][side].as_object_mut() {
            side.remove("$version");
        }
    }
    twin
}

#[tokio::test]
async fn only_the_granted_parts_of_a_twin_are_pushed_and_read() {
    let mut testbed = testbed().await;
    let (narrow, mut narrow_socket) = testbed.following([firmware()]).await;
    let (_, mut whole_socket) = testbed.following([device_twin("d1")]).await;
    replace(&mut testbed, 3).await;
    assert_eq!(
        narrow_socket.next_data().await.device_twin(),
        only_firmware(3)
    );
    let whole = whole_socket.next_data().await.device_twin();
    assert_eq!(without_versions(whole), twin(3));
    assert_eq!(read(&narrow).await, only_firmware(3));

    let patch = json!({"version": 4, "properties": {"desired": {"secret": 4}}});
    let event = DeviceEvent::twin_change("d1", "updateTwin", &patch);
    testbed.inject(event).await;
    replace(&mut testbed, 5).await;
    loop {
        let event = narrow_socket.next_data().await;
        assert!(!event.text.contains("secret"), "{}", event.text);
        if event.device_twin()["version"] == 5 {
            assert_eq!(event.device_twin(), only_firmware(5));
            break;
        }
    }
}

#[tokio::test]
async fn narrowings_add_up_and_each_is_taken_away_by_itself() {
    let mut testbed = testbed().await;
    let (session, mut socket) = testbed.following([firmware()]).await;
    replace(&mut testbed, 1).await;
    assert_eq!(socket.next_data().await.device_twin(), only_firmware(1));

    // What more may be seen is shown at once.
    session.granted(&site_and_ip()).await;
    let both = socket.next_data().await.device_twin();
    assert_eq!(both, firmware_site_and_ip(1));
    assert_eq!(read(&session).await, firmware_site_and_ip(1));
    replace(&mut testbed, 2).await;
    let both = socket.next_data().await.device_twin();
    assert_eq!(both, firmware_site_and_ip(2));

    session.revoked(&firmware()).await;
    assert_eq!(read(&session).await, only_site_and_ip(2));
    replace(&mut testbed, 3).await;
    assert_eq!(socket.next_data().await.device_twin(), only_site_and_ip(3));

    session.granted(&device_twin("d1")).await;
    let whole = socket.next_data().await.device_twin();
    assert_eq!(without_versions(whole), twin(3));

    // The other narrowing is still there beneath it, and ends with the whole.
    session.revoked(&device_twin("d1")).await;
    session.subscribe(&device_twin("d1")).await.is(403);
    session.get("/deviceTwin/d1").await.is(403);
}

#[tokio::test]
async fn a_narrowing_that_nobody_granted_takes_nothing_away() {
    let mut testbed = testbed().await;
    let (session, mut socket) = testbed.following([firmware()]).await;
    session.revoked(&site_and_ip()).await;
    let less = device_twin_at("d1", &["/properties/reported/firmware/major"]);
    session.revoked(&less).await;
    replace(&mut testbed, 1).await;
    assert_eq!(socket.next_data().await.device_twin(), only_firmware(1));
}

#[tokio::test]
async fn native_snapshots_and_updates_hold_the_granted_parts_only() {
    let mut testbed = testbed().await;
    replace(&mut testbed, 1).await;
    testbed.process("d1", json!({"n": 1})).await;
    let (mut native, id) = Native::open(&testbed.rest).await;
    let rest = testbed.rest.clone();
    let session = Session { rest, id };
    session.granted(&firmware()).await;
    session.granted(&site_and_ip()).await;

    let of = json!([{"type": "deviceTwin", "deviceId": "d1"}]);
    let subscribe = json!({"type": "subscribe", "subscriptions": of});
    let mut answer = native.request(subscribe).await;
    let value = answer["snapshot"][0]["deviceTwin"]["value"].take();
    assert_eq!(value, firmware_site_and_ip(1), "{answer}");
    replace(&mut testbed, 2).await;
    let mut updates = native.expect("updates").await;
    let value = updates["updates"][0]["deviceTwin"].take();
    assert_eq!(value, firmware_site_and_ip(2), "{updates}");

    session.revoked(&site_and_ip()).await;
    let last_values = json!({"type": "lastValues", "of": of});
    let mut answer = native.request(last_values).await;
    let value = answer["values"][0]["deviceTwin"]["value"].take();
    assert_eq!(value, only_firmware(2), "{answer}");
    replace(&mut testbed, 3).await;
    let mut updates = native.expect("updates").await;
    let value = updates["updates"][0]["deviceTwin"].take();
    assert_eq!(value, only_firmware(3), "{updates}");

    session.revoked(&device_twin("d1")).await;
    let ended = native.expect("ended").await;
    assert_eq!(ended["subscriptions"], of, "{ended}");
}

#[tokio::test]
async fn what_a_client_missed_is_cut_to_what_it_may_see_when_it_comes_back() {
    let mut testbed = testbed().await;
    let (mut native, id) = Native::open(&testbed.rest).await;
    let rest = testbed.rest.clone();
    let session = Session { rest, id };
    session.granted(&firmware()).await;
    session.granted(&site_and_ip()).await;
    let of = json!([{"type": "deviceTwin", "deviceId": "d1"}]);
    let subscribe = json!({"type": "subscribe", "subscriptions": of});
    let subscribed = native.request(subscribe).await;
    replace(&mut testbed, 1).await;
    let mut updates = native.expect("updates").await;
    let value = updates["updates"][0]["deviceTwin"].take();
    assert_eq!(value, firmware_site_and_ip(1), "{updates}");

    drop(native);
    replace(&mut testbed, 2).await;
    testbed.process("d1", json!({"n": 1})).await;
    session.revoked(&site_and_ip()).await;
    let mut native = Native::connect(&testbed.rest).await;
    // From before the update that it got, so that this one is sent again as well.
    let resume = json!({"epoch": 1, "sequence": subscribed["sequence"]});
    let hello = json!({"type": "hello", "sessionId": session.id, "resume": resume});
    let hello = native.ask(&hello).await;
    assert_eq!(hello["recovered"], true, "{hello}");
    let mut versions = Vec::new();
    while versions.last() != Some(&2) {
        let updates = native.expect("updates").await;
        for update in updates["updates"].as_array().expect("a list") {
            let version = update["deviceTwin"]["version"].as_u64().expect("a number");
            assert_eq!(update["deviceTwin"], only_firmware(version), "{updates}");
            versions.push(version);
        }
    }
}

#[tokio::test]
async fn an_event_stream_shows_the_granted_parts_only() {
    let mut testbed = testbed().await;
    replace(&mut testbed, 1).await;
    testbed.process("d1", json!({"n": 1})).await;
    let token = grant_token(&[firmware()]);
    let url = format!("{}/events?deviceTwin=d1&token={token}", testbed.rest.url);
    let mut response = reqwest::get(url).await.expect("the relay answers");
    let mut text = String::new();
    let mut read_until = async |wanted: &str| {
        while !text.contains(wanted) {
            let chunk = response.chunk().await.expect("the stream goes on");
            let chunk = chunk.expect("the stream goes on");
            text.push_str(std::str::from_utf8(&chunk).expect("events are text"));
        }
        text.clone()
    };
    read_until(r#""reported":{"firmware":1}"#).await;
    replace(&mut testbed, 2).await;
    let text = read_until(r#""reported":{"firmware":2}"#).await;
    for hidden in ["secret", "site", "owner", "interval", "mac"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

#[tokio::test]
async fn a_token_narrows_as_a_grant_does_or_says_what_is_wrong() {
    let mut testbed = testbed().await;
    replace(&mut testbed, 1).await;
    testbed.process("d1", json!({"n": 1})).await;
    let present = async |grant: &Value| {
        let call = testbed.rest.post("/session");
        let token = grant_token(std::slice::from_ref(grant));
        call.header("Authorization", &format!("Bearer {token}"))
            .await
    };
    let answer = present(&site_and_ip()).await.is(200).json();
    let session = Session {
        rest: testbed.rest.clone(),
        id: answer["sessionId"].as_str().expect("an id").to_owned(),
    };
    assert_eq!(read(&session).await, only_site_and_ip(1));

    for (grant, member) in [
        (device_twin_at("d1", &[]), "pointers"),
        (device_twin_at("d1", &["tags"]), "pointers"),
        (
            json!({"deviceId": "d1", "type": "deviceTwin", "pointers": null}),
            "pointers",
        ),
        (
            json!({"deviceId": "d1", "type": "connectionState", "pointers": ["/a"]}),
            "pointers",
        ),
        (
            json!({"deviceId": "d1", "type": "directMethod", "payloadPolicy": []}),
            "payloadPolicy",
        ),
        (
            json!({"deviceId": "d1", "moduleId": "", "type": "deviceTwin"}),
            "moduleId",
        ),
    ] {
        let answer = present(&grant).await.is(401);
        let named = format!("`hubrelay.grants[0].{member}`");
        assert!(answer.body.contains(&named), "{grant}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_narrowing_that_is_not_understood_grants_nothing() {
    let options = [(
        "IOT_HUB_SERVICE_CONNECTION_STRING",
        SERVICE_CONNECTION_STRING,
    )];
    let testbed = Testbed::with(&options).await;
    let session = testbed.session().await;
    let of = |kind: &str, member: &str, value: &Value| json!({"deviceId": "d1", "type": kind, member: value});
    let good = json!({"pointer": "/a", "equals": 1});
    let mut wrong = vec![
        of("telemetry", "pointers", &json!(["/a"])),
        of("connectionState", "pointers", &json!(["/a"])),
        of("d2cMessages", "pointers", &json!(["/a"])),
        of("directMethod", "pointers", &json!(["/a"])),
        of("deviceTwin", "payloadPolicy", &json!([good])),
        of("deviceTwin", "moduleId", &json!("")),
        of("deviceTwin", "moduleId", &json!(7)),
        of("deviceTwin", "moduleId", &json!("m".repeat(129))),
    ];
    for kind in ["deviceTwin", "desiredProperties", "tags"] {
        for pointers in [
            json!(null),
            json!([]),
            json!("/a"),
            json!(["a"]),
            json!([1]),
            json!(vec!["/a"; 65]),
        ] {
            wrong.push(of(kind, "pointers", &pointers));
        }
    }
    for policy in [
        json!(null),
        json!([]),
        good.clone(),
        json!([{"pointer": "/a"}]),
        json!([{"pointer": "/a", "equals": {}}]),
        json!([good, {"pointer": "/a", "oneOf": [], "equals": 1}]),
        json!([good, {"pointer": "/a", "equals": 1, "unless": 2}]),
        json!(vec![good; 33]),
    ] {
        wrong.push(of("directMethod", "payloadPolicy", &policy));
    }
    for what in &wrong {
        session.grant(what).await.says(400, "unknown grant type");
        session.revoke(what).await.says(400, "unknown grant type");
    }
    session.subscribe(&device_twin("d1")).await.is(403);

    // A member that comes twice is no way around it.
    let body = format!(
        r#"{{"sessionId":"{}","deviceId":"d1","type":"deviceTwin","pointers":["/a"],"pointers":["/b"]}}"#,
        session.id
    );
    let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
    call.json_text(body).await.says(400, "unknown grant type");
}

#[tokio::test]
async fn tags_are_granted_where_the_hub_can_be_asked() {
    let tags = json!({"deviceId": "d1", "type": "tags"});
    let narrow = json!({"deviceId": "d1", "type": "tags", "pointers": ["/site"]});
    let without_hub = Testbed::start().await;
    let session = without_hub.session().await;
    for what in [&tags, &narrow] {
        session.grant(what).await.says(400, "Grant unavailable");
    }
    let options = [(
        "IOT_HUB_SERVICE_CONNECTION_STRING",
        SERVICE_CONNECTION_STRING,
    )];
    let with_hub = Testbed::with(&options).await;
    let session = with_hub.session().await;
    for what in [&tags, &narrow] {
        session.grant(what).await.is(204);
        session.subscribe(what).await.is(400);
        session.revoke(what).await.is(204);
    }
}

#[tokio::test]
async fn a_2_x_request_cannot_be_narrowed() {
    let testbed = Testbed::with(&[("HUBRELAY_LEGACY_V2", "true")]).await;
    let session = testbed.session().await;
    for (member, value) in [
        ("pointers", json!(["/tags"])),
        ("payloadPolicy", json!([{"pointer": "", "equals": 1}])),
        ("moduleId", json!("m1")),
    ] {
        let what = json!({"deviceId": "d1", "grantType": "subscribeToDeviceTwin", member: value});
        session.grant(&what).await.says(400, "unknown grant type");
    }
    let whole = json!({"deviceId": "d1", "grantType": "subscribeToDeviceTwin"});
    session.grant(&whole).await.is(204);
}
