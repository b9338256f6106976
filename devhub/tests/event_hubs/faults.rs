//! The fault switches, each as a client meets it.

use std::time::Duration;

use fe2o3_amqp_types::messaging::Body;
use serde_amqp::value::Value;
use tokio::time::timeout;

use crate::client::{
    Client, Reading, detached, fill_partition, refusal, sequences, soon, start, token,
};

#[tokio::test]
async fn receivers_of_a_partition_are_detached_with_the_condition_asked_for() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    let mut hit = client.receiver(Reading::default()).await;
    let mut spared = client.receiver(Reading::partition(1)).await;
    let faults = devhub.faults();
    assert_eq!(
        faults.detach_receivers(0, "amqp:link:detach-forced", "idle"),
        1
    );
    assert_eq!(detached(&mut hit).await, "amqp:link:detach-forced");
    assert_eq!(
        faults.detach_receivers(0, "amqp:link:detach-forced", "idle"),
        0
    );
    assert_eq!(faults.detach_receivers(1, "com.example:own", "text"), 1);
    assert_eq!(detached(&mut spared).await, "com.example:own");
    devhub.stop().await;
}

#[tokio::test]
async fn connections_are_closed_by_force_and_by_stopping() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    assert_eq!(devhub.faults().close_connections(), 1);
    let error = format!("{:?}", soon(client.connection.on_close()).await);
    assert!(error.contains("ConnectionForced"), "{error}");
    let mut client = Client::authorized(&devhub).await;
    let ((), closed) = tokio::join!(devhub.stop(), client.connection.on_close());
    let error = format!("{closed:?}");
    assert!(error.contains("ConnectionForced"), "{error}");
}

#[tokio::test]
async fn a_stalled_partition_says_nothing_and_then_everything() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    let mut receiver = client.receiver(Reading::default()).await;
    let mut fence = client.receiver(Reading::partition(1)).await;
    assert!(devhub.faults().stall_partition(0, true));
    assert!(!devhub.faults().stall_partition(2, true));
    fill_partition(&devhub, 0, 2);
    fill_partition(&devhub, 1, 1);
    assert_eq!(sequences(&mut fence, 1).await, [0]);
    let early = timeout(Duration::ZERO, receiver.recv::<Body<Value>>()).await;
    assert!(early.is_err(), "an event came from a stalled partition");
    devhub.faults().stall_partition(0, false);
    assert_eq!(sequences(&mut receiver, 2).await, [0, 1]);
    devhub.stop().await;
}

#[tokio::test]
async fn attaches_and_tokens_are_refused_while_the_switch_is_set() {
    let devhub = start().await;
    let mut client = Client::authorized(&devhub).await;
    devhub.faults().refuse_attach(true);
    let refused = client.try_receiver(Reading::default()).await;
    assert_eq!(refusal(refused), "com.microsoft:server-busy");
    devhub.faults().refuse_attach(false);
    client.receiver(Reading::default()).await;
    devhub.faults().fail_put_token(true);
    let good = token(Duration::from_mins(1));
    assert_eq!(client.put_token(&good).await, 401);
    devhub.faults().fail_put_token(false);
    assert_eq!(client.put_token(&good).await, 202);
    devhub.stop().await;
}
