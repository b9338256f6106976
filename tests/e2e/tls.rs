//! AMQP over TLS, trusted through the certificate authority that the stand-in generates.

use serde_json::json;

use crate::harness::{Devhub, DeviceEvent, Injector, Relay, Session, telemetry};

#[tokio::test]
async fn events_arrive_over_tls_when_the_authority_is_trusted() {
    let devhub = Devhub::start().await;
    let authority = devhub.ca_certificate();
    let authority = authority.to_str().expect("the path is UTF-8");
    let options = [("SSL_CERT_FILE", authority)];
    let relay = Relay::start(&devhub.tls_connection_string(), &options).await;
    relay.rest.ready().await;

    let session = Session::create(&relay.rest).await;
    let mut socket = session.connect().await;
    session.follow(&telemetry("d1", "t")).await;
    let mut injector = Injector::connect(&devhub.event_hub_connection_string).await;
    injector
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 1}));
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_never_consumed() {
    let devhub = Devhub::start().await;
    let relay = Relay::start(&devhub.tls_connection_string(), &[]).await;
    let expectation = "the log names the certificate";
    relay
        .rest
        .eventually(expectation, || async {
            relay.process.log().contains("certificate").then_some(())
        })
        .await;
    relay
        .rest
        .get("/status")
        .await
        .says(503, "Still initializing");
}
