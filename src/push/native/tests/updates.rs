//! What comes after a subscription, and how it can be had.

use std::time::Duration;

use relay_protocol::Update;
use relay_protocol::native::{NewSubscription, Selector, Updates, Values};

use super::harness::{Server, every_key, json, keys, numbers, roomy, whole};
use crate::domain::device_message::{Content, MessageText, TelemetryMessage};
use crate::domain::grant::Grant;
use crate::domain::limits::OutboxLimits;
use crate::domain::raw_json::RawJson;
use crate::push::Settings;
use crate::relay;

/// The telemetry of the only update.
fn telemetry(updates: &Updates) -> Vec<(String, String)> {
    let [update] = &updates.updates[..] else {
        panic!("{updates:?}");
    };
    let Update::Telemetry(values) = &update.update else {
        panic!("{update:?}");
    };
    values
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().to_owned()))
        .collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test]
async fn each_kind_arrives_with_its_times_and_a_number() {
    let server = Server::start().await;
    let (mut client, _) = server
        .granted([
            Grant::Telemetry(None),
            Grant::ConnectionState,
            Grant::D2cMessages,
        ])
        .await;
    client
        .subscribe([
            every_key("d1").into(),
            whole("d1", Values::ConnectionState).into(),
            whole("d1", Values::D2cMessages).into(),
        ])
        .await;
    let before = server.relay.unix_ms();
    server.send_telemetry("d1", &[("x", "1.50")]).await;
    let updates = client.updates().await;
    assert_eq!(updates.sequence, 1);
    assert_eq!(telemetry(&updates), pairs([("x", "1.50")]));
    let update = &updates.updates[0];
    assert_eq!(update.timestamp, "2024-05-01T10:00:00.000Z");
    assert!(
        (before..=updates.time).contains(&update.received_at),
        "{updates:?}"
    );

    server
        .send_content(
            "d1",
            Content::ConnectionState {
                connected: false,
                sequence: None,
            },
        )
        .await;
    let updates = client.updates().await;
    assert_eq!(updates.sequence, 2);
    assert_eq!(updates.updates[0].update, Update::ConnectionState(false));

    let message = TelemetryMessage {
        message: MessageText::Own(RawJson::from_valid("[1, 2.0]")),
        ..TelemetryMessage::default()
    };
    server.send_content("d1", Content::Telemetry(message)).await;
    let updates = client.updates().await;
    assert_eq!(updates.sequence, 3);
    assert_eq!(updates.updates[0].update, Update::Message(json("[1, 2.0]")));
}

#[tokio::test]
async fn patterns_select_keys() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([Grant::Telemetry(None)]).await;
    let selector = Selector {
        device_id: "d1".into(),
        module_id: None,
        values: Values::Telemetry {
            keys: vec!["exact".to_owned()],
            patterns: vec!["temp*".to_owned(), "*.rate".to_owned()],
        },
    };
    server
        .send_telemetry("d1", &[("temp1", "0"), ("pump.rate", "0"), ("other", "0")])
        .await;
    let subscribed = client.subscribe([selector.clone().into()]).await;
    let known = &subscribed.snapshot[0].telemetry;
    assert_eq!(known.keys().collect::<Vec<_>>(), ["pump.rate", "temp1"]);
    server
        .send_telemetry(
            "d1",
            &[
                ("temp", "1"),
                ("exact", "2"),
                ("exactly", "3"),
                ("a.rate", "4"),
            ],
        )
        .await;
    assert_eq!(
        telemetry(&client.updates().await),
        pairs([("a.rate", "4"), ("exact", "2"), ("temp", "1")])
    );
    client.unsubscribe([selector]).await;
    server.send_telemetry("d1", &[("temp", "2")]).await;
    client.still_answers().await;
}

#[tokio::test]
async fn with_changes_only_what_stays_the_same_is_left_out() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([Grant::Telemetry(None)]).await;
    server.send_telemetry("d1", &[("a", "1"), ("b", "1")]).await;
    client
        .subscribe([NewSubscription {
            changes_only: true,
            ..every_key("d1").into()
        }])
        .await;
    for (members, expected) in [
        ([("a", "1"), ("b", "2")], vec![("b", "2")]),
        ([("a", "1"), ("b", "2")], vec![]),
        ([("a", "1.0"), ("b", "2")], vec![("a", "1.0")]),
    ] {
        server.send_telemetry("d1", &members).await;
        if expected.is_empty() {
            client.still_answers().await;
            continue;
        }
        let got = telemetry(&client.updates().await);
        let got: Vec<_> = got.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn an_interval_merges_what_comes_faster() {
    const INTERVAL_MS: u64 = 300;
    let server = Server::start().await;
    let (mut client, _) = server.granted([Grant::Telemetry(None)]).await;
    client
        .subscribe([NewSubscription {
            min_interval_ms: Some(INTERVAL_MS),
            ..keys("d1", ["n", "m"]).into()
        }])
        .await;
    let start = std::time::Instant::now();
    server.send(1).await;
    assert_eq!(telemetry(&client.updates().await), pairs([("n", "1")]));
    for number in 2..50 {
        server.send(number).await;
    }
    server.send_telemetry("d1", &[("m", "9")]).await;
    let merged = client.updates().await;
    assert_eq!(telemetry(&merged), pairs([("m", "9"), ("n", "49")]));
    let elapsed = start.elapsed();
    assert!(
        elapsed >= Duration::from_millis(INTERVAL_MS - 20),
        "{elapsed:?}"
    );
    client.still_answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_told_how_much_it_skipped_and_ends_with_the_newest() {
    const LAST: u64 = 400;
    let settings = relay::Settings {
        outbox_limits: OutboxLimits {
            frames_max: 10,
            bytes_max: 4 * 1024 * 1024,
            ..roomy().outbox_limits
        },
        ..roomy()
    };
    let server = Server::with(Settings::default(), settings).await;
    let (mut client, _) = server.following().await;
    let filling = format!("\"{}\"", "x".repeat(100_000));
    for number in 1..=LAST {
        server
            .send_telemetry("d1", &[("n", &number.to_string()), ("filling", &filling)])
            .await;
    }
    let (mut got, mut conflated, mut sequence) = (0, 0, 0);
    loop {
        let updates = client.updates().await;
        conflated += updates.skipped.conflated;
        got += updates.updates.len() as u64;
        sequence += updates.updates.len() as u64;
        assert_eq!(updates.sequence, sequence, "numbers have no gap");
        if numbers(&updates).last() == Some(&LAST) {
            break;
        }
    }
    assert!(conflated > 0, "nothing was skipped, so nothing was slow");
    // Two values in each message.
    assert_eq!(2 * got + conflated, 2 * LAST);
}
