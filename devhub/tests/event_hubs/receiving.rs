//! Positions, credit, epochs and the limit on readers.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use devhub::{
    Devhub, Options,
    event::{AnnotationValue, Event},
    event_hub::ConsumerGroups,
};
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp_types::messaging::Body;
use serde_amqp::value::Value;
use tokio::time::timeout;

use crate::client::{
    Client, ManualClock, Reading, annotation, body, detached, fill_partition, next, options,
    refusal, sequences, soon, start,
};

#[tokio::test]
async fn an_event_arrives_with_stamps_of_the_right_types_and_all_it_had() {
    let devhub = start().await;
    let event = Event {
        annotations: vec![
            (
                "iothub-connection-device-id".into(),
                AnnotationValue::String("d1".into()),
            ),
            (
                "iothub-enqueuedtime".into(),
                AnnotationValue::TimestampMs(5),
            ),
        ],
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        correlation_id: Some("c".into()),
        user_id: Some(Bytes::from_static(b"u")),
        application_properties: vec![("k".into(), "v".into())],
        message_id: Some("m".into()),
        to: Some("t".into()),
        absolute_expiry_time_ms: Some(6),
        creation_time_ms: Some(7),
        body: Bytes::from_static(b"{\"t\":1}"),
    };
    devhub.event_hub().publish("d1", &event);
    let mut client = Client::authorized(&devhub).await;
    let partition = (0..2)
        .find(|id| {
            !devhub
                .event_hub()
                .partition_properties(*id)
                .unwrap()
                .is_empty
        })
        .unwrap();
    let mut receiver = client.receiver(Reading::partition(partition)).await;
    let message = next(&mut receiver).await;
    let annotation = |key| annotation(&message, key);
    assert_eq!(annotation("x-opt-sequence-number"), Some(Value::Long(0)));
    assert_eq!(annotation("x-opt-offset"), Some(Value::String("0".into())));
    assert!(matches!(
        annotation("x-opt-enqueued-time"),
        Some(Value::Timestamp(_))
    ));
    assert_eq!(
        annotation("iothub-connection-device-id"),
        Some(Value::String("d1".into()))
    );
    assert!(matches!(
        annotation("iothub-enqueuedtime"),
        Some(Value::Timestamp(_))
    ));
    assert_eq!(body(&message), b"{\"t\":1}");
    let properties = message.properties.unwrap();
    assert_eq!(
        properties.content_type.unwrap().as_str(),
        "application/json"
    );
    assert_eq!(properties.content_encoding.unwrap().as_str(), "utf-8");
    assert!(message.application_properties.unwrap().get("k").is_some());
    devhub.stop().await;
}

#[tokio::test]
async fn a_receiver_starts_where_its_filter_says() {
    let clock = ManualClock::at(1_000);
    let devhub = Devhub::start(Options {
        clock: clock.clone(),
        accept_any_token: true,
        ..options()
    })
    .await
    .unwrap();
    fill_partition(&devhub, 0, 3);
    clock.set(2_000);
    fill_partition(&devhub, 0, 3);
    let mut client = Client::authorized(&devhub).await;
    for (selector, expected) in [
        ("x-opt-offset > '-1'", vec![0, 1]),
        ("x-opt-offset > '0'", vec![1, 2]),
        ("x-opt-offset >= '0'", vec![0, 1]),
        ("x-opt-sequence-number > '1'", vec![2, 3]),
        ("x-opt-sequence-number >= 1", vec![1, 2]),
        ("x-opt-enqueued-time > '1000'", vec![3, 4]),
    ] {
        let mut receiver = client.receiver(Reading::from(selector)).await;
        assert_eq!(sequences(&mut receiver, 2).await, expected, "{selector}");
        receiver.close().await.unwrap();
    }
    let mut receiver = client.receiver(Reading::default()).await;
    assert_eq!(sequences(&mut receiver, 6).await, [0, 1, 2, 3, 4, 5]);
    devhub.stop().await;
}

#[tokio::test]
async fn the_latest_position_gets_only_what_comes_after_the_attach() {
    let devhub = start().await;
    fill_partition(&devhub, 0, 3);
    let mut client = Client::authorized(&devhub).await;
    let mut receiver = client
        .receiver(Reading::from("x-opt-offset > '@latest'"))
        .await;
    fill_partition(&devhub, 0, 2);
    assert_eq!(sequences(&mut receiver, 2).await, [3, 4]);
    devhub.stop().await;
}

#[tokio::test]
async fn positions_and_places_that_do_not_exist_are_refused() {
    let devhub = Devhub::start(Options {
        consumer_groups: ConsumerGroups::Named(BTreeSet::from(["known".to_owned()])),
        ..options()
    })
    .await
    .unwrap();
    fill_partition(&devhub, 0, 1);
    let mut client = Client::authorized(&devhub).await;
    for (selector, expected) in [
        (
            "x-opt-sequence-number > '9'",
            "com.microsoft:argument-error",
        ),
        (
            "x-opt-sequence-number > 'x'",
            "com.microsoft:argument-error",
        ),
        ("x-opt-colour > '1'", "com.microsoft:argument-error"),
    ] {
        let refused = client.try_receiver(Reading::from(selector)).await;
        assert_eq!(refusal(refused), expected, "{selector}");
    }
    for address in [
        "devhub/ConsumerGroups/$Default/Partitions/2",
        "devhub/ConsumerGroups/$Default/Partitions/x",
        "devhub/ConsumerGroups/unknown/Partitions/0",
        "devhub",
    ] {
        let reading = Reading {
            address: address.to_owned(),
            ..Reading::default()
        };
        let refused = client.try_receiver(reading).await;
        assert_eq!(refusal(refused), "amqp:not-found", "{address}");
    }
    let known = Reading {
        address: "amqps://localhost:1/devhub/consumergroups/KNOWN/partitions/0".to_owned(),
        ..Reading::default()
    };
    let mut receiver = client.receiver(known).await;
    assert_eq!(sequences(&mut receiver, 1).await, [0]);
    devhub.stop().await;
}

#[tokio::test]
async fn no_more_is_sent_than_there_is_credit() {
    let devhub = start().await;
    fill_partition(&devhub, 0, 5);
    let mut client = Client::authorized(&devhub).await;
    let manual = Reading {
        credit: CreditMode::Manual,
        ..Reading::default()
    };
    let mut receiver = client.receiver(manual).await;
    receiver.set_credit(2).await.unwrap();
    assert_eq!(sequences(&mut receiver, 2).await, [0, 1]);
    let mut fence = client.receiver(Reading::partition(1)).await;
    fill_partition(&devhub, 1, 1);
    assert_eq!(sequences(&mut fence, 1).await, [0]);
    let early = timeout(Duration::ZERO, receiver.recv::<Body<Value>>()).await;
    assert!(early.is_err(), "a third event came without credit");
    receiver.set_credit(3).await.unwrap();
    assert_eq!(sequences(&mut receiver, 3).await, [2, 3, 4]);
    devhub.stop().await;
}

#[tokio::test]
async fn an_event_larger_than_a_frame_arrives_whole() {
    let devhub = start().await;
    let large: Vec<u8> = (0..300_000u32).map(|at| at.to_be_bytes()[3]).collect();
    let event = Event {
        body: large.clone().into(),
        ..Event::default()
    };
    for _ in 0..2 {
        for key in ["a", "b", "c", "d", "e", "f"] {
            devhub.event_hub().publish(key, &event);
        }
    }
    let mut client = Client::authorized(&devhub).await;
    let with_metrics = Reading {
        metrics: true,
        ..Reading::default()
    };
    let mut receiver = client.receiver(with_metrics).await;
    for _ in 0..2 {
        let message = next(&mut receiver).await;
        assert!(body(&message) == large, "the body came through unchanged");
        assert!(message.delivery_annotations.is_some());
    }
    devhub.stop().await;
}

#[tokio::test]
async fn a_higher_epoch_steals_the_partition_and_a_lower_one_is_refused() {
    let devhub = start().await;
    fill_partition(&devhub, 0, 1);
    let with_epoch = |epoch| Reading {
        epoch: Some(epoch),
        ..Reading::default()
    };
    let mut first = Client::authorized(&devhub).await;
    let mut second = Client::authorized(&devhub).await;
    let mut loser = first.receiver(with_epoch(1)).await;
    let mut winner = second.receiver(with_epoch(2)).await;
    assert_eq!(detached(&mut loser).await, "amqp:link:stolen");
    assert_eq!(sequences(&mut winner, 1).await, [0]);
    for reading in [with_epoch(1), Reading::default()] {
        let refused = first.try_receiver(reading).await;
        assert_eq!(refusal(refused), "amqp:link:stolen");
    }
    winner.close().await.unwrap();
    let mut free = first.receiver(Reading::default()).await;
    assert_eq!(sequences(&mut free, 1).await, [0]);
    devhub.stop().await;
}

#[tokio::test]
async fn a_sixth_reader_is_refused_until_a_connection_goes() {
    let devhub = start().await;
    fill_partition(&devhub, 0, 1);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Client::authorized(&devhub).await;
        let receiver = client.receiver(Reading::default()).await;
        clients.push((client, receiver));
    }
    let mut sixth = Client::authorized(&devhub).await;
    let refused = sixth.try_receiver(Reading::default()).await;
    assert_eq!(refusal(refused), "amqp:resource-limit-exceeded");
    let (mut gone, _receiver) = clients.pop().unwrap();
    soon(gone.connection.close()).await.unwrap();
    let mut receiver = sixth.receiver(Reading::default()).await;
    assert_eq!(sequences(&mut receiver, 1).await, [0]);
    devhub.stop().await;
}
