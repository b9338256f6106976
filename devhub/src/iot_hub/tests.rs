//! The hub in process: what services and devices see of each other, and what the event hub gets to tell of it.

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::LogBounds;
use crate::amqp::message::Message;
use crate::event_hub::ConsumerGroups;

/// 2022-01-16T16:36:53.814Z
const START_MS: i64 = 1_642_351_013_814;

#[derive(Debug)]
struct ManualClock(Mutex<i64>);

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.0.lock().unwrap()
    }
}

/// A hub with one partition, all of whose events can be read.
struct Fixture {
    hub: IotHub,
    events: EventHub,
    clock: Arc<ManualClock>,
}

/// An event by what distinguishes it: source, operation, device or `device/module`, body.
#[derive(Debug, PartialEq)]
struct Told {
    source: String,
    operation: String,
    about: String,
    body: Value,
}

fn told(source: &str, operation: &str, about: &str, body: Value) -> Told {
    Told {
        source: source.to_owned(),
        operation: operation.to_owned(),
        about: about.to_owned(),
        body,
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with_routes(Routes::default())
    }

    fn with_routes(routes: Routes) -> Self {
        let clock = Arc::new(ManualClock(Mutex::new(START_MS)));
        let events = EventHub::new(
            "events",
            1,
            ConsumerGroups::Any,
            LogBounds::default(),
            clock.clone(),
        );
        let settings = IotHubSettings {
            name: "factory".to_owned(),
            key: SharedAccessKey::new("c2VjcmV0"),
            routes,
        };
        Self {
            hub: IotHub::new(settings, events.clone(), clock.clone()),
            events,
            clock,
        }
    }

    fn create(&self, id: &IdentityId) -> IdentityDescription {
        self.hub
            .create_identity(id, IdentitySettings::default())
            .unwrap()
    }

    fn connect(&self, id: &IdentityId) -> DeviceLink {
        self.hub.connect(id, AUTH).unwrap()
    }

    /// All events so far.
    fn told(&self) -> Vec<Told> {
        let partition = self.events.partition(0).unwrap();
        let log = partition.log.lock();
        log.read_from(0)
            .map(|(_, stored)| {
                let message = Message::decode(&stored.encoded).unwrap();
                let annotation = |name| message.annotations.unwrap().text(name);
                let device = annotation("iothub-connection-device-id").unwrap();
                let about = match annotation("iothub-connection-module-id") {
                    Some(module) => format!("{device}/{module}"),
                    None => device.to_owned(),
                };
                let operation = message
                    .application_properties
                    .and_then(|properties| properties.text("opType"));
                let body = message.data().next().unwrap();
                Told {
                    source: annotation("iothub-message-source").unwrap().to_owned(),
                    operation: operation.unwrap_or_default().to_owned(),
                    about,
                    body: serde_json::from_slice(body).unwrap(),
                }
            })
            .collect()
    }

    /// Operations and ids of the events since there were `from`.
    fn operations(&self, from: usize) -> Vec<(String, String)> {
        self.told()
            .into_iter()
            .skip(from)
            .map(|event| (event.operation, event.about))
            .collect()
    }
}

const AUTH: AuthMethod = AuthMethod {
    scope: AuthScope::Device,
    kind: AuthKind::Sas,
    expires_at_ms: None,
};

fn press() -> IdentityId {
    IdentityId::device("press").unwrap()
}

fn spindle() -> IdentityId {
    IdentityId::module("press", "spindle").unwrap()
}

fn operations(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(operation, about)| ((*operation).to_owned(), (*about).to_owned()))
        .collect()
}

/// Far longer than anything takes here.
const NEVER: Duration = Duration::from_mins(1);
const SOON: Duration = Duration::from_millis(50);

/// A call with time-outs that need not be whole seconds.
fn call(response_timeout: Duration, connect_timeout: Duration) -> MethodCall {
    MethodCall {
        name: "echo".to_owned(),
        payload: Bytes::from_static(b"null"),
        response_timeout,
        connect_timeout,
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, HubError>) -> ErrorCode {
    result.unwrap_err().code()
}

async fn method(link: &mut DeviceLink) -> (String, String, Bytes) {
    match link.next().await {
        ToDevice::Method {
            request_id,
            name,
            payload,
        } => (request_id, name, payload),
        other => panic!("{other:?}"),
    }
}

#[test]
fn creating_and_deleting_is_told_with_the_twin_and_modules_go_with_their_device() {
    let fixture = Fixture::new();
    let hub = &fixture.hub;
    assert_eq!(
        code(hub.create_identity(&spindle(), IdentitySettings::default())),
        ErrorCode::DeviceNotFound
    );
    let first = fixture.create(&press());
    fixture.create(&spindle());
    assert_eq!(
        code(hub.create_identity(&press(), IdentitySettings::default())),
        ErrorCode::DeviceAlreadyExists
    );
    assert_eq!(
        code(hub.create_identity(&spindle(), IdentitySettings::default())),
        ErrorCode::ModuleAlreadyExistsOnDevice
    );
    let stale = IfMatch::Etag("AAAA".to_owned());
    assert_eq!(
        code(hub.delete_identity(&press(), &stale)),
        ErrorCode::PreconditionFailed
    );
    hub.delete_identity(&press(), &IfMatch::Any).unwrap();
    assert_eq!(code(hub.identity(&spindle())), ErrorCode::DeviceNotFound);
    let again = fixture.create(&press());
    assert_ne!(first.generation_id, again.generation_id);
    assert_ne!(first.authentication, again.authentication);
    assert_eq!(code(hub.identity(&spindle())), ErrorCode::ModuleNotFound);

    let side =
        json!({ "$metadata": { "$lastUpdated": "2022-01-16T16:36:53.8140000Z" }, "$version": 1 });
    let twin = json!({
        "deviceId": "press",
        "etag": "AAAAAAAAAAE=",
        "version": 2,
        "properties": { "desired": side, "reported": side },
    });
    assert_eq!(
        fixture.told()[0],
        told(
            "deviceLifecycleEvents",
            "createDeviceIdentity",
            "press",
            twin
        )
    );
    assert_eq!(
        fixture.operations(0),
        operations(&[
            ("createDeviceIdentity", "press"),
            ("createModuleIdentity", "press/spindle"),
            ("deleteModuleIdentity", "press/spindle"),
            ("deleteDeviceIdentity", "press"),
            ("createDeviceIdentity", "press"),
        ])
    );
}

#[test]
fn a_registration_changes_only_by_its_etag_and_counts() {
    let fixture = Fixture::new();
    let created = fixture.create(&press());
    let disabled = IdentitySettings {
        status: IdentityStatus::Disabled,
        status_reason: Some("stolen".to_owned()),
        authentication: None,
    };
    let stale = IfMatch::Etag("AAAA".to_owned());
    assert_eq!(
        code(
            fixture
                .hub
                .update_identity(&press(), disabled.clone(), &stale)
        ),
        ErrorCode::PreconditionFailed
    );
    let etag = IfMatch::Etag(created.etag.clone());
    let updated = fixture
        .hub
        .update_identity(&press(), disabled, &etag)
        .unwrap();
    assert_ne!(updated.etag, created.etag);
    assert_eq!(updated.status_updated_ms, Some(START_MS));
    assert_eq!(updated.authentication, created.authentication);
    assert_eq!(
        fixture.hub.device_statistics(),
        DeviceStatistics {
            enabled: 0,
            disabled: 1,
            connected: 0,
        }
    );
    assert_eq!(
        code(fixture.hub.connect(&press(), AUTH)),
        ErrorCode::DeviceDisabled
    );
    let long = IdentitySettings {
        status_reason: Some("x".repeat(129)),
        ..IdentitySettings::default()
    };
    assert_eq!(
        code(fixture.hub.update_identity(&press(), long, &IfMatch::Any)),
        ErrorCode::ArgumentInvalid
    );
}

#[tokio::test]
async fn a_disabled_or_deleted_identity_loses_its_connection() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let mut link = fixture.connect(&press());
    let disabled = IdentitySettings {
        status: IdentityStatus::Disabled,
        ..IdentitySettings::default()
    };
    fixture
        .hub
        .update_identity(&press(), disabled, &IfMatch::Any)
        .unwrap();
    assert_eq!(link.next().await, ToDevice::End(EndReason::Disabled));
    fixture
        .hub
        .update_identity(&press(), IdentitySettings::default(), &IfMatch::Any)
        .unwrap();
    let mut link = fixture.connect(&press());
    fixture
        .hub
        .delete_identity(&press(), &IfMatch::Any)
        .unwrap();
    assert_eq!(link.next().await, ToDevice::End(EndReason::Deleted));
    assert_eq!(
        code(link.send_telemetry(TelemetryMessage::json("1"))),
        ErrorCode::DeviceNotFound
    );
}

#[test]
fn connections_are_told_once_used_in_order_with_rising_numbers() {
    let fixture = Fixture::new();
    fixture.create(&press());
    fixture.create(&spindle());
    let silent = fixture.connect(&press());
    drop(silent);
    let first = fixture.connect(&press());
    first.send_telemetry(TelemetryMessage::json("1")).unwrap();
    // The clock going back changes nothing about the order.
    *fixture.clock.0.lock().unwrap() = START_MS - 1_000;
    let second = fixture.connect(&press());
    assert_eq!(
        code(first.send_telemetry(TelemetryMessage::json("2"))),
        ErrorCode::DeviceConnectionClosedRemotely
    );
    drop(first);
    second.listen(Listen::Messages, true).unwrap();
    second.send_telemetry(TelemetryMessage::json("3")).unwrap();
    let module = fixture.connect(&spindle());
    module.send_telemetry(TelemetryMessage::json("4")).unwrap();
    drop(second);
    drop(module);
    assert_eq!(
        fixture.operations(2),
        operations(&[
            ("deviceConnected", "press"),
            ("", "press"),
            ("deviceDisconnected", "press"),
            ("deviceConnected", "press"),
            ("", "press"),
            ("moduleConnected", "press/spindle"),
            ("", "press/spindle"),
            ("deviceDisconnected", "press"),
            ("moduleDisconnected", "press/spindle"),
        ])
    );
    let numbers: Vec<String> = fixture
        .told()
        .iter()
        .filter(|event| event.about == "press")
        .filter_map(|event| Some(event.body.get("sequenceNumber")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(numbers.len(), 4);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let twin = fixture.hub.twin(&press()).unwrap();
    assert_eq!(twin["connectionState"], "Disconnected");
}

#[tokio::test]
async fn twin_changes_from_both_sides_reach_the_other_and_the_event_hub() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let mut link = fixture.connect(&press());
    link.listen(Listen::DesiredProperties, true).unwrap();
    let etag = fixture.hub.twin(&press()).unwrap()["etag"]
        .as_str()
        .unwrap()
        .to_owned();
    let patch = json!({ "tags": { "site": 5 }, "properties": { "desired": { "interval": 55 } } });
    let if_match = IfMatch::Etag(etag);
    let twin = fixture
        .hub
        .update_twin(&press(), &patch, &if_match)
        .unwrap();
    assert_eq!(twin["properties"]["desired"]["interval"], 55);
    assert_eq!(twin["connectionState"], "Connected");
    assert_eq!(
        code(fixture.hub.update_twin(&press(), &patch, &if_match)),
        ErrorCode::PreconditionFailed
    );
    assert_eq!(link.report(br#"{"interval":55}"#), Ok(2));
    assert_eq!(
        link.twin().unwrap(),
        json!({
            "desired": { "interval": 55, "$version": 2 },
            "reported": { "interval": 55, "$version": 2 },
        })
    );
    for bad in [&b"[]"[..], b"{", b"", br#"{"$a":1}"#] {
        assert_eq!(code(link.report(bad)), ErrorCode::ArgumentInvalid);
    }
    let replacement = json!({ "properties": { "desired": { "mode": "eco" } } });
    fixture
        .hub
        .replace_twin(&press(), &replacement, &IfMatch::Any)
        .unwrap();

    let patch = |value: Value| value.as_object().unwrap().clone();
    assert_eq!(
        link.next().await,
        ToDevice::DesiredProperties {
            version: 2,
            patch: patch(json!({ "interval": 55 }))
        }
    );
    assert_eq!(
        link.next().await,
        ToDevice::DesiredProperties {
            version: 3,
            patch: patch(json!({ "interval": null, "mode": "eco" })),
        }
    );
    let told = fixture.told();
    let kinds: Vec<_> = told[1..]
        .iter()
        .map(|event| (event.operation.as_str(), event.body["version"].as_u64()))
        .collect();
    assert_eq!(
        kinds,
        [
            ("updateTwin", Some(3)),
            ("updateTwin", Some(4)),
            ("replaceTwin", Some(5))
        ]
    );
    assert_eq!(told[1].body["tags"], json!({ "site": 5 }));
    assert_eq!(told[2].body["properties"].get("desired"), None);
    assert_eq!(told[3].body["deviceId"], "press");
    assert_eq!(told[3].body["properties"]["reported"]["interval"], 55);
    assert_eq!(told[3].body.get("connectionState"), None);
}

#[tokio::test]
async fn a_call_reaches_the_device_and_its_answer_the_caller() {
    let fixture = Fixture::new();
    fixture.create(&spindle().to_device());
    fixture.create(&spindle());
    let mut link = fixture.connect(&spindle());
    link.listen(Listen::Methods, true).unwrap();
    let id = spindle();
    let (answer, ()) = tokio::join!(
        fixture.hub.invoke_method(&id, call(NEVER, Duration::ZERO)),
        async {
            let (request_id, name, payload) = method(&mut link).await;
            assert_eq!(
                (name.as_str(), payload),
                ("echo", Bytes::from_static(b"null"))
            );
            link.answer_method("0", 500, Bytes::new()).unwrap();
            link.answer_method(&request_id, 200, Bytes::from_static(b"1.50"))
                .unwrap();
            link.answer_method(&request_id, 500, Bytes::new()).unwrap();
        }
    );
    assert_eq!(
        answer,
        Ok(MethodAnswer {
            status: 200,
            payload: Bytes::from_static(b"1.50")
        })
    );
}

#[tokio::test]
async fn each_way_a_call_can_fail_has_its_code() {
    let fixture = Fixture::new();
    let hub = &fixture.hub;
    let id = press();
    assert_eq!(
        code(hub.invoke_method(&id, call(NEVER, Duration::ZERO)).await),
        ErrorCode::DeviceNotFound
    );
    fixture.create(&id);
    assert_eq!(
        code(
            hub.invoke_method(&spindle(), call(NEVER, Duration::ZERO))
                .await
        ),
        ErrorCode::ModuleNotFound
    );
    let offline = hub
        .invoke_method(&id, call(NEVER, Duration::ZERO))
        .await
        .unwrap_err();
    assert_eq!(offline.code(), ErrorCode::DeviceNotOnline);
    assert_eq!(offline.timeout(), Some(Duration::ZERO));

    let mut link = fixture.connect(&id);
    let started = Instant::now();
    assert_eq!(
        code(hub.invoke_method(&id, call(NEVER, SOON)).await),
        ErrorCode::DeviceNotOnline
    );
    assert!(started.elapsed() >= SOON, "connected, but deaf to methods");

    link.listen(Listen::Methods, true).unwrap();
    let started = Instant::now();
    assert_eq!(
        code(hub.invoke_method(&id, call(SOON, NEVER)).await),
        ErrorCode::GatewayTimeout
    );
    assert!(started.elapsed() >= SOON);
    let (late, ..) = method(&mut link).await;
    link.answer_method(&late, 200, Bytes::new()).unwrap();

    for bad in [&b"{"[..], b"oops", &vec![b'1'; 128 * 1024 + 1]] {
        let (answer, ()) =
            tokio::join!(hub.invoke_method(&id, call(NEVER, Duration::ZERO)), async {
                let (request_id, ..) = method(&mut link).await;
                link.answer_method(&request_id, 200, Bytes::copy_from_slice(bad))
                    .unwrap();
            });
        assert_eq!(code(answer), ErrorCode::BadDeviceResponse);
    }

    let (answer, ()) = tokio::join!(hub.invoke_method(&id, call(NEVER, Duration::ZERO)), async {
        method(&mut link).await;
        drop(link);
    });
    assert_eq!(code(answer), ErrorCode::DeviceConnectionClosedRemotely);
}

#[tokio::test]
async fn a_call_waits_for_the_device_to_come_and_listen() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let id = press();
    let (answer, ()) = tokio::join!(fixture.hub.invoke_method(&id, call(NEVER, NEVER)), async {
        let mut link = fixture.connect(&id);
        tokio::task::yield_now().await;
        link.listen(Listen::Methods, true).unwrap();
        let (request_id, ..) = method(&mut link).await;
        link.answer_method(&request_id, 201, Bytes::new()).unwrap();
    });
    assert_eq!(
        answer,
        Ok(MethodAnswer {
            status: 201,
            payload: Bytes::from_static(b"null")
        })
    );
    let (answer, ()) = tokio::join!(fixture.hub.invoke_method(&id, call(NEVER, NEVER)), async {
        fixture.hub.delete_identity(&id, &IfMatch::Any).unwrap();
    });
    assert_eq!(code(answer), ErrorCode::DeviceNotFound);
}

#[tokio::test]
async fn calls_in_flight_are_bounded_and_free_their_place() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let mut link = fixture.connect(&press());
    link.listen(Listen::Methods, true).unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..direct_method::PENDING_CALLS_MAX {
        let hub = fixture.hub.clone();
        calls.spawn(async move {
            hub.invoke_method(&press(), call(NEVER, Duration::ZERO))
                .await
        });
    }
    for _ in 0..direct_method::PENDING_CALLS_MAX {
        method(&mut link).await;
    }
    assert_eq!(
        code(
            fixture
                .hub
                .invoke_method(&press(), call(NEVER, Duration::ZERO))
                .await
        ),
        ErrorCode::DeviceMaximumInflightMethodExceeded
    );
    calls.shutdown().await;
    assert_eq!(
        code(
            fixture
                .hub
                .invoke_method(&press(), call(SOON, Duration::ZERO))
                .await
        ),
        ErrorCode::GatewayTimeout
    );
}

#[test]
fn calls_are_checked_before_they_are_made() {
    let make = |name: &str, payload: &[u8], response_s, connect_s| {
        MethodCall::new(
            name,
            Bytes::copy_from_slice(payload),
            Duration::from_secs(response_s),
            Duration::from_secs(connect_s),
        )
        .map(drop)
        .map_err(|error| error.code())
    };
    let invalid = Err(ErrorCode::ArgumentInvalid);
    assert_eq!(make("m", b"null", 5, 0), Ok(()));
    assert_eq!(make("m", b"null", 300, 300), Ok(()));
    assert_eq!(make("m", b"null", 4, 0), invalid);
    assert_eq!(make("m", b"null", 301, 0), invalid);
    assert_eq!(make("m", b"null", 5, 301), invalid);
    assert_eq!(make("", b"null", 5, 0), invalid);
    assert_eq!(make(&"m".repeat(1024), b"null", 5, 0), Ok(()));
    assert_eq!(make(&"m".repeat(1025), b"null", 5, 0), invalid);
    assert_eq!(make("m", b"nul", 5, 0), invalid);
    let large = vec![b'1'; 128 * 1024 + 1];
    assert_eq!(make("m", &large, 5, 0), Err(ErrorCode::MessageTooLarge));
}

#[tokio::test]
async fn messages_wait_for_a_listener_and_come_again_until_they_are_completed() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let message = |text: &'static str| CloudToDeviceMessage {
        body: Bytes::from_static(text.as_bytes()),
        ..CloudToDeviceMessage::default()
    };
    fixture.hub.send_message(&press(), message("1")).unwrap();
    let mut link = fixture.connect(&press());
    fixture.hub.send_message(&press(), message("2")).unwrap();
    assert_eq!(
        fixture.hub.twin(&press()).unwrap()["cloudToDeviceMessageCount"],
        2
    );
    link.listen(Listen::Messages, true).unwrap();
    let given = async |link: &mut DeviceLink| match link.next().await {
        ToDevice::Message(locked) => locked,
        other => panic!("{other:?}"),
    };
    let first = given(&mut link).await;
    assert_eq!(first.message, message("1"));
    link.complete_message(first.lock_token).unwrap();
    assert_eq!(given(&mut link).await.message, message("2"));

    let mut link = fixture.connect(&press());
    link.listen(Listen::Messages, true).unwrap();
    fixture.hub.send_message(&press(), message("3")).unwrap();
    assert_eq!(given(&mut link).await.message, message("2"));
    assert_eq!(given(&mut link).await.message, message("3"));
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_ended() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let mut link = fixture.connect(&press());
    link.listen(Listen::DesiredProperties, true).unwrap();
    for number in 0..600 {
        let patch = json!({ "properties": { "desired": { "n": number } } });
        fixture
            .hub
            .update_twin(&press(), &patch, &IfMatch::Any)
            .unwrap();
    }
    assert_eq!(link.next().await, ToDevice::End(EndReason::Stuck));
    assert_eq!(
        fixture.hub.twin(&press()).unwrap()["connectionState"],
        "Disconnected"
    );
}

#[tokio::test]
async fn only_routed_sources_reach_the_event_hub() {
    let only_telemetry = Routes {
        telemetry: true,
        twin_changes: false,
        connection_states: false,
        lifecycle: false,
    };
    for (routes, expected) in [
        (only_telemetry, vec!["Telemetry"]),
        (
            Routes {
                telemetry: false,
                ..Routes::default()
            },
            vec![
                "deviceLifecycleEvents",
                "deviceConnectionStateEvents",
                "twinChangeEvents",
                "deviceConnectionStateEvents",
                "deviceLifecycleEvents",
            ],
        ),
    ] {
        let fixture = Fixture::with_routes(routes);
        fixture.create(&press());
        let link = fixture.connect(&press());
        link.send_telemetry(TelemetryMessage::json("1")).unwrap();
        link.report(b"{}").unwrap();
        drop(link);
        fixture
            .hub
            .delete_identity(&press(), &IfMatch::Any)
            .unwrap();
        let sources: Vec<_> = fixture
            .told()
            .into_iter()
            .map(|event| event.source)
            .collect();
        assert_eq!(sources, expected);
    }
}

#[test]
fn connection_strings_and_authentication_go_together() {
    let fixture = Fixture::new();
    let keys = fixture.hub.kept_keys(&press());
    let settings = IdentitySettings {
        authentication: Some(Authentication::Sas(keys.clone())),
        ..IdentitySettings::default()
    };
    fixture.hub.create_identity(&press(), settings).unwrap();
    assert_eq!(
        fixture.hub.device_connection_string(&press(), "localhost"),
        Some(format!(
            "HostName=localhost;DeviceId=press;SharedAccessKey={}",
            keys.primary.expose()
        ))
    );
    let expires = Duration::from_millis(START_MS.unsigned_abs()) + Duration::from_mins(1);
    let token =
        sas::sign_for_iot_hub("localhost/devices/press", None, &keys.primary, expires).unwrap();
    let checked = |id: &IdentityId| fixture.hub.authenticate(id, Credential::Token(&token));
    assert_eq!(
        checked(&press()).map(|method| method.scope),
        Ok(AuthScope::Device)
    );
    assert_eq!(checked(&spindle()), Err(AuthError::UnknownIdentity));
    let disabled = IdentitySettings {
        status: IdentityStatus::Disabled,
        ..IdentitySettings::default()
    };
    fixture
        .hub
        .update_identity(&press(), disabled, &IfMatch::Any)
        .unwrap();
    assert_eq!(checked(&press()), Err(AuthError::Disabled));
}
