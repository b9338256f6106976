//! Stopping on SIGTERM.

use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::{Devhub, Testbed, packet::Packet, polling::Polling, telemetry};

#[tokio::test]
async fn on_sigterm_every_client_is_told_and_the_exit_code_is_0() {
    let mut testbed = Testbed::start().await;
    let (_, mut idle) = testbed.connected_session().await;
    let (_, mut subscribed) = testbed.following([telemetry("d1", "t")]).await;
    let session = testbed.session().await;
    let mut polling = Polling::connect(&testbed.rest, &session.id).await;

    let (told, ()) = tokio::join!(polling.next_packet(), async {
        // Sent after the poll and answered: by now the poll is pending, as that of a live client always is.
        for _ in 0..10 {
            testbed.rest.get("/version").await.is(200);
        }
        testbed.relay.process.signal_termination().await;
    });
    assert!(matches!(told, Packet::Disconnect { .. }), "{told:?}");
    assert!(idle.ends_with_disconnect().await);
    assert!(subscribed.ends_with_disconnect().await);

    assert_eq!(testbed.relay.process.ended().await.code(), Some(0));
    assert!(TcpStream::connect(testbed.rest.authority()).await.is_err());
}

#[tokio::test]
async fn sigterm_under_load_ends_in_order() {
    let mut testbed = Testbed::start().await;
    let (_, mut socket) = testbed.following([telemetry("d1", "n")]).await;
    let flood = testbed.injector.flood("d1", "n");
    assert_eq!(socket.next_data().await.telemetry(), json!({"n": 1}));
    testbed.relay.process.signal_termination().await;
    assert!(socket.ends_with_disconnect().await);
    assert_eq!(testbed.relay.process.ended().await.code(), Some(0));
    flood.stop().await;
}

#[tokio::test]
async fn the_stand_in_ends_on_sigterm_too() {
    let mut devhub = Devhub::start().await;
    assert_eq!(devhub.terminate().await.code(), Some(0));
}
