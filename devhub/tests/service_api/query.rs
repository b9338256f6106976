//! Queries over twins.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Fixture, device, module, sent};

async fn page(fixture: &Fixture, query: &str, size: usize, after: Option<&str>) -> Answer {
    let mut request = fixture
        .request(&Method::POST, "/devices/query")
        .header("x-ms-max-item-count", size)
        .json(&json!({ "query": query }));
    if let Some(after) = after {
        request = request.header("x-ms-continuation", after);
    }
    sent(request).await
}

fn ids(page: &Answer) -> Vec<&str> {
    let twins = page.body.as_array().unwrap().iter();
    twins
        .map(|twin| twin["deviceId"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_and_the_last_says_so() {
    let fixture = Fixture::start().await;
    for number in 0..5 {
        let id = device(&format!("d{number}"));
        fixture.create(&id);
        fixture.create(&module(id.device_id(), "m"));
    }
    let all = "SELECT * FROM devices";
    let first = page(&fixture, all, 2, None).await;
    assert_eq!(ids(&first), ["d0", "d1"]);
    // What is created or deleted between two pages moves nothing.
    fixture.create(&device("d00"));
    let second = page(&fixture, all, 2, first.continuation.as_deref()).await;
    assert_eq!(ids(&second), ["d2", "d3"]);
    let third = page(&fixture, all, 2, second.continuation.as_deref()).await;
    assert_eq!((ids(&third), &third.continuation), (vec!["d4"], &None));
    let exact = page(&fixture, all, 6, None).await;
    assert_eq!((ids(&exact).len(), &exact.continuation), (6, &None));

    let modules = page(&fixture, "SELECT * FROM devices.modules", 3, None).await;
    assert_eq!(modules.body[2]["moduleId"], "m");
    let rest = page(
        &fixture,
        "SELECT * FROM devices.modules",
        3,
        modules.continuation.as_deref(),
    )
    .await;
    assert_eq!(ids(&rest), ["d3", "d4"]);
}

#[tokio::test]
async fn conditions_are_met_by_tags_and_both_sides_of_properties() {
    let fixture = Fixture::start().await;
    for (id, site, interval) in [("a", "Ulm", 1), ("b", "Ulm", 2), ("c", "Linz", 1)] {
        fixture.create(&device(id));
        let patch = json!({ "tags": { "site": site }, "properties": { "desired": { "interval": interval } } });
        fixture
            .send(&Method::PATCH, &format!("/twins/{id}"), &patch)
            .await;
    }
    fixture
        .connect(&device("c"))
        .report(br#"{"rpm":1500}"#)
        .unwrap();
    for (condition, expected) in [
        ("tags.site = 'Ulm'", vec!["a", "b"]),
        (
            "tags.site = 'Ulm' AND properties.desired.interval = 2",
            vec!["b"],
        ),
        ("properties.reported.rpm = 1500", vec!["c"]),
        ("deviceId IN ['a', 'c', 'x']", vec!["a", "c"]),
        ("tags.site = 'Wien'", vec![]),
    ] {
        let query = format!("SELECT * FROM devices WHERE {condition}");
        let found = page(&fixture, &query, 10, None).await;
        assert_eq!(ids(&found), expected, "{condition}");
    }
}

#[tokio::test]
async fn what_is_not_a_query_is_refused() {
    let fixture = Fixture::start().await;
    for body in [
        json!({}),
        json!({ "query": "" }),
        json!({ "query": "SELECT * FROM devices.jobs" }),
        json!({ "query": "SELECT * FROM devices WHERE a > 1" }),
    ] {
        let answer = fixture.send(&Method::POST, "/devices/query", &body).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{body}");
    }
    let all: Value = json!({ "query": "SELECT * FROM devices" });
    for (header, value) in [
        ("x-ms-max-item-count", "0"),
        ("x-ms-max-item-count", "many"),
        ("x-ms-continuation", "made up"),
    ] {
        let request = fixture.request(&Method::POST, "/devices/query");
        let answer = sent(request.header(header, value).json(&all)).await;
        assert_eq!(
            answer.refusal(),
            (400, "ArgumentInvalid"),
            "{header}: {value}"
        );
    }
}
