//! Twins between services, devices and the event hub.

use super::*;

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

#[test]
fn changes_made_at_the_same_time_are_told_in_their_order() {
    const THREADS: u64 = 8;
    const CHANGES_EACH: u64 = 50;

    let fixture = Fixture::new();
    fixture.create(&press());
    let link = fixture.connect(&press());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (hub, link) = (&fixture.hub, &link);
            scope.spawn(move || {
                for number in 0..CHANGES_EACH {
                    if thread % 2 == 0 {
                        let patch = json!({ "tags": { "n": number } });
                        hub.update_twin(&press(), &patch, &IfMatch::Any).unwrap();
                    } else {
                        link.report(br#"{"n":1}"#).unwrap();
                    }
                }
            });
        }
    });
    let versions: Vec<_> = fixture.told()[1..]
        .iter()
        .map(|event| event.body["version"].as_u64().unwrap())
        .collect();
    let expected: Vec<_> = (3..3 + THREADS * CHANGES_EACH).collect();
    assert_eq!(versions, expected);
}
