//! What the hub says about itself.

use fe2o3_amqp_types::messaging::{Body, Message};
use serde_amqp::value::Value;

use crate::client::{Client, fill_partition, start, status};

fn member(reply: &Message<Body<Value>>, key: &str) -> Value {
    let Body::Value(body) = &reply.body else {
        panic!("a reply without value: {reply:?}")
    };
    let Value::Map(map) = &body.0 else {
        panic!("the body is no map: {body:?}")
    };
    map.get(&Value::String(key.to_owned())).unwrap().clone()
}

#[tokio::test]
async fn the_hub_and_its_partitions_are_described_with_the_right_types() {
    let devhub = start().await;
    fill_partition(&devhub, 1, 3);
    let mut client = Client::authorized(&devhub).await;
    let hub = client.read("devhub", None).await;
    assert_eq!(status(&hub), 200);
    assert_eq!(member(&hub, "partition_count"), Value::Int(2));
    assert!(matches!(member(&hub, "partition_ids"), Value::Array(_)));
    assert!(matches!(member(&hub, "created_at"), Value::Timestamp(_)));
    let full = client.read("devhub", Some("1")).await;
    assert_eq!(member(&full, "begin_sequence_number"), Value::Long(0));
    assert_eq!(
        member(&full, "last_enqueued_sequence_number"),
        Value::Long(2)
    );
    assert!(matches!(
        member(&full, "last_enqueued_offset"),
        Value::String(_)
    ));
    assert_eq!(member(&full, "is_partition_empty"), Value::Bool(false));
    let empty = client.read("devhub", Some("0")).await;
    assert_eq!(
        member(&empty, "last_enqueued_sequence_number"),
        Value::Long(-1)
    );
    assert_eq!(
        member(&empty, "last_enqueued_offset"),
        Value::String("-1".into())
    );
    assert_eq!(member(&empty, "is_partition_empty"), Value::Bool(true));
    devhub.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_answered_with_404() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    for (hub, partition) in [
        ("elsewhere", None),
        ("devhub", Some("2")),
        ("devhub", Some("x")),
    ] {
        let reply = client.read(hub, partition).await;
        assert_eq!(status(&reply), 404, "{hub} {partition:?}");
    }
    devhub.stop().await;
}
