//! Microsoft's device SDKs, unmodified, as devices and modules of devhub: what they send, what they answer, and
//! what they are told. The other side of each exchange is the hub in this process.

use std::time::Duration;

use bytes::Bytes;
use devhub::{
    Devhub,
    iot_hub::{
        Authentication, CloudToDeviceMessage, ErrorCode, IdentityId, IdentitySettings, IfMatch,
        MethodCall, Thumbprints,
    },
};
use serde_json::{Value, json};

use crate::{device::Device, hub::Hub, receive, sdk::Sdk};

for_each_sdk!(
    telemetry_arrives_with_its_properties_and_the_hubs_own,
    direct_methods_are_answered,
    a_twin_is_read_and_reported_and_its_changes_are_told,
    messages_arrive_from_the_cloud,
    a_device_that_is_killed_goes_offline,
    is_refused_with_a_wrong_key,
    connects_with_a_certificate,
);

fn device() -> IdentityId {
    IdentityId::device("press-01").unwrap()
}

fn module() -> IdentityId {
    IdentityId::module("press-01", "plc").unwrap()
}

/// A hub that knows a device and a module of it, listening where the SDK can reach it.
async fn start(sdk: Sdk) -> Hub {
    let hub = Hub::start_with_mqtt(sdk.mqtt_address()).await;
    for id in [device(), module()] {
        let settings = IdentitySettings::default();
        hub.devhub()
            .iot_hub()
            .create_identity(&id, settings)
            .unwrap();
    }
    hub
}

async fn connected(sdk: Sdk, hub: &Hub, id: &IdentityId, options: &Value) -> Device {
    let connection_string = hub.devhub().device_connection_string(id).unwrap();
    Device::connected(
        sdk,
        &connection_string,
        hub.certificate_authority(),
        options,
    )
    .await
}

async fn telemetry_arrives_with_its_properties_and_the_hubs_own(sdk: Sdk) {
    let hub = start(sdk).await;
    let mut device = connected(
        sdk,
        &hub,
        &device(),
        &json!({ "modelId": "dtmi:com:press;1" }),
    )
    .await;
    let sent = json!({ "send": {
        "body": r#"{"temperature":21.5}"#,
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        "messageId": "m 1",
        "correlationId": "c/1",
        "properties": { "alarm": "hot & oily", "größe": "5 µm" },
    }});
    device.ask(&sent, "sent").await;
    let mut module = connected(sdk, &hub, &module(), &json!({})).await;
    module
        .ask(&json!({ "send": { "body": r#"{"speed":3}"# } }), "sent")
        .await;

    // Two lifecycle events come first; connection states come in between.
    let received = receive(sdk, &hub, Some("0"), &json!("earliest"), 6).await;
    let telemetry: Vec<_> = received
        .iter()
        .filter(|event| event["systemProperties"]["iothub-message-source"] == "Telemetry")
        .collect();
    let [of_device, of_module] = telemetry.as_slice() else {
        panic!("{received:?}")
    };
    assert_eq!(of_device["body"], json!({ "temperature": 21.5 }));
    assert_eq!(of_device["contentType"], "application/json");
    assert_eq!(of_device["messageId"], "m 1");
    assert_eq!(of_device["correlationId"], "c/1");
    assert_eq!(
        of_device["properties"],
        json!({ "alarm": "hot & oily", "größe": "5 µm" })
    );
    let twin = hub.devhub().iot_hub().twin(&self::device()).unwrap();
    assert_eq!(twin["modelId"], "dtmi:com:press;1");
    let stamped = &of_device["systemProperties"];
    assert_eq!(stamped["iothub-connection-device-id"], "press-01");
    assert_eq!(stamped["iothub-connection-module-id"], Value::Null);
    assert_eq!(stamped["dt-dataschema"], "dtmi:com:press;1");
    let auth_method = stamped["iothub-connection-auth-method"].as_str().unwrap();
    let auth_method: Value = serde_json::from_str(auth_method).unwrap();
    assert_eq!(auth_method["scope"], "device");
    assert_eq!(auth_method["type"], "sas");

    assert_eq!(of_module["properties"], json!({}));
    let stamped = &of_module["systemProperties"];
    assert_eq!(stamped["iothub-connection-device-id"], "press-01");
    assert_eq!(stamped["iothub-connection-module-id"], "plc");
    device.close().await;
    module.close().await;
}

async fn direct_methods_are_answered(sdk: Sdk) {
    let hub = start(sdk).await;
    let methods = json!({ "methods": {
        "echo": {},
        "fail": { "status": 418, "payload": { "reason": "teapot" } },
        "mute": { "silent": true },
    }});
    for id in [device(), module()] {
        let mut connected = connected(sdk, &hub, &id, &methods).await;
        let call = async |name: &str, payload: Value| {
            let payload = Bytes::from(payload.to_string());
            let call = MethodCall::new(name, payload, Duration::from_secs(5), Duration::ZERO);
            hub.devhub()
                .iot_hub()
                .invoke_method(&id, call.unwrap())
                .await
        };
        for payload in [json!({ "a": [1, "ü"] }), json!(null), json!(7)] {
            let answer = call("echo", payload.clone()).await.unwrap();
            assert_eq!(answer.status, 200);
            let answered: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answered, payload);
            let heard = connected.hear("method").await;
            assert_eq!(heard, json!({ "name": "echo", "payload": payload }));
        }
        let answer = call("fail", json!(null)).await.unwrap();
        assert_eq!(answer.status, 418);
        let answered: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answered, json!({ "reason": "teapot" }));
        if id == device() {
            let error = call("mute", json!(null)).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::GatewayTimeout);
        }
        connected.close().await;
        let error = call("echo", json!(null)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DeviceNotOnline);
    }
}

async fn a_twin_is_read_and_reported_and_its_changes_are_told(sdk: Sdk) {
    let hub = start(sdk).await;
    let desire = |id: &IdentityId, desired: Value| {
        let patch = json!({ "properties": { "desired": desired }, "tags": { "site": "north" } });
        let iot_hub = hub.devhub().iot_hub();
        iot_hub.update_twin(id, &patch, &IfMatch::Any).unwrap();
    };
    for id in [device(), module()] {
        desire(&id, json!({ "interval": 5, "old": true }));
        let mut connected = connected(sdk, &hub, &id, &json!({})).await;
        let first = connected.hear("desired").await;
        assert_eq!(first, json!({ "interval": 5, "old": true, "$version": 2 }));

        let patch = json!({ "report": { "firmware": { "version": "1.4" } } });
        connected.ask(&patch, "reported").await;
        let told = hub.devhub().iot_hub().twin(&id).unwrap();
        assert_eq!(
            told["properties"]["reported"]["firmware"],
            json!({ "version": "1.4" })
        );

        desire(&id, json!({ "interval": 7, "old": null }));
        let changed = loop {
            let desired = connected.hear("desired").await;
            if desired["$version"] == 3 {
                break desired;
            }
        };
        assert_eq!(changed["interval"], 7);
        assert_eq!(changed["old"], Value::Null);

        let twin = connected.ask(&json!({ "getTwin": true }), "twin").await;
        assert_eq!(twin["desired"], json!({ "interval": 7, "$version": 3 }));
        assert_eq!(
            twin["reported"],
            json!({ "firmware": { "version": "1.4" }, "$version": 2 })
        );

        let refused = connected
            .ask(&json!({ "report": { "a.b": 1 } }), "error")
            .await;
        assert!(refused["message"].is_string(), "{refused}");
        connected.close().await;
    }
}

async fn messages_arrive_from_the_cloud(sdk: Sdk) {
    let hub = start(sdk).await;
    let iot_hub = hub.devhub().iot_hub();
    let send = |body: &'static str| {
        let message = CloudToDeviceMessage {
            message_id: Some("m 1".to_owned()),
            properties: vec![("colour".to_owned(), "dark/blue".to_owned())],
            body: Bytes::from_static(body.as_bytes()),
            ..CloudToDeviceMessage::default()
        };
        iot_hub.send_message(&device(), message).unwrap();
    };
    send("while it was away");
    let mut device_client = connected(sdk, &hub, &device(), &json!({})).await;
    send("while it listened");
    for body in ["while it was away", "while it listened"] {
        assert_eq!(
            device_client.hear("message").await,
            json!({ "body": body, "messageId": "m 1", "properties": { "colour": "dark/blue" } })
        );
    }
    device_client.close().await;
    assert_eq!(iot_hub.identity(&device()).unwrap().message_count, 0);
}

async fn a_device_that_is_killed_goes_offline(sdk: Sdk) {
    let hub = start(sdk).await;
    let mut victim = connected(sdk, &hub, &device(), &json!({})).await;
    victim
        .ask(&json!({ "send": { "body": "{}" } }), "sent")
        .await;
    assert!(
        hub.devhub()
            .iot_hub()
            .identity(&device())
            .unwrap()
            .is_connected
    );
    victim.kill().await;
    // Two lifecycle events, online, telemetry, offline.
    let received = receive(sdk, &hub, Some("0"), &json!("earliest"), 5).await;
    let operations: Vec<_> = received
        .iter()
        .filter_map(|event| event["properties"]["opType"].as_str())
        .collect();
    assert_eq!(
        operations[2..],
        ["deviceConnected", "deviceDisconnected"],
        "{received:?}"
    );
}

async fn is_refused_with_a_wrong_key(sdk: Sdk) {
    let hub = start(sdk).await;
    let of_module = hub.devhub().device_connection_string(&module()).unwrap();
    let (_, foreign_key) = of_module.split_once("SharedAccessKey=").unwrap();
    let own = hub.devhub().device_connection_string(&device()).unwrap();
    let (own, _) = own.split_once("SharedAccessKey=").unwrap();
    let connection_string = format!("{own}SharedAccessKey={foreign_key}");
    let ca = hub.certificate_authority();
    let mut device_client = Device::start(sdk, &connection_string, ca, &json!({}));
    let error = device_client.hear("error").await;
    let name = error["name"].as_str().unwrap();
    assert!(
        ["UnauthorizedError", "CredentialError"].contains(&name),
        "{error}"
    );
}

async fn connects_with_a_certificate(sdk: Sdk) {
    let hub = start(sdk).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["lathe".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let thumbprint = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        certificate.der(),
    );
    let thumbprint: Vec<_> = thumbprint
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let settings = IdentitySettings {
        authentication: Some(Authentication::SelfSigned(Thumbprints {
            primary: Some(thumbprint.concat()),
            secondary: None,
        })),
        ..IdentitySettings::default()
    };
    let id = IdentityId::device("lathe").unwrap();
    hub.devhub()
        .iot_hub()
        .create_identity(&id, settings)
        .unwrap();
    let connection_string = format!(
        "HostName={};DeviceId=lathe;x509=true",
        host_name(hub.devhub())
    );
    let ca = hub.certificate_authority();
    let options = json!({ "certificate": certificate.pem(), "key": key.serialize_pem() });
    let device_client = Device::connected(sdk, &connection_string, ca, &options).await;
    assert!(hub.devhub().iot_hub().identity(&id).unwrap().is_connected);
    device_client.close().await;

    let other = rcgen::CertificateParams::new(vec!["lathe".to_owned()]).unwrap();
    let other = other.self_signed(&key).unwrap();
    let options = json!({ "certificate": other.pem(), "key": key.serialize_pem() });
    let mut impostor = Device::start(sdk, &connection_string, ca, &options);
    impostor.hear("error").await;
}

/// The host name in the connection strings of devices.
fn host_name(devhub: &Devhub) -> String {
    let connection_string = devhub.device_connection_string(&device()).unwrap();
    let (host, _) = connection_string.split_once(';').unwrap();
    host.strip_prefix("HostName=").unwrap().to_owned()
}
