mod idle_sizes;
mod remembering_clients;
mod twins;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::domain::device_message::{Content, TelemetryMessage};
use crate::domain::grant::Grant;
use crate::domain::hub_twin::HubTwin;
use crate::domain::limits::ShardLimits;
use crate::domain::shard::TwinCache;
use crate::domain::subscription::Subscription;
use crate::domain::telemetry::tests::telemetry;
use crate::domain::time::Timestamp;
use crate::domain::update::UpdateBody;

/// A relay with room for what a test does; tests of other modules change what they are about.
pub(crate) const SETTINGS: Settings = Settings {
    shards: 2,
    shard: ShardSettings {
        limits: ShardLimits {
            devices_max: 1000,
            keys_per_device_max: 1000,
        },
        throttling_interval_ms: None,
        connection_state_ttl_ms: None,
        twin_cache: TwinCache::Off,
        reads_twins: false,
        reads_connection_states: false,
    },
    session_limits: SessionLimits {
        grants_max: 100,
        subscriptions_max: 100,
    },
    outbox_limits: OutboxLimits {
        frames_max: 100,
        bytes_max: 100_000,
        replay_frames_max: 100,
        replay_bytes_max: 100_000,
    },
    sessions_max: 100,
    unbound_sessions_max: 50,
    write_wait: Duration::from_millis(50),
    resume_window_ms: 60_000,
    snapshot_bytes_max: 1_000_000,
};

/// Fails a test instead of letting it hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(settings: Settings) -> Relay {
    Relay::start(
        settings,
        SystemClock::shared(),
        &Metrics::new(),
        &Lifecycle::new(),
        None,
    )
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn key(name: &str) -> Option<TelemetryKey> {
    TelemetryKey::new(name)
}

fn message(device_name: &str, value: &str) -> DeviceMessage {
    let telemetry = Some(telemetry(&[("t", value), ("u", value)]));
    DeviceMessage {
        device_id: device(device_name),
        timestamp: Timestamp::UnixMs(1),
        content: Content::Telemetry(TelemetryMessage {
            telemetry,
            ..TelemetryMessage::default()
        }),
    }
}

/// Returns when the updates that follow from a message are in the outboxes. Its value must be another than before.
async fn ingest_to_the_end(relay: &Relay, message: DeviceMessage) {
    let device = message.device_id.clone();
    let Content::Telemetry(TelemetryMessage {
        telemetry: Some(telemetry),
        ..
    }) = &message.content
    else {
        panic!("not telemetry: {message:?}");
    };
    let (key, value) = (
        key(telemetry.key(0)).unwrap(),
        telemetry.value(0).to_owned(),
    );
    relay.ingest(vec![message]).await;
    while relay
        .last_value(&device, &key)
        .await
        .is_none_or(|last| last.value.as_str() != value)
    {
        tokio::task::yield_now().await;
    }
}

fn request(session: SessionId, name: &str, subscription: Subscription) -> SubscriptionRequest {
    SubscriptionRequest {
        session,
        device: device(name),
        subscription,
    }
}

/// A session that is connected and subscribed to every key of d1.
async fn subscriber(relay: &Relay) -> (SessionId, Connection) {
    let id = relay.create_session().unwrap();
    let connection = connect(relay, id).await;
    relay
        .grant(id, device("d1"), Grant::Telemetry(None))
        .await
        .unwrap();
    relay
        .subscribe(request(id, "d1", Subscription::Telemetry(None)))
        .await
        .unwrap();
    (id, connection)
}

async fn connect(relay: &Relay, id: SessionId) -> Connection {
    match relay.connect(Some(id), FirstTransport::Websocket).await {
        Admission::Accepted(connection) => connection,
        refused => panic!("refused: {refused:?}"),
    }
}

async fn next(connection: &mut Connection) -> Next {
    tokio::time::timeout(PATIENCE, connection.next(Takes::BytesMax(usize::MAX)))
        .await
        .expect("something comes next")
}

async fn batch(connection: &mut Connection) -> Batch {
    match next(connection).await {
        Next::Updates(batch) => batch,
        other => panic!("not updates: {other:?}"),
    }
}

fn values(batch: &Batch) -> Vec<String> {
    let telemetry = |update: &Arc<crate::domain::update::Update>| match &update.body {
        UpdateBody::Telemetry(telemetry) => format!("{telemetry:?}"),
        other => format!("{other:?}"),
    };
    batch.updates.iter().map(telemetry).collect()
}

#[tokio::test]
async fn a_subscriber_gets_updates_and_last_values_are_current_by_then() {
    let relay = start(SETTINGS);
    let (_, mut connection) = subscriber(&relay).await;
    relay
        .ingest(vec![
            message("d1", "1"),
            message("d2", "1"),
            message("d1", "2"),
        ])
        .await;
    let mut got = values(&batch(&mut connection).await);
    if got.len() == 1 {
        got.extend(values(&batch(&mut connection).await));
    }
    assert_eq!(got, [r#"{"t": "1", "u": "1"}"#, r#"{"t": "2", "u": "2"}"#]);
    let last = relay
        .last_value(&device("d1"), &TelemetryKey::new("t").unwrap())
        .await
        .unwrap();
    assert_eq!(last.value.as_str(), "2");
    assert_eq!(relay.last_values(&device("d2")).await.len(), 2);
}

#[tokio::test]
async fn a_revocation_drops_what_waits_and_waits_for_the_write_under_way() {
    let relay = start(Settings {
        write_wait: PATIENCE,
        ..SETTINGS
    });
    let (id, mut connection) = subscriber(&relay).await;
    relay.ingest(vec![message("d1", "1")]).await;
    let being_written = batch(&mut connection).await;
    relay.ingest(vec![message("d1", "2")]).await;
    let revoking = relay.clone();
    let revocation = tokio::spawn(async move {
        revoking
            .revoke(id, device("d1"), Grant::Telemetry(None))
            .await
    });
    // By the time the subscription is gone the shard has acted; only the write is left to wait for.
    while relay
        .inner
        .sessions
        .get(id)
        .unwrap()
        .session
        .try_lock()
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    relay.ingest(vec![message("d1", "3")]).await;
    assert!(!revocation.is_finished());
    drop(being_written);
    revocation.await.unwrap().unwrap();
    let nothing = tokio::time::timeout(
        Duration::from_millis(50),
        connection.next(Takes::BytesMax(usize::MAX)),
    )
    .await;
    assert!(nothing.is_err(), "got {nothing:?} after the revocation");
}

#[tokio::test]
async fn a_write_that_holds_a_revocation_up_is_cut() {
    let relay = start(SETTINGS);
    let (id, mut connection) = subscriber(&relay).await;
    relay.ingest(vec![message("d1", "1")]).await;
    let stuck = batch(&mut connection).await;
    let transport = tokio::spawn(async move {
        connection.cut().await;
        drop(stuck);
        connection.close().await;
    });
    relay
        .revoke(id, device("d1"), Grant::Telemetry(None))
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, transport)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_unsubscribed_key_is_cut_out_of_what_waits() {
    let relay = start(SETTINGS);
    let id = relay.create_session().unwrap();
    let mut connection = connect(&relay, id).await;
    relay
        .grant(id, device("d1"), Grant::Telemetry(None))
        .await
        .unwrap();
    for name in ["t", "u"] {
        relay
            .subscribe(request(id, "d1", Subscription::Telemetry(key(name))))
            .await
            .unwrap();
    }
    ingest_to_the_end(&relay, message("d1", "1")).await;
    relay
        .unsubscribe(request(id, "d1", Subscription::Telemetry(key("t"))))
        .await
        .unwrap();
    assert_eq!(values(&batch(&mut connection).await), [r#"{"u": "1"}"#]);
}

#[tokio::test]
async fn a_deleted_session_is_told_and_gone() {
    let relay = start(SETTINGS);
    let (id, mut connection) = subscriber(&relay).await;
    relay.ingest(vec![message("d1", "1")]).await;
    relay.delete_session(id).await;
    assert!(matches!(
        next(&mut connection).await,
        Next::Disconnect(Disconnect::SessionDeleted)
    ));
    connection.close().await;
    assert_eq!(
        relay
            .revoke(id, device("d1"), Grant::DeviceTwin(None))
            .await,
        Err(NoSuchSession)
    );
    let again = relay.connect(Some(id), FirstTransport::Websocket).await;
    assert!(matches!(again, Admission::Retired));
}

#[tokio::test]
async fn deleting_all_sessions_reaches_every_one() {
    let relay = start(SETTINGS);
    let (first, mut connection) = subscriber(&relay).await;
    let fresh = relay.create_session().unwrap();
    relay.delete_all_sessions().await;
    assert!(matches!(
        next(&mut connection).await,
        Next::Disconnect(Disconnect::SessionDeleted)
    ));
    assert!(!relay.has_session(first) && !relay.has_session(fresh));
}

#[tokio::test]
async fn stuck_connections_do_not_queue_when_all_sessions_are_deleted() {
    let relay = start(Settings {
        sessions_max: 1000,
        unbound_sessions_max: 1000,
        write_wait: 2 * PATIENCE,
        ..SETTINGS
    });
    let mut sessions = Vec::new();
    for _ in 0..600 {
        sessions.push(subscriber(&relay).await);
    }
    relay.ingest(vec![message("d1", "1")]).await;
    let mut stuck = Vec::new();
    for (_, connection) in &mut sessions {
        stuck.push(batch(connection).await);
    }
    let deletion = tokio::spawn({
        let relay = relay.clone();
        async move { relay.delete_all_sessions().await }
    });
    let all_are_gone = async {
        while sessions.iter().any(|(id, _)| relay.has_session(*id)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_are_gone)
        .await
        .expect("every session ends while all writes are stuck");
    drop(stuck);
    deletion.await.unwrap();
}

#[tokio::test]
async fn a_session_with_subscriptions_ends_with_its_connection_and_others_wait() {
    let relay = start(SETTINGS);
    let (id, connection) = subscriber(&relay).await;
    connection.close().await;
    assert!(!relay.has_session(id));
    let other = relay.create_session().unwrap();
    connect(&relay, other).await.close().await;
    assert!(relay.has_session(other));
    connect(&relay, other).await;
}

#[tokio::test]
async fn a_connection_that_nobody_took_ends_its_session_all_the_same() {
    let lifecycle = Lifecycle::new();
    let relay = Relay::start(
        SETTINGS,
        SystemClock::shared(),
        &Metrics::new(),
        &lifecycle,
        None,
    );
    let (id, connection) = subscriber(&relay).await;
    drop(connection);
    tokio::time::timeout(PATIENCE, relay.stop())
        .await
        .expect("the relay stops");
    assert!(!relay.has_session(id));
}

#[tokio::test]
async fn a_newer_connection_replaces_an_older_one() {
    let relay = start(SETTINGS);
    let id = relay.create_session().unwrap();
    let mut older = connect(&relay, id).await;
    let newer = connect(&relay, id).await;
    assert!(matches!(
        next(&mut older).await,
        Next::Disconnect(Disconnect::Replaced)
    ));
    older.close().await;
    newer.close().await;
    assert!(relay.has_session(id));
}

#[tokio::test]
async fn a_subscribed_session_whose_id_comes_back_is_retired() {
    let relay = start(SETTINGS);
    let (id, mut connection) = subscriber(&relay).await;
    let again = relay.connect(Some(id), FirstTransport::Websocket).await;
    assert!(matches!(again, Admission::Retired));
    assert!(matches!(
        next(&mut connection).await,
        Next::Disconnect(Disconnect::Retired)
    ));
}

#[tokio::test]
async fn ids_from_before_a_restart_are_refused_and_ids_never_issued_are_put_out() {
    let clock = ManualClock::at(1_700_000_000_000);
    let relay = Relay::start(
        SETTINGS,
        Arc::new(clock),
        &Metrics::new(),
        &Lifecycle::new(),
        None,
    );
    let old = SessionId::issue(1_700_000_000_000 - 5_000, [1; 10]);
    let young = SessionId::issue(1_700_000_000_000 - 4_999, [1; 10]);
    for (id, first_transport, retired) in [
        (Some(old), FirstTransport::Websocket, true),
        (Some(old), FirstTransport::Polling, false),
        (Some(young), FirstTransport::Websocket, false),
        (None, FirstTransport::Websocket, false),
    ] {
        let admission = relay.connect(id, first_transport).await;
        assert_eq!(
            matches!(admission, Admission::Retired),
            retired,
            "{id:?} by {first_transport:?}"
        );
        assert_eq!(
            matches!(admission, Admission::Unknown),
            !retired,
            "{id:?} by {first_transport:?}"
        );
    }
}

#[tokio::test]
async fn a_change_is_finished_even_when_its_caller_goes_away() {
    let relay = start(Settings {
        write_wait: PATIENCE,
        ..SETTINGS
    });
    let (id, mut connection) = subscriber(&relay).await;
    relay.ingest(vec![message("d1", "1")]).await;
    let being_written = batch(&mut connection).await;
    let abandoned = tokio::time::timeout(
        Duration::from_millis(20),
        relay.revoke(id, device("d1"), Grant::Telemetry(None)),
    );
    assert!(abandoned.await.is_err(), "the write holds it up");
    drop(being_written);
    assert_eq!(
        relay
            .is_granted(id, &device("d1"), &Access::Telemetry(Some("t")))
            .await,
        Ok(false)
    );
    relay.ingest(vec![message("d1", "2")]).await;
    relay
        .grant(id, device("d1"), Grant::ConnectionState)
        .await
        .unwrap();
    relay
        .subscribe(request(id, "d1", Subscription::ConnectionState))
        .await
        .unwrap();
    let content = Content::ConnectionState {
        connected: true,
        sequence: None,
    };
    relay
        .ingest(vec![DeviceMessage {
            content,
            ..message("d1", "3")
        }])
        .await;
    assert_eq!(
        values(&batch(&mut connection).await),
        ["ConnectionState(true)"]
    );
}

#[tokio::test]
async fn a_bulk_change_applies_what_is_granted_and_says_what() {
    let relay = start(SETTINGS);
    let (first, second) = (
        relay.create_session().unwrap(),
        relay.create_session().unwrap(),
    );
    relay
        .grant(first, device("d1"), Grant::Telemetry(key("t")))
        .await
        .unwrap();
    relay
        .grant(second, device("d2"), Grant::DeviceTwin(None))
        .await
        .unwrap();
    let requests = vec![
        request(first, "d1", Subscription::Telemetry(key("t"))),
        request(first, "d1", Subscription::Telemetry(key("u"))),
        request(second, "d2", Subscription::DeviceTwin),
        request(first, "d1", Subscription::Telemetry(key("t"))),
    ];
    assert_eq!(
        relay.subscribe_all(requests.clone()).await.unwrap(),
        [true, false, true, true]
    );
    assert_eq!(
        relay.unsubscribe_all(requests).await.unwrap(),
        [true, false, true, true]
    );
    let unknown = SessionId::issue(0, [0; 10]);
    let requests = vec![
        request(first, "d1", Subscription::Telemetry(key("t"))),
        request(unknown, "d1", Subscription::DeviceTwin),
    ];
    assert_eq!(
        relay.subscribe_all(requests).await,
        Err(SubscribeError::NoSuchSession(NoSuchSession))
    );
}

#[tokio::test]
async fn over_the_limits_sessions_and_subscriptions_are_refused_and_nothing_changes() {
    let limits = SessionLimits {
        grants_max: 10,
        subscriptions_max: 1,
    };
    let relay = start(Settings {
        unbound_sessions_max: 1,
        session_limits: limits,
        ..SETTINGS
    });
    let id = relay.create_session().unwrap();
    assert_eq!(relay.create_session(), Err(TooManySessions));
    let connection = connect(&relay, id).await;
    relay.create_session().expect("a bound session makes room");
    relay
        .grant(id, device("d1"), Grant::Telemetry(None))
        .await
        .unwrap();
    let request = |name| SubscriptionRequest {
        session: id,
        device: device("d1"),
        subscription: Subscription::Telemetry(key(name)),
    };
    assert_eq!(
        relay.subscribe_all(vec![request("t"), request("u")]).await,
        Err(SubscribeError::TooMany)
    );
    assert_eq!(
        relay.subscribe_all(vec![request("t"), request("t")]).await,
        Ok(vec![true, true]),
        "none was applied, and the same twice is one"
    );
    connection.close().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_when_even_newest_values_do_not_fit() {
    let limits = OutboxLimits {
        frames_max: 1,
        bytes_max: 2000,
        ..SETTINGS.outbox_limits
    };
    let relay = start(Settings {
        outbox_limits: limits,
        ..SETTINGS
    });
    let (_, mut connection) = subscriber(&relay).await;
    let long = format!("\"{}\"", "x".repeat(1500));
    relay
        .ingest((0..3).map(|_| message("d1", &long)).collect())
        .await;
    relay.last_values(&device("d1")).await;
    while let Next::Updates(_) = next(&mut connection).await {}
    assert!(matches!(
        next(&mut connection).await,
        Next::Disconnect(Disconnect::SlowConsumer)
    ));
}

#[tokio::test]
async fn what_a_stuck_client_misses_is_counted_while_it_is_stuck() {
    let metrics = Metrics::new();
    let limits = OutboxLimits {
        frames_max: 1,
        ..SETTINGS.outbox_limits
    };
    let settings = Settings {
        outbox_limits: limits,
        ..SETTINGS
    };
    let lifecycle = Lifecycle::new();
    let relay = Relay::start(settings, SystemClock::shared(), &metrics, &lifecycle, None);
    let (_, connection) = subscriber(&relay).await;
    relay
        .ingest((0..5).map(|_| message("d1", "1")).collect())
        .await;
    let all_came = async {
        while metrics.relay.delivered.get() < 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_came).await.unwrap();
    // The first waits as it came, and the newest two values of the others.
    assert_eq!(metrics.relay.conflated.get(), 6);
    connection.close().await;
}

#[tokio::test]
async fn stopping_ends_every_task() {
    let lifecycle = Lifecycle::new();
    let relay = Relay::start(
        SETTINGS,
        SystemClock::shared(),
        &Metrics::new(),
        &lifecycle,
        None,
    );
    let (_, mut connection) = subscriber(&relay).await;
    relay.shut_down();
    assert!(matches!(
        next(&mut connection).await,
        Next::Disconnect(Disconnect::ShuttingDown)
    ));
    connection.close().await;
    tokio::time::timeout(PATIENCE, relay.stop())
        .await
        .expect("the relay stops");
    lifecycle.tasks.close();
    tokio::time::timeout(PATIENCE, lifecycle.tasks.wait())
        .await
        .expect("the shards stop");
}

#[tokio::test]
async fn whoever_only_creates_sessions_locks_nobody_out() {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let relay = Relay::start(
        Settings {
            unbound_sessions_max: 3,
            ..SETTINGS
        },
        clock.clone(),
        &Metrics::new(),
        &Lifecycle::new(),
        None,
    );
    let granted = relay.create_session().unwrap();
    relay
        .grant(granted, device("d1"), Grant::DeviceTwin(None))
        .await
        .unwrap();
    let idle = [
        relay.create_session().unwrap(),
        relay.create_session().unwrap(),
    ];
    assert_eq!(
        relay.create_session(),
        Err(TooManySessions),
        "all are young"
    );
    clock.advance(Duration::from_secs(11));
    let created = relay.create_session().unwrap();
    assert!(relay.has_session(created) && relay.has_session(granted));
    assert!(!idle.iter().any(|idle| relay.has_session(*idle)));
}
