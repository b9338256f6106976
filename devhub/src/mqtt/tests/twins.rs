//! Twins, as devices see them.

use serde_json::{Value, json};

use super::*;
use crate::iot_hub::IfMatch;

const ANSWERS: (&str, QoS) = ("$iothub/twin/res/#", QoS::AtMostOnce);
const DESIRED: (&str, QoS) = ("$iothub/twin/PATCH/properties/desired/#", QoS::AtMostOnce);

fn desire(bench: &Bench, id: &IdentityId, desired: &Value) {
    let patch = json!({ "properties": { "desired": desired } });
    bench.hub.update_twin(id, &patch, &IfMatch::Any).unwrap();
}

async fn received_json(client: &mut Client) -> (String, Value) {
    let (topic, body) = client.received().await;
    (topic, serde_json::from_str(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_twin_is_read_and_reported() {
    let bench = Bench::new();
    for id in [device(), module()] {
        let mut client = bench.connected(&id).await;
        client.subscribe(&[ANSWERS]).await;
        desire(&bench, &id, &json!({ "interval": 5 }));
        client
            .publish(
                "$iothub/twin/PATCH/properties/reported/?$rid=a-1",
                r#"{"fw":"1"}"#,
            )
            .await;
        assert_eq!(
            client.received().await,
            (
                "$iothub/twin/res/204/?$rid=a-1&$version=2".to_owned(),
                String::new()
            )
        );
        client.publish("$iothub/twin/GET/?$rid=a-2", " ").await;
        assert_eq!(
            received_json(&mut client).await,
            (
                "$iothub/twin/res/200/?$rid=a-2".to_owned(),
                json!({
                    "desired": { "interval": 5, "$version": 2 },
                    "reported": { "fw": "1", "$version": 2 },
                })
            )
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_is_refused_is_answered_with_why() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    client.subscribe(&[ANSWERS]).await;
    for patch in ["", "{", "[1]", "7", r#"{"a.b":1}"#] {
        client
            .publish("$iothub/twin/PATCH/properties/reported/?$rid=7", patch)
            .await;
        let (topic, body) = received_json(&mut client).await;
        assert_eq!(topic, "$iothub/twin/res/400/?$rid=7", "{patch}");
        assert_eq!(body["errorCode"], 400_004, "{patch}");
        assert!(body["message"].is_string(), "{patch}");
    }
    let twin = bench.hub.twin(&device()).unwrap();
    assert_eq!(twin["properties"]["reported"]["$version"], 1);
}

#[tokio::test(start_paused = true)]
async fn changes_of_desired_properties_are_told_while_subscribed() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    desire(&bench, &device(), &json!({ "missed": 1 }));
    client.subscribe(&[DESIRED]).await;
    desire(&bench, &device(), &json!({ "interval": 5, "missed": null }));
    let tags = json!({ "tags": { "site": "north" } });
    bench
        .hub
        .update_twin(&device(), &tags, &IfMatch::Any)
        .unwrap();
    assert_eq!(
        received_json(&mut client).await,
        (
            "$iothub/twin/PATCH/properties/desired/?$version=3".to_owned(),
            json!({ "interval": 5, "missed": null, "$version": 3 })
        )
    );
    client.settled().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_not_subscribed_to_answers_gets_none() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    client.publish("$iothub/twin/GET/?$rid=1", "").await;
    client.settled().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_filters_of_an_iot_hub_are_granted_and_none_above_1() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    let granted = client
        .subscribe(&[
            ANSWERS,
            ("#", QoS::AtMostOnce),
            ("devices/press-02/messages/devicebound/#", QoS::AtMostOnce),
            (DESIRED.0, QoS::ExactlyOnce),
        ])
        .await;
    assert_eq!(
        granted,
        [
            SubscribeReasonCode::Success(QoS::AtMostOnce),
            SubscribeReasonCode::Failure,
            SubscribeReasonCode::Failure,
            SubscribeReasonCode::Success(QoS::AtLeastOnce),
        ]
    );
}
