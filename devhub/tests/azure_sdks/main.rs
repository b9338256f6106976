//! Microsoft's own SDKs against devhub, unmodified: what they are told, what they send, what they receive. Event Hubs
//! is here, devices are in `devices`, back ends in `services`.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, what cannot go on has failed"
)]

mod device;
mod hub;
mod sdk;

use std::time::Duration;

use devhub::iot_hub::built_in_endpoint::{ConnectionChange, Notification, Sender, telemetry};
use devhub::iot_hub::connection_sequence::ConnectionSequence;
use devhub::iot_hub::{AuthKind, AuthMethod, AuthScope, IdentityId, TelemetryMessage};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use hub::Hub;
use sdk::Sdk;

/// Makes a test of each scenario for each SDK.
macro_rules! for_each_sdk {
    ($($scenario:ident),+ $(,)?) => {
        mod javascript {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(super::Sdk::JavaScript).await;
            })+
        }
        mod python {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(super::Sdk::Python).await;
            })+
        }
    };
}

mod devices;
mod services;

for_each_sdk!(
    lists_the_hub_and_its_partitions,
    sends_batches_by_key_and_to_one_partition,
    receives_from_a_given_position,
    receives_only_new_events_from_the_latest_position,
    sees_iot_hub_properties_where_azure_puts_them,
    works_over_tls,
    is_refused_with_a_wrong_key,
);

async fn lists_the_hub_and_its_partitions(sdk: Sdk) {
    let hub = Hub::start(4).await;
    for number in 0..5 {
        hub.publish_json("a-key", &json!({ "number": number }));
    }
    let described = sdk
        .run(
            "describe",
            &json!({ "connectionString": hub.connection_string() }),
        )
        .await;

    assert_eq!(described["name"], hub.events().name());
    assert_eq!(described["createdAtMs"], hub.events().created_at_ms());
    assert_eq!(described["partitionIds"], json!(["0", "1", "2", "3"]));
    let mut filled = 0;
    for (id, told) in described["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let properties = hub
            .events()
            .partition_properties(u16::try_from(id).unwrap())
            .unwrap();
        assert_eq!(told["partitionId"], id.to_string());
        assert_eq!(told["hubName"], hub.events().name());
        assert_eq!(
            told["lastEnqueuedSequenceNumber"],
            properties.last_enqueued_sequence_number
        );
        assert_eq!(
            told["lastEnqueuedOffset"],
            properties.last_enqueued_offset.to_string()
        );
        assert_eq!(told["isEmpty"], properties.is_empty);
        if !properties.is_empty {
            filled += 1;
            assert_eq!(told["beginningSequenceNumber"], 0);
            assert_eq!(told["lastEnqueuedSequenceNumber"], 4);
        }
    }
    assert_eq!(filled, 1, "one key means one partition");
}

async fn sends_batches_by_key_and_to_one_partition(sdk: Sdk) {
    let hub = Hub::start(3).await;
    let event = |number: u32| {
        json!({
            "body": { "number": number },
            "properties": { "colour": "blue", "number": number },
            "contentType": "application/json",
            "correlationId": "a-correlation",
            "messageId": format!("message-{number}"),
        })
    };
    let sent = sdk
        .run(
            "send",
            &json!({
                "connectionString": hub.connection_string(),
                "batches": [
                    { "partitionKey": "a-key", "events": [event(0), event(1), event(2)] },
                    { "partitionId": "1", "events": [event(10), event(11)] },
                    { "partitionKey": "a-key", "events": [event(3)] },
                    // Python sends these as ordinary messages, not as a batch.
                    { "partitionId": "1", "plain": true, "events": [event(12)] },
                ],
            }),
        )
        .await;
    assert_eq!(sent, json!({ "sent": 7 }));

    let received = receive(sdk, &hub, None, &json!("earliest"), 7).await;
    let (keyed, unkeyed): (Vec<_>, Vec<_>) = received
        .into_iter()
        .partition(|event| event["partitionKey"].is_string());
    assert_eq!(numbers(&keyed), [0, 1, 2, 3]);
    assert_eq!(numbers(&unkeyed), [10, 11, 12]);
    for event in &keyed {
        assert_eq!(event["partitionKey"], "a-key");
        assert_eq!(event["partitionId"], keyed[0]["partitionId"]);
    }
    for event in keyed.iter().chain(&unkeyed) {
        let number = event["body"]["number"].clone();
        assert_eq!(
            event["properties"],
            json!({ "colour": "blue", "number": number })
        );
        assert_eq!(event["contentType"], "application/json");
        assert_eq!(event["correlationId"], "a-correlation");
        assert_eq!(event["messageId"], format!("message-{number}"));
    }
    for event in &unkeyed {
        assert_eq!(event["partitionId"], "1");
    }
}

async fn receives_from_a_given_position(sdk: Sdk) {
    let hub = Hub::start(1).await;
    for number in 0..5 {
        hub.publish_json("a-key", &json!({ "number": number }));
    }
    hub.let_a_second_pass();
    for number in 5..10 {
        hub.publish_json("a-key", &json!({ "number": number }));
    }

    let all = receive(sdk, &hub, Some("0"), &json!("earliest"), 10).await;
    assert_eq!(numbers(&all), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let sequence_numbers: Vec<i64> = all
        .iter()
        .map(|event| event["sequenceNumber"].as_i64().unwrap())
        .collect();
    assert_eq!(sequence_numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    let fourth = &all[3];
    let last_of_the_first_half = &all[4];
    let positions = [
        (json!({ "offset": fourth["offset"] }), 4),
        (
            json!({ "offset": fourth["offset"], "isInclusive": true }),
            3,
        ),
        (json!({ "sequenceNumber": 3 }), 4),
        (json!({ "sequenceNumber": 3, "isInclusive": true }), 3),
        (
            json!({ "enqueuedOn": last_of_the_first_half["enqueuedTimeMs"] }),
            5,
        ),
    ];
    let mut runs = JoinSet::new();
    for (number, (position, first)) in positions.into_iter().enumerate() {
        let expected: Vec<i64> = (first..10).collect();
        let input = json!({
            "connectionString": hub.connection_string(),
            // Each on its own, as only five readers may share a group.
            "consumerGroup": format!("group-{number}"),
            "partitionId": "0",
            "position": position,
            "count": expected.len(),
        });
        runs.spawn(async move {
            let received = sdk.run("receive", &input).await;
            assert_eq!(numbers(&events(&received)), expected, "from {position}");
        });
    }
    runs.join_all().await;
}

async fn receives_only_new_events_from_the_latest_position(sdk: Sdk) {
    let hub = Hub::start(1).await;
    hub.publish_json("a-key", &json!({ "number": -1 }));

    let position = json!("latest");
    let receiving = receive(sdk, &hub, Some("0"), &position, 3);
    tokio::pin!(receiving);
    // Nothing tells when the SDK has attached, so events go on being published until it has got some. The
    // Python SDK hands them over only once none came for 200 ms.
    let mut ticks = tokio::time::interval(Duration::from_millis(300));
    let mut next = 0;
    let received = loop {
        tokio::select! {
            received = &mut receiving => break received,
            _ = ticks.tick() => {
                for number in next..next + 3 {
                    hub.publish_json("a-key", &json!({ "number": number }));
                }
                next += 3;
            }
        }
    };
    let first = received[0]["body"]["number"].as_i64().unwrap();
    assert!(first >= 0, "the event from before was received");
    assert_eq!(numbers(&received), [first, first + 1, first + 2]);
}

async fn sees_iot_hub_properties_where_azure_puts_them(sdk: Sdk) {
    let at_ms = 1_642_351_013_814;
    let hub = Hub::start(1).await;
    let id = IdentityId::device("press-01").unwrap();
    let sender = Sender {
        id: &id,
        generation_id: "637540164221770949",
        auth_method: AuthMethod {
            scope: AuthScope::Device,
            kind: AuthKind::Sas,
            expires_at_ms: None,
        },
    };
    let message = TelemetryMessage::json(r#"{"temperature":21.5}"#);
    hub.events()
        .publish("press-01", &telemetry(sender, message, at_ms));
    let notification = Notification {
        hub_name: "factory",
        id: &id,
        at_ms,
        correlation_id: Uuid::from_u128(7),
    };
    let number = ConnectionSequence::default().next(at_ms);
    hub.events().publish(
        "press-01",
        &notification.connection_state(ConnectionChange::Connected, number),
    );

    let received = receive(sdk, &hub, Some("0"), &json!("earliest"), 2).await;
    let [measured, connected] = received.as_slice() else {
        panic!("{received:?}");
    };
    assert_eq!(measured["body"], json!({ "temperature": 21.5 }));
    assert_eq!(measured["partitionKey"], Value::Null, "IoT Hub stamps none");
    assert_eq!(measured["contentType"], "application/json");
    assert_eq!(measured["properties"], json!({}));
    let system = &measured["systemProperties"];
    assert_eq!(system["iothub-connection-device-id"], "press-01");
    assert_eq!(
        system["iothub-connection-auth-generation-id"],
        "637540164221770949"
    );
    assert_eq!(system["iothub-message-source"], "Telemetry");
    assert_eq!(system["iothub-enqueuedtime"], at_ms);

    assert_eq!(
        connected["body"],
        json!({ "sequenceNumber": number.to_string() })
    );
    assert_eq!(
        connected["correlationId"],
        notification.correlation_id.to_string()
    );
    assert_eq!(connected["properties"]["opType"], "deviceConnected");
    assert_eq!(connected["properties"]["hubName"], "factory");
    assert_eq!(
        connected["properties"]["operationTimestamp"],
        "2022-01-16T16:36:53.8140000Z"
    );
    let system = &connected["systemProperties"];
    assert_eq!(
        system["iothub-message-source"],
        "deviceConnectionStateEvents"
    );
    assert_eq!(system["iothub-connection-auth-method"], Value::Null);
}

async fn works_over_tls(sdk: Sdk) {
    let hub = Hub::start(2).await;
    let certificate_authority = hub.certificate_authority();
    let run = async |scenario: &str, mut input: Value| {
        input["connectionString"] = hub.tls_connection_string().into();
        input["tls"] = json!({
            "endpoint": hub.tls_endpoint(),
            "ca": certificate_authority,
        });
        sdk.run_trusting(scenario, &input, Some(certificate_authority))
            .await
    };

    let described = run("describe", json!({})).await;
    assert_eq!(described["partitionIds"], json!(["0", "1"]), "{described}");
    let batch = json!({ "partitionId": "1", "events": [{ "body": { "number": 1 } }] });
    let sent = run("send", json!({ "batches": [batch] })).await;
    assert_eq!(sent, json!({ "sent": 1 }));
    let received = run(
        "receive",
        json!({ "partitionId": "1", "position": "earliest", "count": 1 }),
    )
    .await;
    assert_eq!(received["events"][0]["body"], json!({ "number": 1 }));
}

async fn is_refused_with_a_wrong_key(sdk: Sdk) {
    let hub = Hub::start(1).await;
    let refused = sdk
        .run(
            "describe",
            &json!({ "connectionString": hub.connection_string_with_wrong_key() }),
        )
        .await;
    match sdk {
        Sdk::JavaScript => assert_eq!(refused["error"]["code"], "UnauthorizedError", "{refused}"),
        Sdk::Python => assert_eq!(refused["error"]["type"], "AuthenticationError", "{refused}"),
    }
}

#[tokio::test]
async fn javascript_reader_with_a_higher_owner_level_takes_the_partition_over() {
    let hub = Hub::start(1).await;
    hub.publish_json("a-key", &json!({}));
    let outcome = Sdk::JavaScript
        .run(
            "steal",
            &json!({ "connectionString": hub.connection_string(), "partitionId": "0" }),
        )
        .await;
    assert_eq!(outcome["lost"]["reason"], "OwnershipLost", "{outcome}");
    assert_eq!(
        outcome["lost"]["error"]["code"], "ReceiverDisconnectedError",
        "{outcome}"
    );
    assert_eq!(
        outcome["refused"]["error"]["code"], "ReceiverDisconnectedError",
        "{outcome}"
    );
    assert_eq!(outcome["secondIsUndisturbed"], true, "{outcome}");
}

async fn receive(
    sdk: Sdk,
    hub: &Hub,
    partition_id: Option<&str>,
    position: &Value,
    count: usize,
) -> Vec<Value> {
    let mut input = json!({
        "connectionString": hub.connection_string(),
        "position": position,
        "count": count,
    });
    if let Some(partition_id) = partition_id {
        input["partitionId"] = partition_id.into();
    }
    events(&sdk.run("receive", &input).await)
}

/// The events of a `receive` scenario's result.
fn events(result: &Value) -> Vec<Value> {
    let events = result["events"].as_array();
    events.unwrap_or_else(|| panic!("{result}")).clone()
}

/// The `number` of each event's body.
fn numbers(events: &[Value]) -> Vec<i64> {
    events
        .iter()
        .map(|event| event["body"]["number"].as_i64().unwrap())
        .collect()
}
