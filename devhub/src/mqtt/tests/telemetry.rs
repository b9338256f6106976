//! Device-to-cloud messages, as they arrive at the built-in endpoint.

use rumqttc::mqttbytes::v4::PubAck;

use super::*;

const EVENTS: &str = "devices/press-01/messages/events/";

#[tokio::test(start_paused = true)]
async fn a_message_arrives_with_its_properties_and_who_sent_it() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    let topic =
        format!("{EVENTS}%24.ct=application%2Fjson&%24.ce=utf-8&%24.mid=m-1&alarm=hot%20oil");
    client.publish(&topic, r#"{"t":1}"#).await;
    client.settled().await;
    let events = bench.telemetry();
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(event.body(), r#"{"t":1}"#);
    assert_eq!(event.property("alarm").as_deref(), Some("hot oil"));
    assert_eq!(event.property("$.ct"), None);
    let properties = event.0.properties.as_ref().unwrap();
    assert_eq!(
        properties.content_type.as_ref().unwrap().as_str(),
        "application/json"
    );
    assert_eq!(
        properties.content_encoding.as_ref().unwrap().as_str(),
        "utf-8"
    );
    let annotation = |name: &str| event.annotation(name);
    assert_eq!(
        annotation("iothub-connection-device-id").as_deref(),
        Some("press-01")
    );
    assert_eq!(annotation("iothub-connection-module-id"), None);
    let method = annotation("iothub-connection-auth-method").unwrap();
    assert!(
        method.contains(r#""scope":"device","type":"sas""#),
        "{method}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_module_is_named_beside_its_device() {
    let bench = Bench::new();
    let mut client = bench.connected(&module()).await;
    client
        .publish("devices/press-01/modules/plc/messages/events/", "{}")
        .await;
    client.settled().await;
    let events = bench.telemetry();
    let annotation = |name: &str| events[0].annotation(name);
    assert_eq!(
        annotation("iothub-connection-device-id").as_deref(),
        Some("press-01")
    );
    assert_eq!(
        annotation("iothub-connection-module-id").as_deref(),
        Some("plc")
    );
}

#[tokio::test(start_paused = true)]
async fn quality_of_service_1_is_acknowledged_in_order() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    for pkid in 1..=3 {
        let publish = Publish {
            pkid,
            ..Publish::new(EVENTS, QoS::AtLeastOnce, pkid.to_string())
        };
        client.send(Packet::Publish(publish)).await;
    }
    for pkid in 1..=3 {
        assert_eq!(client.receive().await, Packet::PubAck(PubAck::new(pkid)));
    }
    let bodies: Vec<_> = bench.telemetry().iter().map(Event::body).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn the_retain_flag_becomes_a_property() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    let publish = Publish {
        retain: true,
        ..Publish::new(EVENTS, QoS::AtMostOnce, "{}")
    };
    client.send(Packet::Publish(publish)).await;
    client.settled().await;
    let events = bench.telemetry();
    assert_eq!(events[0].property("mqtt-retain").as_deref(), Some("true"));
}

#[tokio::test(start_paused = true)]
async fn a_message_may_have_256_kb_with_its_properties_and_no_more() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    let topic = format!("{EVENTS}ab=cd");
    client.publish(&topic, &"x".repeat(256 * 1024 - 4)).await;
    client.settled().await;
    client.publish(&topic, &"x".repeat(256 * 1024 - 3)).await;
    assert!(matches!(client.ended().await, End::Message(_)));
    assert_eq!(bench.telemetry().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_plug_and_play_device_names_its_model_in_each_message() {
    let bench = Bench::new();
    let mut connect = bench.connect_packet(&device());
    connect
        .login
        .as_mut()
        .unwrap()
        .username
        .push_str("&model-id=dtmi%3Acom%3Bpress%3B1");
    let mut client = bench.connected_by(connect).await;
    client.publish(&format!("{EVENTS}%24.sub=oil"), "{}").await;
    client.settled().await;
    let events = bench.telemetry();
    let annotation = |name: &str| events[0].annotation(name);
    assert_eq!(
        annotation("dt-dataschema").as_deref(),
        Some("dtmi:com;press;1")
    );
    assert_eq!(annotation("dt-subject").as_deref(), Some("oil"));
}
