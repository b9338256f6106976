//! Identities and their numbers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Fixture, device, module, sent};

#[tokio::test]
async fn a_device_is_created_read_updated_and_deleted() {
    let fixture = Fixture::start().await;
    let created = fixture
        .send(
            &Method::PUT,
            "/devices/press-01",
            &json!({ "deviceId": "press-01" }),
        )
        .await;
    assert_eq!(created.status, 200);
    assert_eq!(created.body["status"], "enabled");
    assert_eq!(created.body["connectionState"], "Disconnected");
    assert_eq!(created.body["authentication"]["type"], "sas");
    let keys = &created.body["authentication"]["symmetricKey"];
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
    let etag = created.etag.clone().unwrap();
    assert_eq!(
        etag,
        format!("\"{}\"", created.body["etag"].as_str().unwrap())
    );
    assert_eq!(fixture.get("/devices/press-01").await.body, created.body);

    let again = fixture
        .send(
            &Method::PUT,
            "/devices/press-01",
            &json!({ "deviceId": "press-01" }),
        )
        .await;
    assert_eq!(again.refusal(), (409, "DeviceAlreadyExists"));

    let mut changed = created.body.clone();
    changed["status"] = "disabled".into();
    changed["statusReason"] = "stolen".into();
    let updated = fixture
        .send_if_match(&Method::PUT, "/devices/press-01", &etag, &changed)
        .await;
    assert_eq!(updated.status, 200);
    assert_eq!(updated.body["statusReason"], "stolen");
    assert_eq!(updated.body["generationId"], created.body["generationId"]);
    assert_eq!(
        updated.body["authentication"],
        created.body["authentication"]
    );
    assert_ne!(updated.etag, created.etag);

    let stale = fixture
        .send_if_match(&Method::PUT, "/devices/press-01", &etag, &changed)
        .await;
    assert_eq!(stale.refusal(), (412, "PreconditionFailed"));
    let statistics = fixture.get("/statistics/devices").await;
    assert_eq!(
        statistics.body,
        json!({ "totalDeviceCount": 1, "enabledDeviceCount": 0, "disabledDeviceCount": 1 })
    );

    let delete = fixture.request(&Method::DELETE, "/devices/press-01");
    let stale = sent(delete.header("if-match", etag)).await;
    assert_eq!(stale.refusal(), (412, "PreconditionFailed"));
    let delete = fixture.request(&Method::DELETE, "/devices/press-01");
    assert_eq!(sent(delete.header("if-match", "\"*\"")).await.status, 204);
    let gone = fixture.get("/devices/press-01").await;
    assert_eq!(gone.refusal(), (404, "DeviceNotFound"));
    assert_eq!(
        gone.body["Message"],
        "ErrorCode:DeviceNotFound;device 'press-01' is not registered"
    );
}

#[tokio::test]
async fn modules_belong_to_a_device_and_are_listed_with_it() {
    let fixture = Fixture::start().await;
    let form = json!({ "deviceId": "d", "moduleId": "m" });
    let early = fixture
        .send(&Method::PUT, "/devices/d/modules/m", &form)
        .await;
    assert_eq!(early.refusal(), (404, "DeviceNotFound"));
    fixture.create(&device("d"));
    fixture.create(&device("d-2"));
    let created = fixture
        .send(&Method::PUT, "/devices/d/modules/m", &form)
        .await;
    assert_eq!(
        (created.status, &created.body["moduleId"]),
        (200, &json!("m"))
    );
    let again = fixture
        .send(&Method::PUT, "/devices/d/modules/m", &form)
        .await;
    assert_eq!(again.refusal(), (409, "ModuleAlreadyExistsOnDevice"));
    assert_eq!(fixture.get("/devices/d/modules/m").await.body, created.body);
    assert_eq!(
        fixture.get("/devices/d/modules").await.body,
        json!([created.body])
    );
    assert_eq!(fixture.get("/devices/d-2/modules").await.body, json!([]));
    assert_eq!(
        fixture.get("/devices/d/modules/n").await.refusal(),
        (404, "ModuleNotFound")
    );
    for path in ["/devices", "/devices/", "/devices?top=2"] {
        let listed = fixture.get(path).await.body;
        let ids: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["deviceId"])
            .collect();
        assert_eq!(ids, ["d", "d-2"], "{path}");
    }
    assert_eq!(
        fixture
            .get("/devices?top=1")
            .await
            .body
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let delete = fixture.request(&Method::DELETE, "/devices/d/modules/m");
    assert_eq!(sent(delete).await.status, 204);
    assert_eq!(fixture.get("/devices/d/modules").await.body, json!([]));
}

#[tokio::test]
async fn ids_are_percent_encoded_in_paths() {
    let fixture = Fixture::start().await;
    let id = "a%2F:b(c)*?'";
    let path = "/devices/a%252F%3Ab(c)*%3F%27";
    let created = fixture
        .send(&Method::PUT, path, &json!({ "deviceId": id }))
        .await;
    assert_eq!(
        (created.status, &created.body["deviceId"]),
        (200, &json!(id))
    );
    assert_eq!(fixture.get(path).await.status, 200);
    assert!(fixture.devhub.iot_hub().identity(&device(id)).is_ok());
    for path in [
        "/devices/a%2Fb",
        "/devices/a%20b",
        "/devices/%C3%A4",
        "/devices/%FF",
    ] {
        assert_eq!(
            fixture.get(path).await.refusal(),
            (400, "ArgumentInvalid"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn bad_registrations_are_refused_by_name() {
    let fixture = Fixture::start().await;
    let keys = |primary: &str| json!({ "deviceId": "d", "authentication": { "symmetricKey": { "primaryKey": primary, "secondaryKey": primary } } });
    let cases = [
        (json!({}), "missing field `deviceId`"),
        (
            json!({ "deviceId": "e" }),
            "deviceId must be that of the path",
        ),
        (
            json!({ "deviceId": "d", "moduleId": "m" }),
            "moduleId must be that of the path",
        ),
        (
            json!({ "deviceId": "d", "status": "asleep" }),
            "unknown variant `asleep`",
        ),
        (keys("short"), "authentication.symmetricKey must have keys"),
        (
            json!({ "deviceId": "d", "authentication": { "type": "certificateAuthority" } }),
            "authentication.type must be sas or selfSigned",
        ),
        (
            json!({ "deviceId": "d", "authentication": { "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": "12" } } }),
            "authentication.x509Thumbprint must have",
        ),
    ];
    for (form, message) in cases {
        let answer = fixture.send(&Method::PUT, "/devices/d", &form).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{form}");
        let told = answer.body["Message"].as_str().unwrap();
        assert!(told.contains(message), "{form}: {told}");
    }
    assert_eq!(fixture.get("/devices/d").await.status, 404);
    let thumbprint = "A".repeat(40);
    let form = json!({
        "deviceId": "d",
        "authentication": { "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": thumbprint } },
    });
    assert_eq!(
        fixture.send(&Method::PUT, "/devices/d", &form).await.status,
        200
    );
    let twin = fixture.get("/twins/d").await.body;
    assert_eq!(twin["authenticationType"], "selfSigned");
    assert_eq!(twin["x509Thumbprint"]["primaryThumbprint"], thumbprint);
}

#[tokio::test]
async fn many_changes_at_once_stand_each_for_itself() {
    let fixture = Fixture::start().await;
    fixture.create(&device("old"));
    fixture.create(&module("old", "m"));
    let changes = json!([
        { "id": "new-1", "importMode": "create" },
        { "id": "new-2", "importMode": "create", "status": "disabled" },
        { "id": "old", "importMode": "create" },
        { "id": "old", "moduleId": "m", "importMode": "Delete" },
        { "id": "old", "importMode": "deleteIfMatchETag", "eTag": "AAAA" },
    ]);
    let answer = fixture.send(&Method::POST, "/devices", &changes).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body["isSuccessful"], false);
    let errors: Vec<_> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (&error["deviceId"], &error["errorCode"]))
        .collect();
    let expected = [
        (&json!("old"), &json!("DeviceAlreadyExists")),
        (&json!("old"), &json!("PreconditionFailed")),
    ];
    assert_eq!(errors, expected);
    assert_eq!(
        fixture.get("/statistics/devices").await.body,
        json!({ "totalDeviceCount": 3, "enabledDeviceCount": 2, "disabledDeviceCount": 1 })
    );
    assert_eq!(fixture.get("/devices/old/modules").await.body, json!([]));
    let good = json!([{ "id": "new-1", "importMode": "Delete" }]);
    let answer = fixture.send(&Method::POST, "/devices/", &good).await;
    assert_eq!(
        (answer.status, &answer.body["isSuccessful"]),
        (200, &json!(true))
    );
    let too_many: Vec<Value> = (0..101)
        .map(|number| json!({ "id": number.to_string(), "importMode": "create" }))
        .collect();
    let answer = fixture
        .send(&Method::POST, "/devices", &too_many.into())
        .await;
    assert_eq!(answer.refusal(), (413, "TooManyDevices"));
}
