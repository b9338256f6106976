//! Connections, what they are given, and what is told of them.

use super::*;

#[test]
fn connections_are_told_once_used_in_order_with_rising_numbers() {
    let fixture = Fixture::new();
    fixture.create(&press());
    fixture.create(&spindle());
    let silent = fixture.connect(&press());
    drop(silent);
    let first = fixture.connect(&press());
    first.send_telemetry(TelemetryMessage::json("1")).unwrap();
    // The clock going back changes nothing about the order.
    *fixture.clock.0.lock().unwrap() = START_MS - 1_000;
    let second = fixture.connect(&press());
    assert_eq!(
        code(first.send_telemetry(TelemetryMessage::json("2"))),
        ErrorCode::DeviceConnectionClosedRemotely
    );
    drop(first);
    second.listen(Listen::Messages, true).unwrap();
    second.send_telemetry(TelemetryMessage::json("3")).unwrap();
    let module = fixture.connect(&spindle());
    module.send_telemetry(TelemetryMessage::json("4")).unwrap();
    drop(second);
    drop(module);
    assert_eq!(
        fixture.operations(2),
        operations(&[
            ("deviceConnected", "press"),
            ("", "press"),
            ("deviceDisconnected", "press"),
            ("deviceConnected", "press"),
            ("", "press"),
            ("moduleConnected", "press/spindle"),
            ("", "press/spindle"),
            ("deviceDisconnected", "press"),
            ("moduleDisconnected", "press/spindle"),
        ])
    );
    let numbers: Vec<String> = fixture
        .told()
        .iter()
        .filter(|event| event.about == "press")
        .filter_map(|event| Some(event.body.get("sequenceNumber")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(numbers.len(), 4);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let twin = fixture.hub.twin(&press()).unwrap();
    assert_eq!(twin["connectionState"], "Disconnected");
}

#[tokio::test]
async fn messages_wait_for_a_listener_and_come_again_until_they_are_completed() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let message = |text: &'static str| CloudToDeviceMessage {
        body: Bytes::from_static(text.as_bytes()),
        ..CloudToDeviceMessage::default()
    };
    fixture.hub.send_message(&press(), message("1")).unwrap();
    let mut link = fixture.connect(&press());
    fixture.hub.send_message(&press(), message("2")).unwrap();
    assert_eq!(
        fixture.hub.twin(&press()).unwrap()["cloudToDeviceMessageCount"],
        2
    );
    link.listen(Listen::Messages, true).unwrap();
    let given = async |link: &mut DeviceLink| match link.next().await {
        ToDevice::Message(locked) => locked,
        other => panic!("{other:?}"),
    };
    let first = given(&mut link).await;
    assert_eq!(first.message, message("1"));
    link.complete_message(first.lock_token).unwrap();
    assert_eq!(given(&mut link).await.message, message("2"));

    let mut link = fixture.connect(&press());
    link.listen(Listen::Messages, true).unwrap();
    fixture.hub.send_message(&press(), message("3")).unwrap();
    assert_eq!(given(&mut link).await.message, message("2"));
    assert_eq!(given(&mut link).await.message, message("3"));
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_ended() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let mut link = fixture.connect(&press());
    link.listen(Listen::DesiredProperties, true).unwrap();
    for number in 0..600 {
        let patch = json!({ "properties": { "desired": { "n": number } } });
        fixture
            .hub
            .update_twin(&press(), &patch, &IfMatch::Any)
            .unwrap();
    }
    assert_eq!(link.next().await, ToDevice::End(EndReason::Stuck));
    assert_eq!(
        fixture.hub.twin(&press()).unwrap()["connectionState"],
        "Disconnected"
    );
}

#[tokio::test]
async fn only_routed_sources_reach_the_event_hub() {
    let only_telemetry = Routes {
        telemetry: true,
        twin_changes: false,
        connection_states: false,
        lifecycle: false,
    };
    for (routes, expected) in [
        (only_telemetry, vec!["Telemetry"]),
        (
            Routes {
                telemetry: false,
                ..Routes::default()
            },
            vec![
                "deviceLifecycleEvents",
                "deviceConnectionStateEvents",
                "twinChangeEvents",
                "deviceConnectionStateEvents",
                "deviceLifecycleEvents",
            ],
        ),
    ] {
        let fixture = Fixture::with_routes(routes);
        fixture.create(&press());
        let link = fixture.connect(&press());
        link.send_telemetry(TelemetryMessage::json("1")).unwrap();
        link.report(b"{}").unwrap();
        drop(link);
        fixture
            .hub
            .delete_identity(&press(), &IfMatch::Any)
            .unwrap();
        let sources: Vec<_> = fixture
            .told()
            .into_iter()
            .map(|event| event.source)
            .collect();
        assert_eq!(sources, expected);
    }
}
