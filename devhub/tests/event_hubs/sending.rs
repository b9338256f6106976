//! Batches, single messages, partitions and limits.

use fe2o3_amqp::{Sendable, link::receiver::CreditMode};
use fe2o3_amqp_types::{
    messaging::{
        ApplicationProperties, Batch, Data, Message, MessageAnnotations, Outcome, Properties,
        message::__private::Serializable,
    },
    primitives::Binary,
};
use serde_amqp::{primitives::Symbol, value::Value};

use crate::client::{Client, Reading, annotation, body, next, sequences, soon, start};

fn message(number: u8) -> Message<Data> {
    Message::builder()
        .message_annotations(
            MessageAnnotations::builder()
                .insert(Symbol::from("iothub-message-source"), "Telemetry")
                .insert(Symbol::from("x-opt-sequence-number"), 99i64)
                .build(),
        )
        .properties(Properties::builder().message_id(7u64).build())
        .application_properties(ApplicationProperties::builder().insert("n", 5i32).build())
        .data(Binary::from(vec![number]))
        .build()
}

fn batch(messages: &[Message<Data>], key: Option<&str>) -> Sendable<Batch<Data>> {
    let encoded: Batch<Data> = messages
        .iter()
        .map(|message| {
            let bytes = serde_amqp::to_vec(&Serializable(message.clone())).unwrap();
            Data(Binary::from(bytes))
        })
        .collect();
    let mut builder = Message::builder();
    if let Some(key) = key {
        builder = builder.message_annotations(
            MessageAnnotations::builder()
                .insert(Symbol::from("x-opt-partition-key"), key)
                .build(),
        );
    }
    Sendable::builder()
        .message(builder.body(encoded).build())
        .message_format(0x8001_3700)
        .build()
}

#[tokio::test]
async fn a_batch_becomes_events_that_keep_what_the_sender_wrote() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    let mut sender = client.sender("devhub/Partitions/0").await;
    let outcome = soon(sender.send(batch(&[message(1), message(2)], None)))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Accepted(_)));
    let outcome = soon(sender.send(message(3))).await.unwrap();
    assert!(matches!(outcome, Outcome::Accepted(_)));
    let mut receiver = client.receiver(Reading::default()).await;
    for number in 1..=3 {
        let message = next(&mut receiver).await;
        assert_eq!(body(&message), [number]);
        assert_eq!(
            annotation(&message, "x-opt-sequence-number"),
            Some(Value::Long(i64::from(number) - 1)),
            "the partition numbers events, not the sender"
        );
        assert_eq!(
            annotation(&message, "iothub-message-source"),
            Some(Value::String("Telemetry".into()))
        );
        assert_eq!(
            message.properties.unwrap().message_id,
            Some(7u64.into()),
            "ids keep their type"
        );
        assert!(message.application_properties.unwrap().get("n").is_some());
    }
    devhub.stop().await;
}

#[tokio::test]
async fn events_of_one_key_share_a_partition_and_others_are_spread() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    let mut sender = client.sender("amqps://localhost:1/devhub").await;
    let counts = || {
        [0, 1].map(|id| {
            let properties = devhub.event_hub().partition_properties(id).unwrap();
            properties.last_enqueued_sequence_number + 1
        })
    };
    for _ in 0..4 {
        soon(sender.send(batch(&[message(1)], Some("key"))))
            .await
            .unwrap();
    }
    let mut sorted = counts();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 4]);
    let keyed = u16::from(counts()[0] != 4);
    for _ in 0..4 {
        soon(sender.send(message(1))).await.unwrap();
    }
    let mut sorted = counts();
    sorted.sort_unstable();
    assert_eq!(sorted, [2, 6]);
    let mut receiver = client.receiver(Reading::partition(keyed)).await;
    assert_eq!(
        annotation(&next(&mut receiver).await, "x-opt-partition-key"),
        Some(Value::String("key".into()))
    );
    devhub.stop().await;
}

#[tokio::test]
async fn senders_are_told_the_largest_message_and_may_use_it_up() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    let mut sender = client.sender("devhub").await;
    assert_eq!(sender.max_message_size(), Some(1024 * 1024));
    let large = Message::builder()
        .data(Binary::from(vec![0; 1024 * 1024 - 100]))
        .build();
    let outcome = soon(sender.send(large)).await.unwrap();
    assert!(matches!(outcome, Outcome::Accepted(_)));
    devhub.stop().await;
}

#[tokio::test]
async fn a_malformed_event_is_rejected_and_stores_nothing() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    let mut sender = client.sender("devhub/Partitions/0").await;
    let broken: Batch<Data> = [Data(Binary::from(vec![0xff; 10]))].into_iter().collect();
    let broken = Sendable::builder()
        .message(Message::builder().body(broken).build())
        .message_format(0x8001_3700)
        .build();
    let outcome = soon(sender.send(broken)).await.unwrap();
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    assert!(devhub.event_hub().partition_properties(0).unwrap().is_empty);
    soon(sender.send(message(1))).await.unwrap();
    devhub.stop().await;
}

#[tokio::test]
async fn senders_to_places_that_do_not_exist_are_refused() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    for address in ["devhub/Partitions/2", "devhub/Queues/0"] {
        let refused = fe2o3_amqp::Sender::attach(client.session().await, address, address).await;
        let error = format!("{:?}", refused.unwrap_err());
        assert!(error.contains("NotFound"), "{error}");
    }
    devhub.stop().await;
}

#[tokio::test]
async fn many_events_pass_in_order_while_they_are_sent() {
    const COUNT: usize = 20_000;
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    let reading = Reading {
        credit: CreditMode::Auto(500),
        ..Reading::default()
    };
    let mut receiver = client.receiver(reading).await;
    let mut sender = client.sender("devhub/Partitions/0").await;
    let messages: Vec<_> = (0..200).map(message).collect();
    let sending = async {
        for _ in 0..COUNT / messages.len() {
            sender.send(batch(&messages, None)).await.unwrap();
        }
    };
    let ((), sequences) = tokio::join!(sending, sequences(&mut receiver, COUNT));
    assert!(sequences.into_iter().eq(0..i64::try_from(COUNT).unwrap()));
    devhub.stop().await;
}
