//! Calls to devices and modules by sessions that may make some of them only: methods by their payload, changes of a twin
//! by the place. The devices are written with Microsoft's SDK.

use admin_client::{DeviceFailure, TwinChange};
use relay_protocol::{Condition, DeviceId, Grant, GrantRequest, Identity, MethodParams};
use serde_json::{Value, json};

use crate::harness::{Session, Testbed, node_script::NodeScript};

const DEVICE: &str = "gateway-1";

async fn granted(session: &Session, on: impl Into<Identity>, grant: Grant) {
    let client = session.client();
    let request = GrantRequest::new(client.id(), on, grant);
    let granted = session.admin().grant(&request).await;
    granted.expect("it can be granted");
}

fn device() -> DeviceId {
    DEVICE.into()
}

/// What a device reports next under this name.
async fn next(device: &mut NodeScript, name: &str) -> Value {
    loop {
        let mut line = device.next_line().await;
        if !line[name].is_null() {
            return line[name].take();
        }
    }
}

fn audit_lines(testbed: &Testbed) -> Vec<String> {
    let log = testbed.relay.process.log();
    let of_audit = |line: &&str| line.contains("hubrelay::audit");
    log.lines().filter(of_audit).map(str::to_owned).collect()
}

/// A call of `thingspro-api-v1` with a payload as it is written here.
async fn call(session: &Session, payload: &str) -> crate::harness::Answer {
    let body = format!(
        r#"{{"deviceId":"{DEVICE}","methodParams":{{"methodName":"thingspro-api-v1","payload":{payload}}}}}"#
    );
    let call = session.rest.post("/directMethod").session(&session.id);
    call.json_text(body).await
}

#[tokio::test]
async fn of_a_gateways_api_a_session_may_read_tags_and_nothing_else() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"thingspro-api-v1": {}, "reboot": {}});
    let mut gateway = testbed.devhub.connect_device(DEVICE, methods).await;
    let session = testbed.session().await;
    let conditions = [
        Condition::equals("/method", "GET"),
        Condition::matches("/path", "/tags/*"),
    ];
    let reads_tags = Grant::direct_method_if("thingspro-api-v1", conditions);
    granted(&session, device(), reads_tags.clone()).await;

    let refused = [
        r#"{"method":"PUT","path":"/tags/secret-value"}"#,
        r#"{"method":"get","path":"/tags/a"}"#,
        r#"{"method":["GET"],"path":"/tags/a"}"#,
        r#"{"path":"/tags/a"}"#,
        r#"{"method":"GET"}"#,
        r#"{"method":"GET","path":"/system/users"}"#,
        r#"{"method":"GET","path":"/x/tags/a"}"#,
        r#"{"method":"GET","path":"/tags/../system/users"}"#,
        r#"{"method":"GET","path":"/tags/./a"}"#,
        r#"{"method":"GET","path":"/tags/%2e%2e/system/users"}"#,
        r#"{"method":"GET","path":"/tags/a","method":"DELETE"}"#,
        r#"{"method":"DELETE","path":"/tags/a","method":"GET"}"#,
        r#"[{"method":"GET","path":"/tags/a"}]"#,
        r#""GET /tags/a""#,
        "null",
    ];
    for payload in refused {
        let answer = call(&session, payload).await;
        answer.says(403, "Forbidden");
    }
    let other_method =
        MethodParams::new("reboot").payload(json!({"method": "GET", "path": "/tags/a"}));
    let other = session
        .client()
        .invoke_direct_method(device(), other_method)
        .await;
    assert_eq!(other.unwrap_err().status(), Some(403));

    let allowed = r#"{"method":"GET","path":"/tags/plc-1/temperature","query":{"limit":1.50}}"#;
    let answer = call(&session, allowed).await.is(200);
    let answer = answer.json();
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(answer["payload"]["path"], "/tags/plc-1/temperature");
    // It is the first that the gateway heard of.
    let heard = next(&mut gateway, "method").await;
    assert_eq!(
        heard["payload"]["path"], "/tags/plc-1/temperature",
        "{heard}"
    );

    let lines = audit_lines(&testbed);
    assert_eq!(lines.len(), refused.len() + 1, "{lines:#?}");
    let (_, secret_half) = session.id.split_at(13);
    for line in &lines {
        assert!(line.contains(DEVICE), "{line}");
        for hidden in [secret_half, "secret-value", "/tags", "system"] {
            assert!(!line.contains(hidden), "{hidden} in {line}");
        }
    }

    // Another grant of the method allows what it allows; the first one can be taken back by itself.
    let writes = [Condition::one_of("/method", ["PUT", "POST"])];
    let writes = Grant::direct_method_if("thingspro-api-v1", writes);
    granted(&session, device(), writes).await;
    call(&session, refused[0]).await.is(200);
    let client = session.client();
    let request = GrantRequest::new(client.id(), device(), reads_tags);
    session.admin().revoke(&request).await.expect("revoked");
    call(&session, allowed).await.says(403, "Forbidden");
    call(&session, refused[0]).await.is(200);
    let all = GrantRequest::new(
        client.id(),
        device(),
        Grant::direct_method("thingspro-api-v1"),
    );
    session.admin().revoke(&all).await.expect("revoked");
    call(&session, refused[0]).await.says(403, "Forbidden");
    gateway.finish().await;
}

#[tokio::test]
async fn desired_properties_and_tags_are_changed_where_that_was_granted() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let mut gateway = testbed.devhub.connect_device(DEVICE, json!({})).await;
    let operator = testbed.session().await;
    granted(&operator, device(), Grant::desired_properties()).await;
    granted(&operator, device(), Grant::tags()).await;
    granted(&operator, device(), Grant::device_twin()).await;
    let session = testbed.session().await;
    let places = ["/telemetryInterval", "/alarms/limits"];
    granted(&session, device(), Grant::desired_properties_at(places)).await;
    granted(&session, device(), Grant::tags_at(["/site"])).await;

    let everything =
        json!({"telemetryInterval": 1, "key": "k", "alarms": {"limits": {"a": 1}, "mute": false}});
    let client = operator.client();
    let patched = client.patch_desired_properties(device(), everything).await;
    patched.expect("all of it may be changed");
    let tagged = client
        .patch_tags(device(), json!({"site": "Linz", "owner": "x"}))
        .await;
    tagged.expect("all of them may be changed");

    let client = session.client();
    for patch in [
        json!({"telemetryInterval": 2, "key": "stolen"}),
        json!({"key": null}),
        json!({"alarms": {"mute": true}}),
        json!({"alarms": null}),
        json!({"alarms": {}}),
        json!({"alarms": 1}),
        json!({"": {"telemetryInterval": 2}}),
    ] {
        let refused = client
            .patch_desired_properties(device(), patch.clone())
            .await;
        assert_eq!(refused.unwrap_err().status(), Some(403), "{patch}");
    }
    for patch in [
        json!({"owner": "me"}),
        json!({"site": "Wien", "owner": null}),
    ] {
        let refused = client.patch_tags(device(), patch.clone()).await;
        assert_eq!(refused.unwrap_err().status(), Some(403), "{patch}");
    }
    assert_eq!(
        audit_lines(&testbed).len(),
        9,
        "{:#?}",
        audit_lines(&testbed)
    );

    let patch = json!({"telemetryInterval": 5000, "alarms": {"limits": {"a": null, "b": 2}}});
    let patched = client
        .patch_desired_properties(device(), patch.clone())
        .await;
    let shown = patched.expect("it may be changed").payload.to_value();
    let desired = &shown["properties"]["desired"];
    assert_eq!(desired["telemetryInterval"], 5000, "{shown}");
    assert_eq!(desired["alarms"], json!({"limits": {"b": 2}}), "{shown}");
    assert_eq!(desired["key"], Value::Null, "{shown}");
    let tagged = client.patch_tags(device(), json!({"site": "Wien"})).await;
    let shown = tagged.expect("it may be changed").payload.to_value();
    assert_eq!(shown["tags"], json!({"site": "Wien"}), "{shown}");

    // The device hears of what was changed, and of nothing that was refused.
    let told = loop {
        let told = next(&mut gateway, "desired").await;
        if told["telemetryInterval"] == 5000 {
            break told;
        }
        assert_ne!(told["telemetryInterval"], 2, "{told}");
    };
    assert_eq!(told["alarms"]["limits"]["b"], 2, "{told}");
    let twin = operator.client().device_twin(device()).await;
    let twin = twin.expect("all of it may be seen").data;
    let desired = twin.properties.desired.to_value();
    assert_eq!(desired["key"], "k", "{desired}");
    assert_eq!(desired["alarms"]["mute"], false, "{desired}");
    let tags = twin.tags.expect("there are tags").to_value();
    assert_eq!(tags, json!({"site": "Wien", "owner": "x"}));

    let stale = TwinChange::new(json!({"telemetryInterval": 1})).only_for_etag("AAAAAAAAAAA=");
    let refused = client.patch_desired_properties(device(), stale).await;
    let failure = refused.unwrap_err().device_failure();
    assert_eq!(failure, Some(DeviceFailure::TwinChanged));
    gateway.finish().await;
}

#[tokio::test]
async fn a_module_is_called_and_configured_by_who_was_granted_the_module() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let module = Identity::module(DEVICE, "vision");
    let mut vision = testbed
        .devhub
        .connect_module(DEVICE, "vision", json!({"snapshot": {"status": 201}}))
        .await;
    let of_device = testbed.session().await;
    let of_module = testbed.session().await;
    for grant in [
        Grant::every_direct_method(),
        Grant::desired_properties(),
        Grant::tags(),
        Grant::device_twin(),
    ] {
        granted(&of_device, device(), grant.clone()).await;
        granted(&of_module, &module, grant).await;
    }

    let snapshot = || MethodParams::new("snapshot").payload(json!({"camera": 2}));
    let client = of_device.client();
    let refused = client.invoke_direct_method(&module, snapshot()).await;
    assert_eq!(refused.unwrap_err().status(), Some(403));
    let refused = client
        .patch_desired_properties(&module, json!({"rate": 1}))
        .await;
    assert_eq!(refused.unwrap_err().status(), Some(403));
    let refused = client.patch_tags(&module, json!({"rate": 1})).await;
    assert_eq!(refused.unwrap_err().status(), Some(403));
    let refused = client.device_twin(&module).await;
    assert_eq!(refused.unwrap_err().status(), Some(403));

    let client = of_module.client();
    let answer = client.invoke_direct_method(&module, snapshot()).await;
    let answer = answer.expect("it is granted");
    assert_eq!(answer.status, 201);
    assert_eq!(answer.payload.to_value(), json!({"camera": 2}));
    let heard = next(&mut vision, "method").await;
    assert_eq!(heard["name"], "snapshot", "{heard}");

    let patched = client
        .patch_desired_properties(&module, json!({"rate": 7}))
        .await;
    patched.expect("it is granted");
    while next(&mut vision, "desired").await["rate"] != 7 {}
    vision.send(&json!({"report": {"model": "v2"}})).await;
    assert_eq!(next(&mut vision, "reported").await, json!(true));
    let twin = testbed
        .rest
        .eventually("the twin of the module shows both", || async {
            let twin = client.device_twin(&module).await.expect("it is granted");
            (twin.data.properties.reported.to_value()["model"] == "v2").then_some(twin)
        })
        .await;
    assert_eq!(twin.module_id, module.module_id);
    assert_eq!(twin.data.properties.desired.to_value()["rate"], 7);
    let online = of_module.admin().connection_state(&module).await;
    assert!(online.expect("it is known").data);
    vision.finish().await;
}

#[tokio::test]
async fn why_a_device_does_not_answer_is_told_apart() {
    let testbed = Testbed::with_iot_hub(&[]).await;
    let methods = json!({"sleep": {"silent": true}});
    let silent = testbed.devhub.connect_device("silent", methods).await;
    testbed.devhub.register(&["offline".to_owned()]).await;
    let session = testbed.session().await;
    let client = session.client();
    for (device, failure) in [
        ("silent", DeviceFailure::TimedOut),
        ("offline", DeviceFailure::Offline),
        ("nobody", DeviceFailure::Unknown),
    ] {
        let device = DeviceId::from(device);
        granted(&session, &device, Grant::direct_method("sleep")).await;
        let sleep = MethodParams::new("sleep").response_timeout_s(5);
        let called = client.invoke_direct_method(&device, sleep).await;
        let error = called.unwrap_err();
        assert_eq!(error.device_failure(), Some(failure), "{error}");
    }
    silent.finish().await;
}
