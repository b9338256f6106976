//! Whatever a client sends: its connection ends or goes on, and nothing panics or hangs.

use proptest::{collection::vec, prelude::*, sample::select};
use rumqttc::mqttbytes::v4::{PubAck, Unsubscribe};

use super::*;

const TOPICS: [&str; 10] = [
    "devices/press-01/messages/events/",
    "devices/press-01/messages/events/%24.exp=soon&a=%zz&b",
    "devices/press-01/messages/events/=%ff",
    "devices/press-01/messages/devicebound/#",
    "$iothub/methods/POST/#",
    "$iothub/methods/res/200/?$rid=1",
    "$iothub/twin/res/#",
    "$iothub/twin/GET/?$rid=1",
    "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=9",
    "$iothub/twin/PATCH/properties/desired/#",
];

const BODIES: [&str; 6] = ["", " ", "{", "null", r#"{"a":{"b":null}}"#, r#"{"$a":1}"#];

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn packets() -> impl Strategy<Value = Packet> {
    let topic = || select(TOPICS.to_vec());
    let publish = (
        topic(),
        select(BODIES.to_vec()),
        qos(),
        any::<bool>(),
        1..9_u16,
    );
    let publish = publish.prop_map(|(topic, body, qos, retain, pkid)| {
        Packet::Publish(Publish {
            retain,
            pkid,
            ..Publish::new(topic, qos, body)
        })
    });
    let subscribe = (topic(), qos(), 0..9_u16).prop_map(|(path, qos, pkid)| {
        Packet::Subscribe(Subscribe {
            pkid,
            ..Subscribe::new(path, qos)
        })
    });
    let unsubscribe = (topic(), 0..9_u16).prop_map(|(path, pkid)| {
        Packet::Unsubscribe(Unsubscribe {
            pkid,
            ..Unsubscribe::new(path)
        })
    });
    prop_oneof![
        4 => publish,
        3 => subscribe,
        1 => unsubscribe,
        1 => any::<u16>().prop_map(|pkid| Packet::PubAck(PubAck::new(pkid))),
        1 => Just(Packet::PingReq),
    ]
}

proptest! {
    #[test]
    fn no_packets_and_no_bytes_after_them_make_a_connection_panic_or_hang(
        packets in vec(packets(), 0..12),
        bytes in vec(any::<u8>(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let end = runtime.block_on(async {
            let bench = Bench::new();
            let mut client = bench.connected(&device()).await;
            // The connection may have ended when the rest is sent.
            for packet in packets {
                let _ = client.stream.send(packet).await;
            }
            client.send_bytes_until_closed(&bytes).await;
            client.hangs_up().await
        });
        prop_assert!(!matches!(end, End::Stuck | End::Stopped | End::NoConnect), "{end}");
    }
}
