//! Clients that remember what they subscribed to: those of the native protocol and of ux4iot 2.x.

use super::*;
use crate::domain::session::{Dialect, SessionConstraints};
use crate::domain::snapshot::DeviceSnapshot;
use crate::domain::subscription::Delivery;

fn wanted(name: &str, subscription: Subscription) -> Wanted {
    Wanted {
        device: device(name),
        subscription,
        delivery: Delivery::default(),
    }
}

fn all_keys() -> Subscription {
    Subscription::Telemetry(None)
}

async fn open(relay: &Relay, id: SessionId, resume: Option<Resume>) -> Opened {
    tokio::time::timeout(PATIENCE, relay.open(id, resume))
        .await
        .expect("opening does not hang")
        .unwrap()
}

/// A native session with a grant for every key of d1.
async fn session(relay: &Relay) -> SessionId {
    let id = relay.create_session().unwrap();
    relay
        .grant(id, device("d1"), Grant::Telemetry(None))
        .await
        .unwrap();
    id
}

/// An open native session that is subscribed to every key of d1, of which `t` and `u` are `0`.
async fn native(relay: &Relay) -> (SessionId, Opened) {
    let id = session(relay).await;
    let opened = open(relay, id, None).await;
    ingest(relay, "0").await;
    let connection = &opened.connection;
    let subscribed = connection
        .subscribe_with_snapshot(vec![wanted("d1", all_keys())])
        .await
        .unwrap();
    assert_eq!(shown(&subscribed.snapshot), ["d1/t=0", "d1/u=0"]);
    drop(subscribed);
    (id, opened)
}

/// Returns when the message has been applied.
async fn ingest(relay: &Relay, value: &str) {
    relay.ingest(vec![message("d1", value)]).await;
    let key = key("t").unwrap();
    while relay
        .last_value(&device("d1"), &key)
        .await
        .is_none_or(|last| last.value.as_str() != value)
    {
        tokio::task::yield_now().await;
    }
}

fn shown(snapshot: &[DeviceSnapshot]) -> Vec<String> {
    let of_device = |snapshot: &DeviceSnapshot| {
        let device = snapshot.device_id.clone();
        let value =
            move |last: &LastValue| format!("{device}/{}={}", last.key, last.value.as_str());
        snapshot.telemetry.iter().map(value).collect::<Vec<_>>()
    };
    snapshot.iter().flat_map(of_device).collect()
}

const T1: &str = r#"{"t": "1", "u": "1"}"#;
const T2: &str = r#"{"t": "2", "u": "2"}"#;
const T3: &str = r#"{"t": "3", "u": "3"}"#;

#[tokio::test]
async fn updates_are_numbered_and_a_lost_connection_is_resumed_where_it_was() {
    let relay = start(SETTINGS);
    let (id, mut opened) = native(&relay).await;
    assert_eq!((opened.epoch, opened.sequence), (1, 0));
    ingest(&relay, "1").await;
    let first = batch(&mut opened.connection).await;
    assert_eq!((values(&first), first.sequence), (vec![T1.to_owned()], 1));
    drop(first);
    ingest(&relay, "2").await;
    drop(batch(&mut opened.connection).await);
    opened.connection.close().await;
    ingest(&relay, "3").await;

    let resume = Resume {
        epoch: 1,
        sequence: 1,
    };
    let mut again = open(&relay, id, Some(resume)).await;
    assert!(matches!(again.recovery, Recovery::Recovered));
    let missed = batch(&mut again.connection).await;
    assert_eq!(
        (values(&missed), missed.sequence),
        (vec![T2.into(), T3.into()], 3)
    );
}

#[tokio::test]
async fn what_cannot_be_resumed_is_answered_with_all_that_is_known() {
    let relay = start(SETTINGS);
    let (id, mut opened) = native(&relay).await;
    ingest(&relay, "1").await;
    drop(batch(&mut opened.connection).await);
    opened.connection.close().await;
    for resume in [
        Resume {
            epoch: 9,
            sequence: 1,
        },
        Resume {
            epoch: 2,
            sequence: 5,
        },
    ] {
        let again = open(&relay, id, Some(resume)).await;
        let Recovery::Lost(snapshot) = &again.recovery else {
            panic!("nothing can be resumed: {:?}", again.recovery)
        };
        assert_eq!(shown(snapshot), ["d1/t=1", "d1/u=1"]);
        assert_eq!(again.sequence, 0);
        again.connection.close().await;
    }
    let mut again = open(&relay, id, None).await;
    assert_eq!(again.epoch, 4, "each stream has a number of its own");
    ingest(&relay, "2").await;
    assert_eq!(values(&batch(&mut again.connection).await), [T2]);
}

#[tokio::test]
async fn too_much_while_the_client_is_away_costs_the_stream_not_the_memory() {
    let relay = start(Settings {
        outbox_limits: OutboxLimits {
            frames_max: 1,
            bytes_max: 500,
            ..SETTINGS.outbox_limits
        },
        ..SETTINGS
    });
    let (id, opened) = native(&relay).await;
    opened.connection.close().await;
    let long = format!("\"{}\"", "x".repeat(400));
    ingest(&relay, "1").await;
    ingest(&relay, &long).await;
    let resume = Resume {
        epoch: 1,
        sequence: 0,
    };
    let again = open(&relay, id, Some(resume)).await;
    let Recovery::Lost(snapshot) = &again.recovery else {
        panic!("too much was missed: {:?}", again.recovery)
    };
    assert_eq!(shown(snapshot)[0], format!("d1/t={long}"));
}

#[tokio::test]
async fn without_a_window_a_lost_connection_ends_the_session() {
    let relay = start(Settings {
        resume_window_ms: 0,
        ..SETTINGS
    });
    let (id, opened) = native(&relay).await;
    opened.connection.close().await;
    assert_eq!(relay.open(id, None).await.unwrap_err(), NoSuchSession);
}

#[tokio::test]
async fn a_half_open_connection_in_the_middle_of_a_write_gives_way() {
    let relay = start(SETTINGS);
    let (id, mut opened) = native(&relay).await;
    ingest(&relay, "1").await;
    let being_written = batch(&mut opened.connection).await;
    let resuming = {
        let relay = relay.clone();
        let resume = Resume {
            epoch: 1,
            sequence: 0,
        };
        tokio::spawn(async move { relay.open(id, Some(resume)).await.unwrap() })
    };
    tokio::time::timeout(PATIENCE, opened.connection.cut())
        .await
        .expect("the old connection is cut");
    drop(being_written);
    let mut again = resuming.await.unwrap();
    assert_eq!(values(&batch(&mut again.connection).await), [T1]);
    assert!(matches!(
        next(&mut opened.connection).await,
        Next::Disconnect(Disconnect::Replaced)
    ));
    opened.connection.close().await;
    ingest(&relay, "2").await;
    assert_eq!(values(&batch(&mut again.connection).await), [T2]);
}

#[tokio::test]
async fn what_was_revoked_while_the_client_was_away_is_told_and_not_sent() {
    let relay = start(SETTINGS);
    let (id, mut opened) = native(&relay).await;
    ingest(&relay, "1").await;
    drop(batch(&mut opened.connection).await);
    opened.connection.close().await;
    ingest(&relay, "2").await;
    relay
        .revoke(id, device("d1"), Grant::Telemetry(None))
        .await
        .unwrap();
    ingest(&relay, "3").await;
    let resume = Resume {
        epoch: 1,
        sequence: 0,
    };
    let mut again = open(&relay, id, Some(resume)).await;
    assert!(matches!(again.recovery, Recovery::Recovered));
    let Next::Ended(ended) = next(&mut again.connection).await else {
        panic!("the client is told first")
    };
    let ended_all_keys = EndedSubscription {
        device: device("d1"),
        subscription: all_keys(),
        reason: EndReason::Revoked,
    };
    assert_eq!(ended, [ended_all_keys]);
    let nothing = tokio::time::timeout(
        Duration::from_millis(50),
        again.connection.next(Takes::BytesMax(usize::MAX)),
    );
    assert!(nothing.await.is_err(), "nothing else is left");
}

#[tokio::test]
async fn subscribing_again_neither_repeats_nor_reorders() {
    let relay = start(SETTINGS);
    let (_, mut opened) = native(&relay).await;
    ingest(&relay, "1").await;
    ingest(&relay, "2").await;
    let subscription = Subscription::Telemetry(key("t"));
    let subscribed = opened
        .connection
        .subscribe_with_snapshot(vec![wanted("d1", subscription)])
        .await
        .unwrap();
    assert_eq!(shown(&subscribed.snapshot), ["d1/t=2"]);
    drop(subscribed);
    ingest(&relay, "3").await;
    assert_eq!(
        values(&batch(&mut opened.connection).await),
        [r#"{"u": "1"}"#, r#"{"u": "2"}"#, T3],
        "what waited of t is older than the snapshot"
    );
}

#[tokio::test]
async fn a_wish_that_is_not_granted_is_refused_by_itself() {
    let relay = start(SETTINGS);
    let (id, opened) = native(&relay).await;
    let subscribed = opened
        .connection
        .subscribe_with_snapshot(vec![
            wanted("d2", all_keys()),
            wanted("d1", Subscription::ConnectionState),
            wanted("d1", Subscription::Telemetry(key("t"))),
        ])
        .await
        .unwrap();
    let refused = Err(crate::domain::session::SubscribeRefusal::NotGranted);
    assert_eq!(subscribed.outcomes, [refused, refused, Ok(())]);
    drop(subscribed);
    let read = opened
        .connection
        .snapshot(vec![
            (device("d1"), all_keys()),
            (device("d2"), all_keys()),
            (device("d1"), Subscription::DeviceTwin),
        ])
        .await
        .unwrap();
    assert_eq!(read.outcomes, [Ok(()), refused, refused]);
    assert_eq!(shown(&read.snapshot), ["d1/t=0", "d1/u=0"]);
    drop(read);
    relay
        .drop_subscriptions(
            id,
            vec![(device("d1"), all_keys()), (device("d9"), all_keys())],
        )
        .await
        .unwrap();
}

fn in_ms(ms: i64) -> i64 {
    SystemClock::shared().unix_ms() + ms
}

fn authorization(expires_at_unix_ms: i64) -> Authorization {
    Authorization {
        grants: vec![TimedGrant {
            device: device("d1"),
            grant: Grant::Telemetry(None),
            expires_at_unix_ms: Some(expires_at_unix_ms),
        }],
        constraints: SessionConstraints::default(),
    }
}

#[tokio::test]
async fn a_grant_that_runs_out_is_a_revocation_at_its_moment() {
    let relay = start(SETTINGS);
    let id = relay.create_session().unwrap();
    let expires_at = in_ms(1_500);
    relay
        .authorize(id, authorization(expires_at))
        .await
        .unwrap();
    let mut opened = open(&relay, id, None).await;
    opened
        .connection
        .subscribe_with_snapshot(vec![wanted("d1", all_keys())])
        .await
        .unwrap();
    let Next::Ended(ended) = next(&mut opened.connection).await else {
        panic!("nothing was sent")
    };
    assert!(in_ms(0) >= expires_at);
    assert_eq!(ended[0].reason, EndReason::Expired);
    assert_eq!(
        relay
            .is_granted(id, &device("d1"), &Access::Telemetry(None))
            .await,
        Ok(false)
    );
}

#[tokio::test]
async fn a_renewed_authorization_goes_on_without_a_break() {
    let relay = start(SETTINGS);
    let id = relay.create_session().unwrap();
    relay
        .authorize(id, authorization(in_ms(100)))
        .await
        .unwrap();
    relay
        .authorize(id, authorization(in_ms(60_000)))
        .await
        .unwrap();
    let mut opened = open(&relay, id, None).await;
    opened
        .connection
        .subscribe_with_snapshot(vec![wanted("d1", all_keys())])
        .await
        .unwrap();
    let ended = tokio::time::timeout(
        Duration::from_millis(200),
        opened.connection.next(Takes::BytesMax(usize::MAX)),
    );
    assert!(
        ended.await.is_err(),
        "the first expiry does not count any more"
    );
    ingest(&relay, "1").await;
    assert_eq!(values(&batch(&mut opened.connection).await), [T1]);
}

#[tokio::test]
async fn a_session_with_an_end_is_told_when_it_comes() {
    let relay = start(SETTINGS);
    let id = relay.create_session().unwrap();
    let constraints = SessionConstraints {
        expires_at_unix_ms: Some(in_ms(1_000)),
        ..SessionConstraints::default()
    };
    relay
        .authorize(
            id,
            Authorization {
                constraints,
                ..Authorization::default()
            },
        )
        .await
        .unwrap();
    let mut opened = open(&relay, id, None).await;
    assert!(matches!(
        next(&mut opened.connection).await,
        Next::Disconnect(Disconnect::SessionExpired)
    ));
    opened.connection.close().await;
    assert!(!relay.has_session(id));
}

#[tokio::test]
async fn an_authorization_with_too_many_grants_changes_nothing() {
    let relay = start(Settings {
        session_limits: SessionLimits {
            grants_max: 2,
            ..SETTINGS.session_limits
        },
        ..SETTINGS
    });
    let id = session(&relay).await;
    let given = |name: &str| TimedGrant {
        device: device(name),
        grant: Grant::DeviceTwin(None),
        expires_at_unix_ms: None,
    };
    let many = Authorization {
        grants: vec![given("d1"), given("d2")],
        constraints: SessionConstraints {
            subscriptions_max: Some(0),
            ..SessionConstraints::default()
        },
    };
    assert_eq!(relay.authorize(id, many).await, Err(GrantError::TooMany));
    let granted = relay
        .is_granted(id, &device("d1"), &Access::DeviceTwin)
        .await;
    assert_eq!(granted, Ok(false));
    relay
        .subscribe(request(id, "d1", all_keys()))
        .await
        .expect("the constraints are the old ones");
    let repeated = Authorization {
        grants: vec![given("d1"), given("d1")],
        ..Authorization::default()
    };
    assert_eq!(relay.authorize(id, repeated).await, Ok(()));
}

#[tokio::test]
async fn a_2x_grant_shows_the_last_value_each_time_and_outlives_the_connection() {
    let relay = start(SETTINGS);
    let id = relay.create_session().unwrap();
    let mut connection = connect(&relay, id).await;
    ingest(&relay, "1").await;
    let grant = Grant::Telemetry(key("t"));
    for _ in 0..2 {
        relay
            .grant_v2(id, device("d1"), grant.clone())
            .await
            .unwrap();
        let shown = batch(&mut connection).await;
        assert_eq!(values(&shown), [r#"{"t": "1"}"#]);
        assert_eq!(shown.dialect, Dialect::V2);
    }
    connection.close().await;
    ingest(&relay, "2").await;
    let mut connection = connect(&relay, id).await;
    assert_eq!(values(&batch(&mut connection).await), [r#"{"t": "2"}"#]);
    ingest(&relay, "3").await;
    assert_eq!(values(&batch(&mut connection).await), [r#"{"t": "3"}"#]);
    relay.revoke(id, device("d1"), grant).await.unwrap();
    ingest(&relay, "4").await;
    let nothing = tokio::time::timeout(
        Duration::from_millis(50),
        connection.next(Takes::BytesMax(usize::MAX)),
    );
    assert!(nothing.await.is_err(), "a grant is the subscription");
}

#[tokio::test]
async fn a_snapshot_that_would_be_too_large_is_refused_and_nothing_changes() {
    let relay = start(Settings {
        snapshot_bytes_max: 1000,
        ..SETTINGS
    });
    let (id, opened) = native(&relay).await;
    let long = format!("\"{}\"", "x".repeat(1000));
    ingest(&relay, &long).await;
    let one = || vec![wanted("d1", Subscription::Telemetry(key("t")))];
    let refused = opened.connection.subscribe_with_snapshot(one()).await;
    assert_eq!(refused.unwrap_err(), SnapshotError::TooLarge);
    let of = vec![(device("d1"), all_keys())];
    let refused = opened.connection.snapshot(of).await;
    assert_eq!(refused.unwrap_err(), SnapshotError::TooLarge);
    opened.connection.close().await;
    let resume = Resume {
        epoch: 9,
        sequence: 0,
    };
    assert_eq!(
        relay.open(id, Some(resume)).await.unwrap_err(),
        NoSuchSession,
        "what is subscribed cannot be shown, so its client begins again"
    );
}
