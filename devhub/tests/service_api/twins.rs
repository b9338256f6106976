//! Twins of devices and modules.

use reqwest::Method;
use serde_json::json;

use crate::client::{Fixture, device, module, sent};

#[tokio::test]
async fn a_twin_is_read_patched_and_replaced_under_its_etag() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    fixture.create(&module("d", "m"));
    for path in ["/twins/d", "/twins/d/modules/m"] {
        let read = fixture.get(path).await;
        assert_eq!(read.status, 200);
        assert_eq!(read.body["version"], 2);
        assert_eq!(read.body["properties"]["desired"]["$version"], 1);
        let etag = read.etag.unwrap();
        assert_eq!(etag, "\"AAAAAAAAAAE=\"");
        assert_eq!(read.body["etag"], "AAAAAAAAAAE=");

        let patch = json!({
            "tags": { "site": 5 },
            "properties": { "desired": { "interval": 55, "mode": { "eco": true } } },
        });
        let patched = fixture
            .send_if_match(&Method::PATCH, path, &etag, &patch)
            .await;
        assert_eq!(patched.status, 200);
        assert_eq!(patched.body["tags"], json!({ "site": 5 }));
        assert_eq!(patched.body["properties"]["desired"]["interval"], 55);
        assert_eq!(fixture.get(path).await.body, patched.body);
        let stale = fixture
            .send_if_match(&Method::PATCH, path, &etag, &patch)
            .await;
        assert_eq!(stale.refusal(), (412, "PreconditionFailed"));
        assert_eq!(fixture.get(path).await.body, patched.body);

        let any = fixture
            .send_if_match(
                &Method::PATCH,
                path,
                "*",
                &json!({ "tags": { "site": null } }),
            )
            .await;
        assert_eq!((any.status, any.body.get("tags")), (200, None));
        let whole = json!({ "tags": { "line": 1 }, "properties": { "desired": { "a": 1 } } });
        let replaced = fixture
            .send_if_match(&Method::PUT, path, &any.etag.unwrap(), &whole)
            .await;
        assert_eq!(replaced.status, 200);
        assert_eq!(replaced.body["properties"]["desired"].get("interval"), None);
        assert_eq!(replaced.body["properties"]["desired"]["$version"], 3);
        assert_eq!(replaced.body["tags"], json!({ "line": 1 }));
    }
    assert_eq!(fixture.get("/twins/d").await.body.get("moduleId"), None);
    assert_eq!(
        fixture.get("/twins/d/modules/m").await.body["moduleId"],
        "m"
    );
}

#[tokio::test]
async fn a_twin_that_was_read_can_be_sent_back() {
    let fixture = Fixture::start().await;
    fixture.create(&device("d"));
    let link = fixture.connect(&device("d"));
    link.report(br#"{"rpm":1500}"#).unwrap();
    let patch = json!({ "properties": { "desired": { "a": 1 } } });
    fixture.send(&Method::PATCH, "/twins/d", &patch).await;
    let read = fixture.get("/twins/d").await.body;
    let replaced = fixture.send(&Method::PUT, "/twins/d", &read).await;
    assert_eq!(replaced.status, 200);
    assert_eq!(replaced.body["properties"]["desired"]["a"], 1);
    assert_eq!(
        replaced.body["properties"]["reported"],
        read["properties"]["reported"]
    );
    assert_eq!(replaced.body["connectionState"], "Connected");
}

#[tokio::test]
async fn bad_patches_and_unknown_twins_are_refused_and_change_nothing() {
    let fixture = Fixture::start().await;
    assert_eq!(
        fixture.get("/twins/d").await.refusal(),
        (404, "DeviceNotFound")
    );
    fixture.create(&device("d"));
    assert_eq!(
        fixture.get("/twins/d/modules/m").await.refusal(),
        (404, "ModuleNotFound")
    );
    let before = fixture.get("/twins/d").await.body;
    for bad in [
        json!([]),
        json!({ "tags": 1 }),
        json!({ "properties": { "desired": { "a.b": 1 } } }),
        json!({ "properties": { "desired": { "a": "x".repeat(40 * 1024) } } }),
    ] {
        let answer = fixture.send(&Method::PATCH, "/twins/d", &bad).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"));
    }
    let request = fixture.request(&Method::PATCH, "/twins/d");
    assert_eq!(
        sent(request.body("{")).await.refusal(),
        (400, "ArgumentInvalid")
    );
    let request = fixture.request(&Method::PATCH, "/twins/d");
    let large = format!("{{\"tags\":{{\"a\":\"{}\"}}}}", "x".repeat(600 * 1024));
    assert_eq!(
        sent(request.body(large)).await.refusal(),
        (413, "MessageTooLarge")
    );
    assert_eq!(fixture.get("/twins/d").await.body, before);
}
