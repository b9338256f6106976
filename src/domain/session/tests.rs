use super::super::json_pointer::tests::pointers;
use super::*;

const LIMITS: SessionLimits = SessionLimits {
    grants_max: 3,
    subscriptions_max: 2,
};
const FIRST: ConnectionNumber = ConnectionNumber(1);
const SECOND: ConnectionNumber = ConnectionNumber(2);

fn device() -> DeviceId {
    DeviceId::new("d1").unwrap()
}

fn key(name: &str) -> Option<TelemetryKey> {
    TelemetryKey::new(name)
}

fn subscribed() -> Session {
    let mut session = Session::new(0);
    session
        .grant(&device(), Grant::Telemetry(None), None, &LIMITS)
        .unwrap();
    session
        .subscribe(
            &device(),
            Subscription::Telemetry(key("t")),
            Delivery::default(),
            &LIMITS,
        )
        .unwrap();
    session
}

#[test]
fn a_fresh_session_binds_even_with_subscriptions() {
    assert_eq!(
        subscribed().connect(FIRST, Client::SocketIo),
        Connected::Bound
    );
}

#[test]
fn a_session_without_subscriptions_rebinds() {
    let mut session = Session::new(0);
    assert_eq!(session.connect(FIRST, Client::SocketIo), Connected::Bound);
    assert_eq!(session.connect(SECOND, Client::SocketIo), Connected::Bound);
    assert_eq!(session.disconnect(FIRST, 1), Disconnected::Stale);
    assert_eq!(session.disconnect(SECOND, 1), Disconnected::Kept);
    assert_eq!(session.connect(FIRST, Client::SocketIo), Connected::Bound);
}

#[test]
fn a_session_with_subscriptions_does_not_survive_its_connection() {
    let mut session = subscribed();
    session.connect(FIRST, Client::SocketIo);
    assert_eq!(
        session.connect(SECOND, Client::SocketIo),
        Connected::MustRetire
    );
    assert_eq!(session.disconnect(FIRST, 1), Disconnected::MustRetire);
    assert_eq!(session.retire(), [device()]);
    assert_eq!(
        session.connect(SECOND, Client::SocketIo),
        Connected::Retired
    );
    assert!(!session.is_granted(&device(), &Access::Telemetry(Some("t"))));
}

#[test]
fn an_unused_session_expires_and_use_defers_it() {
    let mut session = Session::new(0);
    assert!(!session.is_expired(FRESH_TTL_MS - 1));
    assert!(session.is_expired(FRESH_TTL_MS));
    session.touch(1);
    assert!(!session.is_expired(FRESH_TTL_MS));
    session.connect(FIRST, Client::SocketIo);
    assert!(!session.is_expired(u64::MAX));
    session.disconnect(FIRST, 10);
    assert!(session.is_expired(10 + UNBOUND_TTL_MS));
}

#[test]
fn revoking_ends_exactly_the_subscriptions_no_longer_covered() {
    let mut session = subscribed();
    session
        .grant(&device(), Grant::Telemetry(key("u")), None, &LIMITS)
        .unwrap();
    session
        .subscribe(
            &device(),
            Subscription::Telemetry(key("u")),
            Delivery::default(),
            &LIMITS,
        )
        .unwrap();
    session
        .grant(&device(), Grant::ConnectionState, None, &LIMITS)
        .unwrap();
    assert!(
        session
            .revoke(&device(), &Grant::Telemetry(key("u")))
            .ended
            .is_empty(),
        "all keys still cover u"
    );
    assert_eq!(
        session
            .revoke(&device(), &Grant::Telemetry(None))
            .ended
            .len(),
        2,
        "those of t and u"
    );
    assert_eq!(session.subscription_count(), 0);
    assert_eq!(session.grant_count(), 1);
}

#[test]
fn limits_refuse_one_more_but_never_a_repetition() {
    let mut session = subscribed();
    session
        .grant(&device(), Grant::DeviceTwin(None), None, &LIMITS)
        .unwrap();
    session
        .grant(&device(), Grant::ConnectionState, None, &LIMITS)
        .unwrap();
    assert_eq!(
        session.grant(&device(), Grant::D2cMessages, None, &LIMITS),
        Err(TooManyGrants)
    );
    assert_eq!(
        session.grant(&device(), Grant::DeviceTwin(None), None, &LIMITS),
        Ok(false)
    );
    assert_eq!(
        session.subscribe(
            &device(),
            Subscription::DeviceTwin,
            Delivery::default(),
            &LIMITS
        ),
        Ok(Added::New)
    );
    assert_eq!(
        session.subscribe(
            &device(),
            Subscription::ConnectionState,
            Delivery::default(),
            &LIMITS
        ),
        Err(SubscribeRefusal::TooMany)
    );
    assert_eq!(
        session.subscribe(
            &device(),
            Subscription::DeviceTwin,
            Delivery::default(),
            &LIMITS
        ),
        Ok(Added::Known)
    );
}

const NATIVE: Client = Client::Native {
    resume_window_ms: 1000,
};

#[test]
fn a_native_session_is_kept_with_its_subscriptions_for_the_window() {
    let mut session = subscribed();
    session.connect(FIRST, NATIVE);
    assert_eq!(session.disconnect(FIRST, 5), Disconnected::Kept);
    assert!(!session.is_expired(1004));
    assert!(session.is_expired(1005));
    assert_eq!(session.connect(SECOND, NATIVE), Connected::Bound);
    assert_eq!(session.subscription_count(), 1);
    assert_eq!(
        session.connect(FIRST, Client::SocketIo),
        Connected::MustRetire,
        "a client of ux4iot would not know of them"
    );
}

#[test]
fn a_2x_session_is_kept_and_comes_back_over_socket_io() {
    let mut session = subscribed();
    session.connect(FIRST, Client::SocketIo);
    session.speak_v2();
    assert_eq!(session.disconnect(FIRST, 0), Disconnected::Kept);
    assert!(!session.is_expired(V2_KEPT_MS - 1));
    assert!(session.is_expired(V2_KEPT_MS));
    assert_eq!(session.connect(SECOND, Client::SocketIo), Connected::Bound);
}

#[test]
fn a_grant_runs_out_at_its_moment_with_its_subscriptions() {
    let mut session = Session::new(0);
    session
        .grant(&device(), Grant::Telemetry(None), Some(100), &LIMITS)
        .unwrap();
    session
        .grant(&device(), Grant::Telemetry(key("t")), None, &LIMITS)
        .unwrap();
    for name in ["t", "u"] {
        let subscription = Subscription::Telemetry(key(name));
        session
            .subscribe(&device(), subscription, Delivery::default(), &LIMITS)
            .unwrap();
    }
    assert_eq!(session.next_expiry_unix_ms(), Some(100));
    assert_eq!(session.expire(99), Withdrawn::default());
    assert_eq!(
        session.expire(100).ended,
        [(device(), Subscription::Telemetry(key("u")))],
        "the grant for t alone stays"
    );
    assert_eq!(session.next_expiry_unix_ms(), None);
    assert_eq!(
        (session.grant_count(), session.subscription_count()),
        (1, 1)
    );
}

#[test]
fn a_later_expiry_and_a_grant_for_good_defer_the_end() {
    let mut session = Session::new(0);
    let mut grant = |expires_at| {
        session
            .grant(&device(), Grant::DeviceTwin(None), expires_at, &LIMITS)
            .unwrap();
        session.expire(150);
        session.next_expiry_unix_ms()
    };
    assert_eq!(grant(Some(200)), Some(200));
    assert_eq!(grant(Some(180)), Some(200), "the later one counts");
    assert_eq!(grant(Some(300)), Some(300));
    assert_eq!(grant(None), None);
    assert_eq!(grant(Some(400)), None, "it was granted for good");
    session.revoke(&device(), &Grant::DeviceTwin(None));
    session
        .grant(&device(), Grant::DeviceTwin(None), Some(500), &LIMITS)
        .unwrap();
    assert_eq!(
        session.next_expiry_unix_ms(),
        Some(500),
        "it is a new grant"
    );
    assert_eq!(session.expire(500), Withdrawn::default());
    assert!(!session.is_granted(&device(), &Access::DeviceTwin));
}

/// The grant for some part of the twin.
fn part_of_twin(pointer: &str) -> Grant {
    Grant::DeviceTwin(Some(pointers(&[pointer])))
}

fn shown(session: &Session) -> Option<TwinView> {
    session.subscriptions(&device()).device_twin
}

#[test]
fn a_subscription_shows_as_much_of_a_twin_as_is_granted_at_any_moment() {
    let mut session = Session::new(0);
    let part = |texts: &[&str]| Some(TwinView::Parts(pointers(texts)));
    let grant = |session: &mut Session, grant, expires_at| {
        let roomy = SessionLimits {
            grants_max: 10,
            ..LIMITS
        };
        session.grant(&device(), grant, expires_at, &roomy).unwrap()
    };
    assert!(
        !grant(&mut session, part_of_twin("/tags"), None),
        "nothing is subscribed"
    );
    session
        .subscribe(
            &device(),
            Subscription::DeviceTwin,
            Delivery::default(),
            &LIMITS,
        )
        .unwrap();
    assert_eq!(shown(&session), part(&["/tags"]));
    assert!(grant(
        &mut session,
        part_of_twin("/properties/desired"),
        Some(100)
    ));
    assert_eq!(shown(&session), part(&["/properties/desired", "/tags"]));
    assert!(
        !grant(&mut session, part_of_twin("/tags/site"), None),
        "it shows nothing more"
    );
    assert!(grant(&mut session, Grant::DeviceTwin(None), Some(50)));
    assert_eq!(shown(&session), Some(TwinView::Whole));

    let narrowed = Withdrawn {
        ended: vec![],
        devices: [device()].into(),
    };
    assert_eq!(session.expire(50), narrowed);
    assert_eq!(session.expire(100), narrowed);
    assert_eq!(shown(&session), part(&["/tags"]));
    assert_eq!(session.revoke(&device(), &part_of_twin("/tags")), narrowed);
    assert_eq!(shown(&session), part(&["/tags/site"]));
    let withdrawn = session.revoke(&device(), &Grant::DeviceTwin(None));
    assert_eq!(withdrawn.ended, [(device(), Subscription::DeviceTwin)]);
    assert_eq!(shown(&session), None);
}

#[test]
fn constraints_bound_what_is_asked_for() {
    let mut session = Session::new(0);
    session
        .grant(&device(), Grant::Telemetry(None), None, &LIMITS)
        .unwrap();
    session.constrain(SessionConstraints {
        subscriptions_max: Some(1),
        min_interval_ms: Some(500),
        expires_at_unix_ms: Some(1000),
    });
    let mut subscribe = |name| {
        let subscription = Subscription::Telemetry(key(name));
        session.subscribe(&device(), subscription, Delivery::default(), &LIMITS)
    };
    assert_eq!(subscribe("t"), Ok(Added::New));
    assert_eq!(subscribe("u"), Err(SubscribeRefusal::TooMany));
    let wanted = session.subscriptions(&device());
    assert_eq!(
        wanted.telemetry.delivery_of("t").unwrap().min_interval_ms,
        500
    );
    assert!(!session.is_over(999));
    assert!(session.is_over(1000));
    assert_eq!(session.next_expiry_unix_ms(), Some(1000));
}
