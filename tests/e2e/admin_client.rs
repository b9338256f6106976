//! The Rust clients of security backends and of sessions, against the relay itself: every call they have.

use admin_client::{AdminClient, ConnectionString, Error, LogLevel, RelayClient, Settings};
use jsonwebtoken::{EncodingKey, Header};
use relay_protocol::{DeviceId, Grant, GrantRequest, Identity, MethodParams, Subscription};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{
    Devhub, DeviceEvent, Example, PRIMARY_KEY, Relay, SECONDARY_KEY, Socket, Testbed,
};

fn connection(url: &str, key: &str) -> ConnectionString {
    format!("Endpoint={url};SharedAccessKey={key}")
        .parse()
        .expect("the documented form")
}

fn key(name: &str) -> Subscription {
    Subscription::Telemetry {
        telemetry_key: Some(name.to_owned()),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, status: u16, text: &str) {
    match outcome {
        Err(Error::Status {
            status: answered,
            message,
            ..
        }) => assert_eq!((answered, message.as_str()), (status, text)),
        other => panic!("expected {status}, got {other:?}"),
    }
}

#[tokio::test]
async fn a_security_backend_takes_a_session_through_its_life() {
    let mut testbed = Testbed::start().await;
    let admin = testbed.rest.admin(PRIMARY_KEY);
    let device_id = DeviceId::from("d1");
    let session = admin.relay().create_session().await.unwrap();
    let mut socket = Socket::connect(&testbed.rest, session.id().as_str()).await;

    let grant = GrantRequest::new(session.id(), &device_id, Grant::every_telemetry_key());
    let early = session.subscribe(&device_id, &key("a")).await;
    refused(early, 403, "subscription request not granted");
    admin.grant(&grant).await.unwrap();
    session.subscribe(&device_id, &key("a")).await.unwrap();

    let wanted = |subscription| (Identity::from(&device_id), subscription);
    let applied = session
        .subscribe_all([wanted(key("b")), wanted(Subscription::DeviceTwin)])
        .await
        .unwrap();
    assert_eq!(applied, [wanted(key("b"))]);

    testbed
        .inject(DeviceEvent::telemetry(
            "d1",
            &json!({"a": 1, "b": 2, "c": 3}),
        ))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"a": 1, "b": 2})
    );

    session.unsubscribe(&device_id, &key("a")).await.unwrap();
    let removed = session.unsubscribe_all([wanted(key("b"))]).await.unwrap();
    assert_eq!(removed, [wanted(key("b"))]);
    admin.revoke(&grant).await.unwrap();
    let late = session.subscribe(&device_id, &key("a")).await;
    refused(late, 403, "subscription request not granted");

    admin.delete_session(session.id()).await.unwrap();
    assert!(socket.ends_with_disconnect().await);
    refused(admin.grant(&grant).await, 404, "No such sessionId");

    let other = admin.relay().create_session().await.unwrap();
    admin.delete_all_sessions().await.unwrap();
    let over = other.subscribe(&device_id, &key("a")).await;
    refused(over, 404, "No such sessionId");
}

#[tokio::test]
async fn last_values_are_read_and_deleted_with_the_key() {
    let mut testbed = Testbed::start().await;
    let admin = testbed.rest.admin(SECONDARY_KEY);
    let device_id = DeviceId::from("plant/7 %");
    let body = r#"{"n":12345678901234567890123,"m":"x","last":true}"#;
    testbed
        .inject(DeviceEvent::telemetry_bytes("plant/7 %", body))
        .await;
    testbed
        .rest
        .last_value_becomes("plant/7 %", "last", &json!(true))
        .await;

    let one = admin.last_value(&device_id, "n").await.unwrap();
    assert_eq!(one.device_id, device_id);
    assert_eq!(one.data["n"].as_str(), "12345678901234567890123");
    let all = admin.last_values(&device_id).await.unwrap();
    assert_eq!(all.data["n"].value.as_str(), "12345678901234567890123");
    assert_eq!(all.timestamp, "");
    assert!(admin.connection_state(&device_id).await.unwrap().data);

    let deleted = admin.delete_last_value(&device_id, "m").await.unwrap();
    assert_eq!(deleted.data.len(), 1);
    assert_eq!(deleted.data["m"], all.data["m"]);
    let deleted = admin.delete_last_values(&device_id).await.unwrap();
    assert!(deleted.data.keys().eq(["last", "n"]), "{deleted:?}");
    let gone = admin.last_value(&device_id, "n").await;
    refused(gone, 404, "No last telemetry found");
    let twin = admin.device_twin(&device_id).await;
    refused(twin, 400, "IoT Hub API disabled, cannot read device twin");
}

#[tokio::test]
async fn a_session_reads_what_it_was_granted_and_nothing_else() {
    let mut testbed = Testbed::with(&[("DEVICE_TWIN_CACHE_TTL", "0")]).await;
    let admin = testbed.rest.admin(PRIMARY_KEY);
    let session = admin.relay().create_session().await.unwrap();
    let device_id = DeviceId::from("d1");
    testbed.process("d1", json!({"a": 1, "b": 2})).await;
    let twin = json!({"version": 7, "properties": {"reported": {"x": 1}, "desired": {}}});
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;
    testbed.process("d1", json!({"a": 3})).await;

    let missing = "Forbidden to read last value of device: missing grant";
    refused(session.last_value(&device_id, "a").await, 403, missing);
    refused(session.last_values(&device_id).await, 403, missing);
    refused(
        session.delete_last_value(&device_id, "a").await,
        403,
        missing,
    );
    refused(session.delete_last_values(&device_id).await, 403, missing);
    refused(session.connection_state(&device_id).await, 403, missing);
    refused(session.device_twin(&device_id).await, 403, missing);

    for grant in [
        Grant::every_telemetry_key(),
        Grant::ConnectionState,
        Grant::device_twin(),
    ] {
        let request = GrantRequest::new(session.id(), &device_id, grant);
        admin.grant(&request).await.unwrap();
    }
    let one = session.last_value(&device_id, "a").await.unwrap();
    assert_eq!(one.data["a"].as_str(), "3");
    let all = session.last_values(&device_id).await.unwrap();
    assert!(all.data.keys().eq(["a", "b"]), "{all:?}");
    assert!(session.connection_state(&device_id).await.unwrap().data);
    let twin = session.device_twin(&device_id).await.unwrap().data;
    assert_eq!(twin.version, 7);
    assert_eq!(twin.properties.reported.as_str(), r#"{"x":1}"#);
    session.delete_last_value(&device_id, "a").await.unwrap();
    let rest = session.delete_last_values(&device_id).await.unwrap();
    assert!(rest.data.keys().eq(["b"]), "{rest:?}");
}

#[tokio::test]
async fn a_grant_token_gives_a_session_its_grants_or_says_what_is_wrong_with_it() {
    let secret = "a secret that is long enough to sign with";
    let testbed = Testbed::with(&[("HUBRELAY_GRANT_TOKEN_SECRET", secret)]).await;
    let relay = testbed.rest.admin(PRIMARY_KEY).relay().clone();
    let an_hour_s = 3600;
    let exp = jiff::Timestamp::now().as_second() + an_hour_s;
    let sign = |exp| {
        let grants = json!([{"deviceId": "d1", "type": "telemetry", "telemetryKey": "a"}]);
        let claims = json!({"exp": exp, "hubrelay": {"grants": grants}});
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::default(), &claims, &key).expect("claims can be signed")
    };
    let session = relay.create_session_with_token(&sign(exp)).await.unwrap();
    let device_id = DeviceId::from("d1");
    session.subscribe(&device_id, &key("a")).await.unwrap();
    let beyond = session.subscribe(&device_id, &key("b")).await;
    refused(beyond, 403, "subscription request not granted");

    let late = relay
        .create_session_with_token(&sign(exp - 2 * an_hour_s))
        .await;
    let Err(Error::Status {
        status: 401,
        message,
        ..
    }) = late
    else {
        panic!("expected 401, got {late:?}");
    };
    assert!(message.starts_with("Unauthorized: "), "{message}");
}

#[tokio::test]
async fn calls_towards_devices_say_why_they_are_refused() {
    let testbed = Testbed::start().await;
    let admin = testbed.rest.admin(PRIMARY_KEY);
    let session = admin.relay().create_session().await.unwrap();
    let disabled = "IoT Hub API disabled, cannot invoke direct method";
    let reboot = MethodParams::new("reboot")
        .payload(json!({"delay": 1}))
        .response_timeout_s(5);
    let device_id = DeviceId::from("d1");
    let called = session.invoke_direct_method(&device_id, reboot).await;
    refused(called, 400, disabled);
    let patched = session
        .patch_desired_properties(&device_id, json!({"interval": null}))
        .await;
    refused(patched, 400, disabled);
    let tagged = session.patch_tags(&device_id, json!({"site": "x"})).await;
    refused(tagged, 400, disabled);
    let grant = GrantRequest::new(session.id(), &device_id, Grant::every_direct_method());
    refused(admin.grant(&grant).await, 400, "Grant unavailable");
}

#[tokio::test]
async fn operators_ask_without_a_key_and_change_with_the_right_one() {
    let testbed = Testbed::start().await;
    let right = testbed.rest.admin(PRIMARY_KEY);
    let relay = RelayClient::new(testbed.rest.url.parse().unwrap()).unwrap();
    assert_eq!(
        relay.version().await.unwrap(),
        testbed.rest.get("/version").await.body
    );
    relay.status().await.unwrap();
    relay.healthz().await.unwrap();
    relay.readyz().await.unwrap();
    assert!(relay.metrics().await.unwrap().ends_with("# EOF\n"));
    for level in [
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Verbose,
        LogLevel::Debug,
    ] {
        right.set_log_level(level).await.unwrap();
    }
    let wrong = testbed.rest.admin("wrong");
    refused(
        wrong.set_log_level(LogLevel::Debug).await,
        401,
        "Unauthorized: invalid shared-access-key",
    );
}

#[tokio::test]
async fn a_relay_behind_an_authority_of_ones_own_is_trusted_when_told() {
    let folder = TempDir::new().unwrap();
    let (certificate, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let generated = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, generated.cert.pem()).unwrap();
    std::fs::write(&key, generated.signing_key.serialize_pem()).unwrap();
    let options = [
        ("HUBRELAY_TLS_CERT", certificate.to_str().unwrap()),
        ("HUBRELAY_TLS_KEY", key.to_str().unwrap()),
    ];
    let devhub = Devhub::start().await;
    let relay = Relay::start(&devhub.event_hub_connection_string, &options).await;
    assert!(relay.rest.url.starts_with("https://"), "{}", relay.rest.url);
    let connection = connection(&relay.rest.url, PRIMARY_KEY);

    let trusting = Settings::default().ca_certificates_pem(generated.cert.pem());
    let trusting = AdminClient::with_settings(&connection, trusting).unwrap();
    trusting.set_log_level(LogLevel::Info).await.unwrap();

    let doubting = AdminClient::new(&connection).unwrap();
    let failed = doubting.set_log_level(LogLevel::Info).await;
    assert!(matches!(failed, Err(Error::Unreachable(_))), "{failed:?}");
}

#[tokio::test]
async fn the_example_shows_a_session_from_its_beginning_to_its_end() {
    let mut testbed = Testbed::start().await;
    testbed.process("press-01", json!({"force": 21.5})).await;
    let connection = format!(
        "Endpoint={};SharedAccessKey={PRIMARY_KEY}",
        testbed.rest.url
    );
    let shown = Example::new("session_tour")
        .argument("press-01")
        .environment("RELAY_CONNECTION_STRING", &connection)
        .output()
        .await;
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("relay "), "{shown}");
    assert_eq!(lines[1], "refused: subscription request not granted");
    assert!(lines[2].starts_with("force = 21.5 at "), "{shown}");
    assert_eq!(lines[3], "after the revocation: Some(403)");
}
