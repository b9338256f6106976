//! `hubrelay demo`: everything at once on one machine.

use admin_client::{AdminClient, ConnectionString};
use relay_protocol::DeviceId;
use serde_json::Value;

use crate::harness::{Hubrelay, Rest};

/// Starts the demo with some devices; answers it and what it announced.
pub(crate) async fn start(devices: u32, messages_per_second: u32) -> (Hubrelay, Value) {
    let (devices, rate) = (devices.to_string(), messages_per_second.to_string());
    let any = "127.0.0.1:0";
    #[rustfmt::skip]
    let arguments = [
        "demo", "--json", "--listen", any, "--devices", &devices, "--rate", &rate,
        "--amqp", any, "--amqps", any, "--rest", any, "--mqtt", any, "--mqtts", any,
    ];
    let mut demo = Hubrelay::start(&arguments, &[]);
    let announcement = demo.json_line().await;
    (demo, announcement)
}

#[tokio::test]
async fn the_demo_announces_what_is_needed_to_use_it() {
    let (mut demo, announcement) = start(3, 30).await;
    for member in [
        "eventHubConnectionString",
        "iotHubServiceConnectionString",
        "caCertificate",
    ] {
        assert!(
            announcement[member].is_string(),
            "no {member} in {announcement}"
        );
    }
    let devices = announcement["devices"]
        .as_array()
        .expect("a list of devices");
    assert_eq!(devices.len(), 3);
    for device in devices {
        assert!(device["deviceId"].is_string(), "{device}");
        assert!(device["connectionString"].is_string(), "{device}");
    }

    let url = announcement["url"].as_str().expect("a string");
    let rest = Rest::new(url);
    rest.ready().await;
    let page = rest.get("/").await.is(200);
    assert!(page.header("content-type").starts_with("text/html"));

    let admin = announcement["adminConnectionString"]
        .as_str()
        .expect("a string");
    let connection: ConnectionString = admin.parse().expect("the documented form");
    let client = AdminClient::new(&connection).expect("a client");
    let device_id = DeviceId::from(devices[0]["deviceId"].as_str().expect("a string"));
    rest.eventually("a simulated device sends values", || async {
        let values = client
            .last_values(&device_id)
            .await
            .expect("the key is right");
        (!values.data.is_empty()).then_some(())
    })
    .await;

    demo.signal_termination().await;
    assert_eq!(demo.ended().await.code(), Some(0));
}
