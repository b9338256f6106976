//! How connections end, and what of the will.

use rumqttc::mqttbytes::v4::PubRec;

use super::*;
use crate::iot_hub::{EndReason, IfMatch};

const EVENTS: &str = "devices/press-01/messages/events/";

#[tokio::test(start_paused = true)]
async fn a_newcomer_ends_the_connection_of_the_same_identity_and_no_other() {
    let bench = Bench::new();
    let old = bench.connected(&device()).await;
    let mut other = bench.connected(&module()).await;
    let mut new = bench.connected(&device()).await;
    assert!(matches!(old.ended().await, End::ByHub(EndReason::Evicted)));
    new.settled().await;
    other.settled().await;
    assert!(bench.hub.identity(&device()).unwrap().is_connected);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_heard_for_one_and_a_half_keep_alive_intervals() {
    let bench = Bench::new();
    let mut connect = bench.connect_packet(&device());
    connect.keep_alive = 10;
    let mut client = bench.connected_by(connect).await;
    tokio::time::sleep(Duration::from_millis(14_900)).await;
    client.settled().await;
    let heard = tokio::time::Instant::now();
    assert!(matches!(client.ended().await, End::Silent));
    let waited = heard.elapsed().as_millis();
    assert!((14_990..15_010).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_token() {
    let bench = Bench::new();
    let mut connect = bench.connect_packet(&device());
    connect.keep_alive = 0;
    connect.login.as_mut().unwrap().password = bench.token(&device(), Duration::from_mins(5));
    let connected = tokio::time::Instant::now();
    let client = bench.connected_by(connect).await;
    assert!(matches!(client.ended().await, End::TokenExpired));
    // Tokens expire at a whole second.
    assert_eq!(connected.elapsed().as_secs(), 299);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_deleted_is_disconnected() {
    let bench = Bench::new();
    let client = bench.connected(&device()).await;
    bench.hub.delete_identity(&device(), &IfMatch::Any).unwrap();
    assert!(matches!(
        client.ended().await,
        End::ByHub(EndReason::Deleted)
    ));
}

#[tokio::test(start_paused = true)]
async fn all_connections_end_when_devhub_stops() {
    let bench = Bench::new();
    let begun = bench.client();
    let connected = bench.connected(&device()).await;
    bench.stop.cancel();
    assert!(matches!(begun.ended().await, End::Stopped));
    assert!(matches!(connected.ended().await, End::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_will_is_published_unless_the_client_takes_it_back() {
    let bench = Bench::new();
    let connected = async || {
        let mut connect = bench.connect_packet(&device());
        connect.last_will = Some(will(&format!("{EVENTS}reason=power"), QoS::AtLeastOnce));
        bench.connected_by(connect).await
    };
    let mut polite = connected().await;
    polite.send(Packet::Disconnect).await;
    polite.ended().await;
    assert_eq!(bench.telemetry().len(), 0);

    let dead = connected().await;
    assert!(matches!(dead.hangs_up().await, End::Closed));
    let silent = connected().await;
    assert!(matches!(silent.ended().await, End::Silent));
    let replaced = connected().await;
    let newcomer = bench.connected(&device()).await;
    assert!(matches!(
        replaced.ended().await,
        End::ByHub(EndReason::Evicted)
    ));
    newcomer.hangs_up().await;
    let wills = bench.telemetry();
    assert_eq!(wills.len(), 3);
    for event in wills {
        assert_eq!(event.body(), "gone");
        assert_eq!(event.property("reason").as_deref(), Some("power"));
        assert_eq!(
            event.property("iothub-MessageType").as_deref(),
            Some("Will")
        );
    }
    assert_eq!(
        bench.connection_changes(),
        ["deviceConnected", "deviceDisconnected"].repeat(3),
        "the will is a device's last word"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_protocol_does_not_allow_ends_the_connection() {
    let bench = Bench::new();
    let cases: [(&[u8], &str); 7] = [
        (b"\x10\x00", "a second connect"),
        (b"\x20\x02\x00\x00", "a packet of servers"),
        (b"\xf0\x00", "a packet of no type"),
        (b"\x30\x04\x00\x02\xc3\x28", "a topic that is not UTF-8"),
        (b"\x82\x02\x00\x01", "a subscribe without filters"),
        (b"\x82\x06\x00\x00\x00\x01a\x00", "a packet identifier of 0"),
        (b"\x30\xff\xff\xff\xff\x01", "a length of five bytes"),
    ];
    for (bytes, what) in cases {
        let mut client = bench.connected(&device()).await;
        client.send_bytes(bytes).await;
        let end = client.ended().await;
        assert!(end.is_fault_of_client(), "{what}: {end}");
    }
    let mut client = bench.connected(&device()).await;
    client.send(Packet::PubRec(PubRec::new(1))).await;
    assert!(matches!(client.ended().await, End::Packet(_)));
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_means_nothing_ends_the_connection() {
    let bench = Bench::new();
    for (topic, qos) in [
        ("devices/press-02/messages/events/", QoS::AtMostOnce),
        ("somewhere/else", QoS::AtLeastOnce),
        ("$iothub/methods/res/ok/?$rid=1", QoS::AtMostOnce),
        (EVENTS, QoS::ExactlyOnce),
    ] {
        let mut client = bench.connected(&device()).await;
        let publish = Publish {
            pkid: 1,
            ..Publish::new(topic, qos, "{}")
        };
        client.send(Packet::Publish(publish)).await;
        let end = client.ended().await;
        assert!(end.is_fault_of_client(), "{topic}: {end}");
    }
    assert_eq!(bench.telemetry().len(), 0);
}

/// Asks for so many answers that those which nobody takes fill the stream; what is sent after that is
/// not read, until the connection is cut off.
async fn ask_without_listening(client: &mut Client) {
    let pings = [0xc0, 0x00].repeat(2 * STREAM_BYTES);
    client.send_bytes_until_closed(&pings).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    ask_without_listening(&mut client).await;
    assert!(matches!(client.served.await.unwrap(), End::Stuck));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_nothing_up_when_devhub_stops() {
    let bench = Bench::new();
    let mut client = bench.connected(&device()).await;
    let stop = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        bench.stop.cancel();
        tokio::time::Instant::now()
    };
    let (stopped, ()) = tokio::join!(stop, ask_without_listening(&mut client));
    assert!(matches!(client.served.await.unwrap(), End::Stopped));
    assert!(stopped.elapsed() < Duration::from_secs(2));
}
