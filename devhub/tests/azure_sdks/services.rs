//! Back ends written with Microsoft's service SDKs, and devices in process.

use std::path::Path;

use devhub::iot_hub::{
    AuthKind, AuthMethod, AuthScope, DeviceLink, IdentityId, IdentitySettings, Listen, ToDevice,
};
use serde_json::{Value, json};

use crate::hub::Hub;
use crate::sdk::Sdk;

for_each_sdk!(
    registers_devices,
    registers_modules,
    reads_and_patches_twins_under_their_etag,
    replaces_twins,
    queries_page_by_page,
    calls_methods_of_devices_and_modules,
    tells_unknown_offline_silent_and_gone_devices_apart,
    is_refused_with_a_wrong_key_and_when_throttled,
);

/// What came of each step, in order.
async fn steps(sdk: Sdk, hub: &Hub, steps: Value) -> Vec<Value> {
    let connection_string = hub.devhub().iot_hub_service_connection_string().unwrap();
    steps_with(sdk, &connection_string, hub.certificate_authority(), steps).await
}

async fn steps_with(sdk: Sdk, connection_string: &str, ca: &Path, steps: Value) -> Vec<Value> {
    let input = json!({ "connectionString": connection_string, "steps": steps });
    let outcomes = sdk.run_back_end(&input, ca).await;
    outcomes.as_array().unwrap().clone()
}

/// The status and the error code of a step that was refused.
fn refusal(outcome: &Value) -> (u64, String) {
    let error = outcome.get("error").unwrap_or_else(|| panic!("{outcome}"));
    let message = error["body"]["Message"].as_str().unwrap();
    let code = match serde_json::from_str::<Value>(message) {
        Ok(inner) => inner["errorCode"].to_string(),
        Err(_) => message
            .strip_prefix("ErrorCode:")
            .and_then(|rest| rest.split(';').next())
            .unwrap()
            .to_owned(),
    };
    (error["status"].as_u64().unwrap(), code)
}

fn refused(status: u64, code: &str) -> (u64, String) {
    (status, code.to_owned())
}

fn device(id: &str) -> IdentityId {
    IdentityId::device(id).unwrap()
}

fn module(device_id: &str, id: &str) -> IdentityId {
    IdentityId::module(device_id, id).unwrap()
}

fn create(hub: &Hub, id: &IdentityId) {
    let settings = IdentitySettings::default();
    hub.devhub()
        .iot_hub()
        .create_identity(id, settings)
        .unwrap();
}

fn connect(hub: &Hub, id: &IdentityId) -> DeviceLink {
    let auth = AuthMethod {
        scope: AuthScope::Device,
        kind: AuthKind::Sas,
        expires_at_ms: None,
    };
    let link = hub.devhub().iot_hub().connect(id, auth).unwrap();
    link.listen(Listen::Methods, true).unwrap();
    link
}

/// Answers `echo` with what it got, goes offline on `leave`, and never answers anything else.
async fn be_a_device(mut link: DeviceLink) {
    loop {
        match link.next().await {
            ToDevice::Method {
                request_id,
                name,
                payload,
            } => match name.as_str() {
                "echo" => link.answer_method(&request_id, 207, payload).unwrap(),
                "leave" => return,
                _ => {}
            },
            ToDevice::End(reason) => panic!("{reason:?}"),
            _ => {}
        }
    }
}

async fn registers_devices(sdk: Sdk) {
    let hub = Hub::start_with_rest().await;
    let keys = json!({
        "primaryKey": "cHJpbWFyeSBrZXkgb2YgYSBkZXZpY2U=",
        "secondaryKey": "c2Vjb25kYXJ5IGtleSBvZiBhIGRldmljZQ==",
    });
    // The id has characters that are escaped in a path.
    let id = "press:1(a)*%";
    let outcomes = steps(
        sdk,
        &hub,
        json!([
            ["createDevice", { "deviceId": id, "authentication": { "symmetricKey": keys } }],
            ["createDevice", { "deviceId": id }],
            ["getDevice", id],
            ["getDevice", "other"],
            ["addDevices", [{ "deviceId": "a" }, { "deviceId": "b" }]],
            ["listDevices"],
            ["updateDevice", { "deviceId": id, "status": "disabled", "statusReason": "stolen" }],
            ["statistics"],
            ["deleteDevice", id],
            ["deleteDevice", id],
            ["listDevices"],
        ]),
    )
    .await;
    let created = &outcomes[0]["ok"];
    assert_eq!(created["deviceId"], id);
    assert_eq!(created["authentication"]["symmetricKey"], keys);
    assert_eq!(refusal(&outcomes[1]), refused(409, "DeviceAlreadyExists"));
    assert_eq!(outcomes[2]["ok"]["etag"], created["etag"]);
    assert_eq!(outcomes[2]["ok"]["generationId"], created["generationId"]);
    assert_eq!(refusal(&outcomes[3]), refused(404, "DeviceNotFound"));
    assert_eq!(outcomes[4]["ok"]["isSuccessful"], true);
    let ids = |outcome: &Value| -> Vec<String> {
        let devices = outcome["ok"].as_array().unwrap().iter();
        devices
            .map(|device| device["deviceId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&outcomes[5]), ["a", "b", id]);
    let updated = &outcomes[6]["ok"];
    assert_eq!(updated["status"], "disabled");
    assert_eq!(updated["statusReason"], "stolen");
    assert_eq!(
        updated["authentication"]["symmetricKey"], keys,
        "they are kept"
    );
    assert_eq!(outcomes[7]["ok"]["totalDeviceCount"], 3);
    assert_eq!(outcomes[7]["ok"]["disabledDeviceCount"], 1);
    assert!(outcomes[8].get("error").is_none(), "{}", outcomes[8]);
    assert_eq!(refusal(&outcomes[9]), refused(404, "DeviceNotFound"));
    assert_eq!(ids(&outcomes[10]), ["a", "b"]);
}

async fn registers_modules(sdk: Sdk) {
    let hub = Hub::start_with_rest().await;
    create(&hub, &device("d"));
    let outcomes = steps(
        sdk,
        &hub,
        json!([
            ["createModule", { "deviceId": "d", "moduleId": "m" }],
            ["createModule", { "deviceId": "d", "moduleId": "m" }],
            ["getModule", "d", "m"],
            ["listModules", "d"],
            ["deleteModule", "d", "m"],
            ["getModule", "d", "m"],
        ]),
    )
    .await;
    assert_eq!(outcomes[0]["ok"]["moduleId"], "m");
    assert_eq!(
        refusal(&outcomes[1]),
        refused(409, "ModuleAlreadyExistsOnDevice")
    );
    assert_eq!(
        outcomes[2]["ok"]["generationId"],
        outcomes[0]["ok"]["generationId"]
    );
    assert_eq!(outcomes[3]["ok"].as_array().unwrap().len(), 1);
    assert!(outcomes[4].get("error").is_none(), "{}", outcomes[4]);
    assert_eq!(refusal(&outcomes[5]), refused(404, "ModuleNotFound"));
}

async fn reads_and_patches_twins_under_their_etag(sdk: Sdk) {
    let hub = Hub::start_with_rest().await;
    create(&hub, &device("d"));
    create(&hub, &module("d", "m"));
    connect(&hub, &device("d"))
        .report(br#"{"rpm":1500}"#)
        .unwrap();
    let patch = |interval: u64| json!({ "tags": { "site": 5 }, "properties": { "desired": { "interval": interval } } });
    let outcomes = steps(
        sdk,
        &hub,
        json!([
            ["getTwin", "d", null],
            ["updateTwin", "d", null, patch(1), "AAAAAAAAAAE="],
            ["updateTwin", "d", null, patch(2), "AAAAAAAAAAE="],
            ["updateTwin", "d", null, patch(3), "*"],
            ["readAndUpdateTwin", "d", patch(4)],
            ["updateTwin", "d", "m", patch(5), "*"],
            ["getTwin", "d", "m"],
            ["getTwin", "unknown", null],
            ["updateTwin", "d", null, { "properties": { "desired": { "a.b": 1 } } }, "*"],
        ]),
    )
    .await;
    let read = &outcomes[0]["ok"];
    assert_eq!(read["etag"], "AAAAAAAAAAE=");
    assert_eq!(read["properties"]["reported"]["rpm"], 1500);
    let interval = |at: usize| &outcomes[at]["ok"]["properties"]["desired"]["interval"];
    assert_eq!(interval(1), 1);
    assert_eq!(outcomes[1]["ok"]["tags"], json!({ "site": 5 }));
    assert_eq!(refusal(&outcomes[2]), refused(412, "PreconditionFailed"));
    assert_eq!(
        (interval(3), interval(4), interval(5)),
        (&json!(3), &json!(4), &json!(5))
    );
    assert_eq!(outcomes[6]["ok"]["moduleId"], "m");
    assert_eq!(interval(6), 5);
    assert_eq!(refusal(&outcomes[7]), refused(404, "DeviceNotFound"));
    assert_eq!(refusal(&outcomes[8]), refused(400, "ArgumentInvalid"));
}

async fn replaces_twins(sdk: Sdk) {
    if sdk == Sdk::JavaScript {
        // That SDK has no such operation.
        return;
    }
    let hub = Hub::start_with_rest().await;
    create(&hub, &device("d"));
    let whole = |key: &str| json!({ "tags": { key: 1 }, "properties": { "desired": { key: 1 } } });
    let outcomes = steps(
        sdk,
        &hub,
        json!([
            ["updateTwin", "d", null, whole("old"), "*"],
            ["replaceTwin", "d", whole("new"), "*"],
        ]),
    )
    .await;
    let replaced = &outcomes[1]["ok"];
    assert_eq!(replaced["tags"], json!({ "new": 1 }));
    assert_eq!(replaced["properties"]["desired"].get("old"), None);
}

async fn queries_page_by_page(sdk: Sdk) {
    let hub = Hub::start_with_rest().await;
    for number in 0..5 {
        create(&hub, &device(&format!("d{number}")));
    }
    let outcomes = steps(
        sdk,
        &hub,
        json!([
            ["query", "SELECT * FROM devices", 2],
            ["query", "SELECT * FROM devices WHERE deviceId = 'd3'", 2],
            ["query", "SELECT * FROM devices WHERE deviceId = 'd9'", 2],
            ["query", "SELECT * FROM nothing", 2],
        ]),
    )
    .await;
    assert_eq!(
        outcomes[0]["ok"],
        json!([["d0", "d1"], ["d2", "d3"], ["d4"]])
    );
    assert_eq!(outcomes[1]["ok"], json!([["d3"]]));
    assert_eq!(outcomes[2]["ok"], json!([[]]));
    assert_eq!(refusal(&outcomes[3]), refused(400, "ArgumentInvalid"));
}

async fn calls_methods_of_devices_and_modules(sdk: Sdk) {
    let hub = Hub::start_with_rest().await;
    let identities = [device("d"), module("d", "m")];
    let devices: Vec<_> = identities
        .iter()
        .map(|id| {
            create(&hub, id);
            tokio::spawn(be_a_device(connect(&hub, id)))
        })
        .collect();
    let payload = json!({ "list": [1, 2.5, null, "ä"], "nested": { "on": true } });
    let call = json!({ "methodName": "echo", "payload": payload, "responseTimeoutInSeconds": 20 });
    let outcomes = steps(
        sdk,
        &hub,
        json!([
            ["invokeMethod", "d", null, call],
            ["invokeMethod", "d", "m", call],
            ["invokeMethod", "d", null, { "methodName": "echo" }],
        ]),
    )
    .await;
    for outcome in &outcomes[..2] {
        assert_eq!(outcome["ok"], json!({ "status": 207, "payload": payload }));
    }
    assert_eq!(outcomes[2]["ok"]["status"], 207);
    for device in devices {
        device.abort();
    }
}

async fn tells_unknown_offline_silent_and_gone_devices_apart(sdk: Sdk) {
    let hub = Hub::start_with_rest().await;
    create(&hub, &device("offline"));
    create(&hub, &device("d"));
    let online = tokio::spawn(be_a_device(connect(&hub, &device("d"))));
    let call = |name: &str| json!({ "methodName": name, "responseTimeoutInSeconds": 5 });
    let outcomes = steps(
        sdk,
        &hub,
        json!([
            ["invokeMethod", "unknown", null, call("echo")],
            ["invokeMethod", "d", "unknown", call("echo")],
            ["invokeMethod", "offline", null, call("echo")],
            ["invokeMethod", "d", null, call("be silent")],
            ["invokeMethod", "d", null, call("leave")],
            ["invokeMethod", "d", null, { "methodName": "echo", "responseTimeoutInSeconds": 1 }],
        ]),
    )
    .await;
    let refusals: Vec<_> = outcomes.iter().map(refusal).collect();
    assert_eq!(
        refusals,
        [
            refused(404, "404001"),
            refused(404, "404010"),
            refused(404, "404103"),
            refused(504, "504101"),
            refused(404, "404104"),
            refused(400, "400004"),
        ]
    );
    online.await.unwrap();
}

async fn is_refused_with_a_wrong_key_and_when_throttled(sdk: Sdk) {
    let hub = Hub::start_with_rest().await;
    let get = json!([["getTwin", "d", null]]);
    let own = hub.devhub().iot_hub_service_connection_string().unwrap();
    let other = Hub::start_with_rest().await;
    let key = other.devhub().iot_hub().policy_key("iothubowner").unwrap();
    let (start, _) = own.split_once("SharedAccessKey=").unwrap();
    let wrong = format!("{start}SharedAccessKey={}", key.expose());
    let outcomes = steps_with(sdk, &wrong, hub.certificate_authority(), get.clone()).await;
    assert_eq!(refusal(&outcomes[0]), refused(401, "IotHubUnauthorized"));

    let fault = devhub::service_api::ServiceFault {
        status: Some(429),
        ..devhub::service_api::ServiceFault::default()
    };
    hub.devhub().faults().meet_service_requests(fault);
    let outcomes = steps(sdk, &hub, get).await;
    assert_eq!(refusal(&outcomes[0]), refused(429, "ThrottlingException"));
}
