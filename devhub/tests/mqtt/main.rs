//! The MQTT listener without TLS, from outside, by the client library that the simulated devices use.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use devhub::{
    Devhub, Options,
    iot_hub::{IdentityId, IdentitySettings, MethodCall},
    sas,
};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, MqttOptions, QoS,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

/// In the year 2100, counted from the Unix epoch.
const MUCH_LATER: Duration = Duration::from_hours(24 * 365 * 130);

/// Fails a test that waits for something that never comes.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it happens within 20 seconds")
}

fn device() -> IdentityId {
    IdentityId::device("press-01").unwrap()
}

async fn start(connections_max: usize) -> (Devhub, SocketAddr) {
    let devhub = Devhub::start(Options {
        mqtt: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        connections_max,
        ..Options::default()
    });
    let devhub = devhub.await.unwrap();
    let settings = IdentitySettings::default();
    devhub
        .iot_hub()
        .create_identity(&device(), settings)
        .unwrap();
    let address = devhub.mqtt_address().unwrap();
    (devhub, address)
}

/// What a device connects with: a token of the policy for devices.
fn options(devhub: &Devhub, address: SocketAddr) -> MqttOptions {
    let mut options = MqttOptions::new("press-01", address.ip().to_string(), address.port());
    let key = devhub.iot_hub().policy_key("device").unwrap();
    let token = sas::sign_for_iot_hub("localhost", Some("device"), &key, MUCH_LATER).unwrap();
    options.set_credentials("localhost/press-01/?api-version=2021-04-12", token);
    options
}

/// What comes from the hub next.
async fn incoming(connection: &mut EventLoop) -> Result<Incoming, ConnectionError> {
    loop {
        if let Event::Incoming(packet) = soon(connection.poll()).await? {
            return Ok(packet);
        }
    }
}

#[tokio::test]
async fn a_device_answers_a_direct_method() {
    let (devhub, address) = start(10).await;
    let (client, mut connection) = AsyncClient::new(options(&devhub, address), 10);
    let methods = "$iothub/methods/POST/#";
    client.subscribe(methods, QoS::AtMostOnce).await.unwrap();
    assert!(matches!(
        incoming(&mut connection).await.unwrap(),
        Incoming::ConnAck(_)
    ));
    assert!(matches!(
        incoming(&mut connection).await.unwrap(),
        Incoming::SubAck(_)
    ));
    let call = MethodCall::new(
        "reboot",
        Bytes::from_static(b"{\"delay\":1}"),
        Duration::from_secs(10),
        Duration::ZERO,
    );
    let device = device();
    let answered = devhub.iot_hub().invoke_method(&device, call.unwrap());
    let answering = async {
        let Incoming::Publish(call) = incoming(&mut connection).await.unwrap() else {
            panic!("not a call")
        };
        let (_, request_id) = call.topic.split_once("$rid=").unwrap();
        let topic = format!("$iothub/methods/res/202/?$rid={request_id}");
        let answer = client.publish(topic, QoS::AtLeastOnce, false, call.payload);
        answer.await.unwrap();
        assert!(matches!(
            incoming(&mut connection).await.unwrap(),
            Incoming::PubAck(_)
        ));
    };
    let (answer, ()) = tokio::join!(answered, answering);
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status, &*answer.payload),
        (202, &b"{\"delay\":1}"[..])
    );
    devhub.stop().await;
}

#[tokio::test]
async fn a_device_that_is_not_let_in_is_told() {
    let (devhub, address) = start(10).await;
    let mut options = options(&devhub, address);
    options.set_credentials("localhost/press-01/?api-version=2021-04-12", "secret");
    let (_client, mut connection) = AsyncClient::new(options, 10);
    let error = incoming(&mut connection).await.unwrap_err();
    assert!(matches!(
        error,
        ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized)
    ));
    devhub.stop().await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_and_the_others_go_on() {
    let (devhub, address) = start(1).await;
    let (client, mut connection) = AsyncClient::new(options(&devhub, address), 10);
    assert!(matches!(
        incoming(&mut connection).await.unwrap(),
        Incoming::ConnAck(_)
    ));
    let mut refused = TcpStream::connect(address).await.unwrap();
    assert_eq!(soon(refused.read(&mut [0; 16])).await.unwrap(), 0);
    let topic = "devices/press-01/messages/events/";
    let sent = client.publish(topic, QoS::AtLeastOnce, false, "{}");
    sent.await.unwrap();
    assert!(matches!(
        incoming(&mut connection).await.unwrap(),
        Incoming::PubAck(_)
    ));
    devhub.stop().await;
}

#[tokio::test]
async fn devices_are_disconnected_when_devhub_stops() {
    let (devhub, address) = start(10).await;
    let (_client, mut connection) = AsyncClient::new(options(&devhub, address), 10);
    assert!(matches!(
        incoming(&mut connection).await.unwrap(),
        Incoming::ConnAck(_)
    ));
    soon(devhub.stop()).await;
    assert!(incoming(&mut connection).await.is_err());
}
