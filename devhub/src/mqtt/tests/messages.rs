//! Cloud-to-device messages.

use bytes::Bytes;
use rumqttc::mqttbytes::v4::PubAck;

use super::*;
use crate::iot_hub::CloudToDeviceMessage;

const MESSAGES: &str = "devices/press-01/messages/devicebound/#";

fn send(bench: &Bench, body: &'static str) {
    let message = CloudToDeviceMessage {
        message_id: Some(format!("id of {body}")),
        properties: vec![("colour".to_owned(), "dark blue".to_owned())],
        body: Bytes::from_static(body.as_bytes()),
        ..CloudToDeviceMessage::default()
    };
    bench.hub.send_message(&device(), message).unwrap();
}

async fn receive(client: &mut Client) -> Publish {
    match client.receive().await {
        Packet::Publish(publish) => publish,
        other => panic!("not a publish: {other:?}"),
    }
}

fn waiting(bench: &Bench) -> usize {
    bench.hub.identity(&device()).unwrap().message_count
}

#[tokio::test(start_paused = true)]
async fn messages_wait_until_the_device_listens_and_go_when_it_acknowledges() {
    let bench = Bench::new();
    send(&bench, "one");
    let mut client = bench.connected(&device()).await;
    client.settled().await;
    client.subscribe(&[(MESSAGES, QoS::AtLeastOnce)]).await;
    let publish = receive(&mut client).await;
    assert_eq!(
        publish.topic,
        "devices/press-01/messages/devicebound/%24.mid=id%20of%20one\
         &%24.to=%2Fdevices%2Fpress-01%2Fmessages%2FdeviceBound&colour=dark%20blue"
    );
    assert_eq!(publish.payload, "one");
    assert_eq!(publish.qos, QoS::AtLeastOnce);
    assert_eq!(waiting(&bench), 1);
    client.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
    client.settled().await;
    assert_eq!(waiting(&bench), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_comes_again_with_the_next_connection() {
    let bench = Bench::new();
    let connected = async || {
        let mut connect = bench.connect_packet(&device());
        connect.clean_session = false;
        bench.connected_by(connect).await
    };
    let mut client = connected().await;
    client.subscribe(&[(MESSAGES, QoS::AtLeastOnce)]).await;
    for body in ["one", "two", "three"] {
        send(&bench, body);
    }
    let first = receive(&mut client).await;
    let second = receive(&mut client).await;
    receive(&mut client).await;
    assert_ne!(first.pkid, second.pkid);
    client.send(Packet::PubAck(PubAck::new(second.pkid))).await;
    client.settled().await;
    client.hangs_up().await;

    // The subscription has outlived the connection, too.
    let mut client = connected().await;
    assert_eq!(receive(&mut client).await.payload, "one");
    assert_eq!(receive(&mut client).await.payload, "three");
}

#[tokio::test(start_paused = true)]
async fn with_quality_of_service_0_nothing_is_acknowledged() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    client.subscribe(&[(MESSAGES, QoS::AtMostOnce)]).await;
    send(&bench, "one");
    assert_eq!(receive(&mut client).await.qos, QoS::AtMostOnce);
    assert_eq!(waiting(&bench), 0);
}
