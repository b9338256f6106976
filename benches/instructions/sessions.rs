//! What it takes to set up a session, and to take from it what it was given.

use std::collections::BTreeMap;

use hubrelay::config::DecodingConfig;
use hubrelay::domain::grant::Grant;
use hubrelay::domain::id::DeviceId;
use hubrelay::domain::limits::SessionLimits;
use hubrelay::domain::outbox::Outbox;
use hubrelay::domain::session::{Client, ConnectionNumber, Session};
use hubrelay::domain::shard::Shard;
use hubrelay::domain::subscription::Delivery;
use hubrelay::domain::update::Encoding;
use hubrelay::ingest::decode::Decoder;

use crate::{count_instructions, fleet};

const SESSIONS: usize = 100;

/// How many devices each session looks at.
const DEVICES_OF_EACH: usize = 4;

const LIMITS: SessionLimits = SessionLimits {
    grants_max: 1000,
    subscriptions_max: 1000,
};

/// A session is created, connected, granted one key of each of four devices and subscribed to them.
pub(crate) fn setup() -> usize {
    let devices = device_ids();
    let mut shard = fleet::shard();
    let mut sessions = Vec::with_capacity(SESSIONS);
    // The first half lets the shard's maps grow.
    for number in 0..SESSIONS {
        sessions.push(set_up(number, &devices, &mut shard));
    }
    count_instructions(&mut || {
        for number in SESSIONS..2 * SESSIONS {
            sessions.push(set_up(number, &devices, &mut shard));
        }
    });
    let subscriptions: usize = sessions.iter().map(Session::subscription_count).sum();
    assert_eq!(
        subscriptions,
        2 * SESSIONS * DEVICES_OF_EACH,
        "every session has all its subscriptions"
    );
    SESSIONS
}

/// One grant of four is taken away while an update of each device waits in the session's outbox.
pub(crate) fn revocation() -> usize {
    let devices = device_ids();
    let mut shard = fleet::shard();
    let mut sessions: Vec<_> = (0..SESSIONS)
        .map(|number| set_up(number, &devices, &mut shard))
        .collect();
    let mut outboxes = fleet::outboxes(SESSIONS, Encoding::SocketIo);
    let mut decoder = Decoder::new(DecodingConfig::default());
    let mut messages = Vec::new();
    let names = fleet::device_names(SESSIONS);
    fleet::decode(&mut decoder, &names, fleet::WITHOUT_TIME, &mut messages);
    fleet::route(&mut shard, &mut outboxes, &mut messages);
    count_instructions(&mut || {
        for (number, session) in sessions.iter_mut().enumerate() {
            revoke(number, session, &devices, &mut shard, &mut outboxes[number]);
        }
    });
    let left = fleet::send_all(&mut outboxes, |_| {});
    assert_eq!(
        left,
        SESSIONS * (DEVICES_OF_EACH - 1),
        "one of four updates was taken back from every outbox"
    );
    SESSIONS
}

fn device_ids() -> Vec<DeviceId> {
    fleet::device_names(SESSIONS)
        .iter()
        .map(|name| fleet::device_id(name))
        .collect()
}

/// The devices of a session; every device is looked at by as many sessions.
fn devices_of(number: usize, devices: &[DeviceId]) -> impl Iterator<Item = &DeviceId> {
    (0..DEVICES_OF_EACH).map(move |place| &devices[(number + 17 * place) % devices.len()])
}

fn key_of(number: usize) -> &'static str {
    fleet::KEYS[number % fleet::KEYS.len()]
}

fn set_up(number: usize, devices: &[DeviceId], shard: &mut Shard<usize>) -> Session {
    let mut session = Session::new(fleet::NOW.monotonic_ms);
    session.connect(ConnectionNumber(number as u64), Client::SocketIo);
    let subscription = fleet::telemetry(Some(key_of(number)));
    for device in devices_of(number, devices) {
        session
            .grant(device, subscription.needed_grant(), None, &LIMITS)
            .expect("there is room for the grant");
        session
            .subscribe(device, subscription.clone(), Delivery::default(), &LIMITS)
            .expect("it is granted, and there is room");
        let wanted = session.subscriptions(device);
        shard.set_subscriptions(
            device,
            fleet::session_id(number),
            &number,
            &wanted,
            fleet::NOW,
        );
    }
    session
}

fn revoke(
    number: usize,
    session: &mut Session,
    devices: &[DeviceId],
    shard: &mut Shard<usize>,
    outbox: &mut Outbox,
) {
    let device = devices_of(number, devices)
        .next()
        .expect("every session has devices");
    let grant: Grant = fleet::telemetry(Some(key_of(number))).needed_grant();
    let withdrawn = session.revoke(device, &grant);
    let mut wanted = BTreeMap::new();
    for device in withdrawn.devices {
        let of_device = session.subscriptions(&device);
        shard.set_subscriptions(
            &device,
            fleet::session_id(number),
            &number,
            &of_device,
            fleet::NOW,
        );
        wanted.insert(device, of_device);
    }
    outbox.retain(&wanted);
}
