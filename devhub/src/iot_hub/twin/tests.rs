//! The engine against the examples of Azure's documentation.

use proptest::prelude::*;

use super::*;

/// 2022-01-16T16:36:53.814Z
const CREATED_MS: i64 = 1_642_351_013_814;
const CHANGED_MS: i64 = CREATED_MS + 1_000;
const CREATED: &str = "2022-01-16T16:36:53.8140000Z";
const CHANGED: &str = "2022-01-16T16:36:54.8140000Z";

fn twin() -> Twin {
    Twin::new(CREATED_MS)
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn update(twin: &mut Twin, patch: &Value) -> TwinChange {
    twin.update(patch, CHANGED_MS).unwrap().unwrap()
}

#[test]
fn a_new_twin_has_the_versions_of_azure_and_no_tags() {
    let side = json!({ "$metadata": { "$lastUpdated": CREATED }, "$version": 1 });
    assert_eq!(
        Value::from(twin().document()),
        json!({
            "etag": "AAAAAAAAAAE=",
            "version": 2,
            "properties": { "desired": side, "reported": side },
        })
    );
}

#[test]
fn an_update_merges_both_sections_and_tells_only_what_changed() {
    let mut twin = twin();
    update(
        &mut twin,
        &json!({
            "tags": { "site": 4, "line": { "name": "a", "old": true } },
            "properties": { "desired": { "interval": 50, "mode": { "eco": true } } },
        }),
    );
    let change = update(
        &mut twin,
        &json!({
            "tags": { "site": 5, "line": { "old": null } },
            "properties": { "desired": { "interval": 55, "mode": null, "$version": 7 } },
        }),
    );
    let stamp = json!({ "$lastUpdated": CHANGED, "$lastUpdatedVersion": 3 });
    assert_eq!(
        change.event_body,
        json!({
            "version": 4,
            "tags": { "site": 5, "line": { "old": null } },
            "properties": { "desired": {
                "interval": 55,
                "mode": null,
                "$metadata": { "$lastUpdated": CHANGED, "$lastUpdatedVersion": 3, "interval": stamp },
                "$version": 3,
            } },
        })
    );
    assert_eq!(
        change.desired,
        Some(DesiredPatch {
            version: 3,
            patch: object(&json!({ "interval": 55, "mode": null })),
        })
    );
    let document = Value::from(twin.document());
    assert_eq!(
        document["tags"],
        json!({ "site": 5, "line": { "name": "a" } })
    );
    assert_eq!(
        document["properties"]["desired"],
        json!({
            "interval": 55,
            "$metadata": { "$lastUpdated": CHANGED, "$lastUpdatedVersion": 3, "interval": stamp },
            "$version": 3,
        })
    );
    assert_eq!(document["etag"], "AAAAAAAAAAM=");
}

#[test]
fn metadata_keeps_what_was_not_touched() {
    let mut twin = twin();
    let report =
        |twin: &mut Twin, patch: Value, at_ms| twin.report(&object(&patch), at_ms).unwrap();
    report(
        &mut twin,
        json!({ "network": { "rssi": -61, "ssid": "a" }, "fault": 1 }),
        CREATED_MS,
    );
    let change = report(
        &mut twin,
        json!({ "network": { "rssi": -70 }, "fault": null }),
        CHANGED_MS,
    );
    let then = json!({ "$lastUpdated": CREATED });
    let now = json!({ "$lastUpdated": CHANGED });
    assert_eq!(
        change.event_body["properties"]["reported"],
        json!({
            "network": { "rssi": -70 },
            "fault": null,
            "$metadata": { "$lastUpdated": CHANGED, "network": { "$lastUpdated": CHANGED, "rssi": now } },
            "$version": 3,
        })
    );
    assert_eq!(
        twin.document()["properties"]["reported"],
        json!({
            "network": { "rssi": -70, "ssid": "a" },
            "$metadata": {
                "$lastUpdated": CHANGED,
                "network": { "$lastUpdated": CHANGED, "rssi": now, "ssid": then },
            },
            "$version": 3,
        })
    );
}

#[test]
fn what_the_device_reports_counts_but_leaves_the_etag() {
    let mut twin = twin();
    let etag = twin.etag();
    let change = twin
        .report(&object(&json!({ "a": 1 })), CHANGED_MS)
        .unwrap();
    assert_eq!(change.desired, None);
    assert_eq!((twin.version(), twin.reported_version()), (3, 2));
    assert_eq!(twin.etag(), etag);
    update(&mut twin, &json!({ "tags": { "a": 1 } }));
    assert_ne!(twin.etag(), etag);
    assert_eq!(
        twin.device_document(),
        json!({ "desired": { "$version": 1 }, "reported": { "a": 1, "$version": 2 } })
    );
}

#[test]
fn a_replacement_removes_what_it_does_not_hold_and_tells_the_device_so() {
    let mut twin = twin();
    update(
        &mut twin,
        &json!({
            "tags": { "site": 1 },
            "properties": { "desired": { "kept": 1, "mode": { "a": 1, "b": 2 }, "gone": 1 } },
        }),
    );
    let patch = twin
        .replace(
            &json!({ "properties": { "desired": { "kept": 1, "mode": { "a": 3 } }, "reported": { "x": 1 } } }),
            CHANGED_MS,
        )
        .unwrap();
    assert_eq!(
        patch,
        DesiredPatch {
            version: 3,
            patch: object(&json!({ "mode": { "a": 3, "b": null }, "gone": null })),
        }
    );
    let document = twin.document();
    assert_eq!(document.get("tags"), None);
    assert_eq!(
        twin.device_document(),
        json!({
            "desired": { "kept": 1, "mode": { "a": 3 }, "$version": 3 },
            "reported": { "$version": 1 },
        })
    );
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut twin = twin();
    update(&mut twin, &json!({ "tags": { "a": 1 } }));
    let before = Value::from(twin.document());
    let bad_patches = [
        (json!([]), "the twin must be a JSON object"),
        (json!({ "tags": 1 }), "tags must be a JSON object"),
        (
            json!({ "properties": [] }),
            "properties must be a JSON object",
        ),
        (
            json!({ "tags": { "b": 1 }, "properties": { "desired": null } }),
            "properties.desired must be a JSON object",
        ),
        (
            json!({ "tags": { "b": 1 }, "properties": { "desired": { "a.b": 1 } } }),
            "a key in properties.desired is empty or has a control character, '.', '$' or a space",
        ),
        (
            json!({ "tags": { "b": "x".repeat(4096), "c": "x".repeat(4096) } }),
            "tags is larger than 8 KB",
        ),
    ];
    for (patch, message) in bad_patches {
        let error = twin.update(&patch, CHANGED_MS).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (ErrorCode::ArgumentInvalid, message)
        );
        let error = twin.replace(&patch, CHANGED_MS).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (ErrorCode::ArgumentInvalid, message)
        );
        assert_eq!(Value::from(twin.document()), before);
    }
    assert_eq!(twin.update(&json!({ "status": "x" }), CHANGED_MS), Ok(None));
    assert!(
        twin.report(&object(&json!({ "$version": 1 })), CHANGED_MS)
            .is_err()
    );
    assert_eq!(Value::from(twin.document()), before);
}

#[test]
fn an_etag_that_is_not_the_stored_one_is_refused() {
    let etag = twin().etag();
    assert_eq!(IfMatch::Any.check(&etag), Ok(()));
    assert_eq!(IfMatch::Etag(etag.clone()).check(&etag), Ok(()));
    let error = IfMatch::Etag("AAAAAAAAAAI=".to_owned())
        .check(&etag)
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::PreconditionFailed);
}

/// What can happen to a twin.
#[derive(Clone, Debug)]
enum Step {
    Update(Value),
    Replace(Value),
    Report(Map<String, Value>),
}

fn patch() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i8>().prop_map(Value::from),
        Just(json!([1, null])),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        proptest::collection::btree_map("[abc]", inner, 0..3)
            .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into())
    });
    proptest::collection::btree_map("[abc]", value, 0..3)
        .prop_map(|members| members.into_iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    let sections = || {
        (proptest::option::of(patch()), proptest::option::of(patch())).prop_map(
            |(tags, desired)| {
                let mut sections = json!({});
                if let Some(tags) = tags {
                    sections["tags"] = tags.into();
                }
                if let Some(desired) = desired {
                    sections["properties"]["desired"] = desired.into();
                }
                sections
            },
        )
    };
    prop_oneof![
        sections().prop_map(Step::Update),
        sections().prop_map(Step::Replace),
        patch().prop_map(Step::Report),
    ]
}

/// A twin's tags, desired and reported values with their versions, as somebody knows them who was told all changes.
#[derive(Debug, PartialEq)]
struct Known {
    version: Value,
    tags: Map<String, Value>,
    desired: Map<String, Value>,
    reported: Map<String, Value>,
}

impl Known {
    fn of(document: &Value) -> Self {
        let section = |value: Option<&Value>| {
            let mut values = value.map(object).unwrap_or_default();
            values.remove("$metadata");
            values
        };
        let properties = &document["properties"];
        Self {
            version: document["version"].clone(),
            tags: section(document.get("tags")),
            desired: section(properties.get("desired")),
            reported: section(properties.get("reported")),
        }
    }

    fn hear(&mut self, update: &Value) {
        let told = Self::of(update);
        self.version = told.version;
        merge(&mut self.tags, &told.tags);
        merge(&mut self.desired, &told.desired);
        merge(&mut self.reported, &told.reported);
    }
}

proptest! {
    #[test]
    fn whoever_hears_all_changes_knows_the_twin(steps in proptest::collection::vec(step(), 0..12)) {
        let mut twin = twin();
        let mut listener = Known::of(&twin.document().into());
        let mut device = listener.desired.clone();
        for step in steps {
            let desired = match step {
                Step::Update(patch) => {
                    let Some(change) = twin.update(&patch, CHANGED_MS).unwrap() else {
                        continue;
                    };
                    listener.hear(&change.event_body);
                    change.desired
                }
                Step::Replace(whole) => {
                    let desired = twin.replace(&whole, CHANGED_MS).unwrap();
                    listener = Known::of(&twin.document().into());
                    Some(desired)
                }
                Step::Report(patch) => {
                    listener.hear(&twin.report(&patch, CHANGED_MS).unwrap().event_body);
                    None
                }
            };
            if let Some(DesiredPatch { version, patch }) = desired {
                merge(&mut device, &patch);
                device.insert("$version".to_owned(), version.into());
            }
            prop_assert_eq!(&listener, &Known::of(&twin.document().into()));
            prop_assert_eq!(&device, &object(&twin.device_document()["desired"]));
        }
    }
}
