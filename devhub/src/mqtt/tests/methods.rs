//! Direct methods.

use bytes::Bytes;
use rumqttc::mqttbytes::v4::Unsubscribe;

use super::*;
use crate::iot_hub::{ErrorCode, HubError, MethodAnswer, MethodCall};

const METHODS: (&str, QoS) = ("$iothub/methods/POST/#", QoS::AtMostOnce);

fn call(
    bench: &Bench,
    id: &IdentityId,
    payload: &'static str,
) -> JoinHandle<Result<MethodAnswer, HubError>> {
    let (hub, id) = (bench.hub.clone(), id.clone());
    let call = MethodCall::new(
        "reboot",
        Bytes::from_static(payload.as_bytes()),
        Duration::from_secs(30),
        Duration::ZERO,
    );
    tokio::spawn(async move { hub.invoke_method(&id, call.unwrap()).await })
}

#[tokio::test(start_paused = true)]
async fn each_caller_gets_the_answer_to_its_own_call() {
    let bench = Bench::new();
    for id in [device(), module()] {
        let mut client = bench.connected(&id).await;
        client.subscribe(&[METHODS]).await;
        let mut asked = Vec::new();
        for payload in ["1", "null"] {
            let caller = call(&bench, &id, payload);
            let (topic, body) = client.received().await;
            assert_eq!(body, payload);
            let request_id = topic
                .strip_prefix("$iothub/methods/POST/reboot/?$rid=")
                .unwrap();
            asked.push((request_id.to_owned(), caller));
        }
        for (status, (request_id, caller)) in asked.into_iter().enumerate().rev() {
            let topic = format!("$iothub/methods/res/{status}/?$rid={request_id}");
            client.publish(&topic, &format!("[{status}]")).await;
            let answer = caller.await.unwrap().unwrap();
            assert_eq!(answer.status, i64::try_from(status).unwrap());
            assert_eq!(answer.payload, format!("[{status}]"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_not_subscribed_is_not_online() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    let code = async || {
        call(&bench, &device(), "null")
            .await
            .unwrap()
            .unwrap_err()
            .code()
    };
    assert_eq!(code().await, ErrorCode::DeviceNotOnline);
    client.subscribe(&[METHODS]).await;
    client
        .send(Packet::Unsubscribe(Unsubscribe {
            pkid: 5,
            ..Unsubscribe::new(METHODS.0)
        }))
        .await;
    assert!(matches!(client.receive().await, Packet::UnsubAck(ack) if ack.pkid == 5));
    assert_eq!(code().await, ErrorCode::DeviceNotOnline);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_no_call_and_one_that_is_no_json_leave_the_connection_alone() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    client.subscribe(&[METHODS]).await;
    client
        .publish("$iothub/methods/res/200/?$rid=none", "{}")
        .await;
    let caller = call(&bench, &device(), "null");
    let (topic, _) = client.received().await;
    let (_, request_id) = topic.split_once("$rid=").unwrap();
    client
        .publish(&format!("$iothub/methods/res/200/?$rid={request_id}"), "{")
        .await;
    let error = caller.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadDeviceResponse);
    client.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_when_the_device_hangs_up() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    client.subscribe(&[METHODS]).await;
    let caller = call(&bench, &device(), "null");
    client.received().await;
    client.hangs_up().await;
    let error = caller.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::DeviceConnectionClosedRemotely);
}
