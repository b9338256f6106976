//! A session: what one client may see, what it wants to see, and its life from creation to retirement.
//!
//! ```text
//!            connect                 disconnect, nothing subscribed
//!   fresh ───────────► bound ◄──────────────────────────────────► unbound
//!     │                  │  disconnect, deletion, or its id          │
//!     │ time-out,        │  coming back while it has subscriptions   │ time-out, deletion
//!     └──────────────────┴───────────► retired ◄─────────────────────┘
//! ```
//!
//! Guarantees: every subscription is covered by a grant at all times; a retired session has neither and never comes
//! back. The rule that a session with subscriptions does not survive its connection is what the published React
//! client needs: it forgets its own subscriptions on reconnect and would never ask for them again on the same id.

use std::collections::HashMap;

use super::grant::{DeviceGrants, Grant};
use super::id::{DeviceId, TelemetryKey};
use super::limits::SessionLimits;
use super::subscription::{DeviceSubscriptions, Selection, Subscription};

/// How long a session that lost its connection is kept, from its last use.
pub const UNBOUND_TTL_MS: u64 = 10 * 60 * 1000;

/// How long a session that never had a connection is kept, from its last use.
pub const FRESH_TTL_MS: u64 = 60 * 60 * 1000;

/// Tells the connections of a session apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionNumber(pub u64);

/// What one client may see and wants to see.
#[derive(Debug)]
pub struct Session {
    state: State,
    used_at_ms: u64,
    grants: HashMap<DeviceId, DeviceGrants>,
    grant_count: usize,
    subscriptions: HashMap<DeviceId, DeviceSubscriptions>,
    subscription_count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Bound(ConnectionNumber),
    Unbound,
    Retired,
}

/// Why a subscription is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeRefusal {
    /// No grant covers it.
    NotGranted,
    /// The session has as many subscriptions as it may have.
    TooMany,
}

/// The session has as many grants as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyGrants;

/// What happens to a connection that names a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    /// The connection is now the session's only one.
    Bound,
    /// The session must be retired: its client has lost track of its subscriptions.
    MustRetire,
    /// The session is retired.
    Retired,
}

/// What the end of a connection means for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnected {
    /// The session waits for another connection.
    Kept,
    /// The session must be retired.
    MustRetire,
    /// It was not the session's connection any more.
    Stale,
}

impl Session {
    /// A session that has just been created.
    pub fn new(now_ms: u64) -> Self {
        Self {
            state: State::Fresh,
            used_at_ms: now_ms,
            grants: HashMap::new(),
            grant_count: 0,
            subscriptions: HashMap::new(),
            subscription_count: 0,
        }
    }

    /// Whether the session is over.
    pub fn is_retired(&self) -> bool {
        self.state == State::Retired
    }

    /// Whether a connection belongs to it now.
    pub fn is_bound(&self) -> bool {
        matches!(self.state, State::Bound(_))
    }

    /// Notes that a client used the session, which keeps it from expiring.
    pub fn touch(&mut self, now_ms: u64) {
        self.used_at_ms = now_ms;
    }

    /// Whether nobody has used the session for so long that it must be retired.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        let ttl_ms = match self.state {
            State::Fresh => FRESH_TTL_MS,
            State::Unbound => UNBOUND_TTL_MS,
            State::Bound(_) | State::Retired => return false,
        };
        now_ms.saturating_sub(self.used_at_ms) >= ttl_ms
    }

    /// A connection names the session.
    pub fn connect(&mut self, connection: ConnectionNumber) -> Connected {
        match self.state {
            State::Retired => Connected::Retired,
            State::Bound(_) | State::Unbound if self.subscription_count > 0 => {
                Connected::MustRetire
            }
            State::Fresh | State::Bound(_) | State::Unbound => {
                self.state = State::Bound(connection);
                Connected::Bound
            }
        }
    }

    /// A connection of the session has ended.
    pub fn disconnect(&mut self, connection: ConnectionNumber, now_ms: u64) -> Disconnected {
        if self.state != State::Bound(connection) {
            return Disconnected::Stale;
        }
        if self.subscription_count > 0 {
            return Disconnected::MustRetire;
        }
        self.state = State::Unbound;
        self.used_at_ms = now_ms;
        Disconnected::Kept
    }

    /// Ends the session. Returns the devices that it had subscriptions of.
    pub fn retire(&mut self) -> Vec<DeviceId> {
        self.state = State::Retired;
        self.grants = HashMap::new();
        self.grant_count = 0;
        self.subscription_count = 0;
        std::mem::take(&mut self.subscriptions)
            .into_keys()
            .collect()
    }

    /// Adds a grant; adding it again changes nothing.
    pub fn grant(
        &mut self,
        device: &DeviceId,
        grant: Grant,
        limits: &SessionLimits,
    ) -> Result<(), TooManyGrants> {
        let full = self.grant_count >= limits.grants_max;
        let grants = self.grants.entry(device.clone()).or_default();
        if full && !grants.contains(&grant) {
            self.forget_if_empty(device);
            return Err(TooManyGrants);
        }
        self.grant_count += usize::from(grants.insert(grant));
        Ok(())
    }

    /// Takes a grant away, and with it every subscription that no other grant covers. Returns whether any
    /// subscription of the device went.
    pub fn revoke(&mut self, device: &DeviceId, grant: &Grant) -> bool {
        let Some(grants) = self.grants.get_mut(device) else {
            return false;
        };
        let before = grants.len();
        grants.remove(grant);
        self.grant_count -= before - grants.len();
        let changed = self
            .subscriptions
            .get_mut(device)
            .is_some_and(|subscriptions| {
                let before = subscriptions.len();
                let changed = grants.restrict(subscriptions);
                self.subscription_count -= before - subscriptions.len();
                changed
            });
        self.forget_if_empty(device);
        changed
    }

    /// Adds a subscription. Returns whether it is new.
    pub fn subscribe(
        &mut self,
        device: &DeviceId,
        subscription: Subscription,
        limits: &SessionLimits,
    ) -> Result<bool, SubscribeRefusal> {
        if !self.is_granted(device, &subscription.needed_grant()) {
            return Err(SubscribeRefusal::NotGranted);
        }
        let full = self.subscription_count >= limits.subscriptions_max;
        let subscriptions = self.subscriptions.entry(device.clone()).or_default();
        if full && !subscriptions.contains(&subscription) {
            self.forget_if_empty(device);
            return Err(SubscribeRefusal::TooMany);
        }
        let new = subscriptions.insert(subscription);
        self.subscription_count += usize::from(new);
        Ok(new)
    }

    /// Takes a subscription away; it must be granted, but need not be there. Returns whether it was.
    pub fn unsubscribe(
        &mut self,
        device: &DeviceId,
        subscription: &Subscription,
    ) -> Result<bool, SubscribeRefusal> {
        if !self.is_granted(device, &subscription.needed_grant()) {
            return Err(SubscribeRefusal::NotGranted);
        }
        let removed = self
            .subscriptions
            .get_mut(device)
            .is_some_and(|subscriptions| subscriptions.remove(subscription));
        self.subscription_count -= usize::from(removed);
        self.forget_if_empty(device);
        Ok(removed)
    }

    /// Whether the session's grants cover what `needed` allows.
    pub fn is_granted(&self, device: &DeviceId, needed: &Grant) -> bool {
        self.grants
            .get(device)
            .is_some_and(|grants| grants.covers(needed))
    }

    /// The telemetry keys of a device that the session may see.
    pub fn telemetry_access(&self, device: &DeviceId) -> Selection<TelemetryKey> {
        self.grants
            .get(device)
            .map(|grants| grants.telemetry.clone())
            .unwrap_or_default()
    }

    /// What the session wants to see of a device, if anything.
    pub fn subscriptions_of(&self, device: &DeviceId) -> Option<&DeviceSubscriptions> {
        self.subscriptions.get(device)
    }

    /// What the session wants to see of a device.
    pub fn subscriptions(&self, device: &DeviceId) -> DeviceSubscriptions {
        self.subscriptions_of(device).cloned().unwrap_or_default()
    }

    /// How many grants the session has.
    pub fn grant_count(&self) -> usize {
        self.grant_count
    }

    /// How many subscriptions the session has.
    pub fn subscription_count(&self) -> usize {
        self.subscription_count
    }

    fn forget_if_empty(&mut self, device: &DeviceId) {
        if self.grants.get(device).is_some_and(DeviceGrants::is_empty) {
            self.grants.remove(device);
        }
        if self
            .subscriptions
            .get(device)
            .is_some_and(DeviceSubscriptions::is_empty)
        {
            self.subscriptions.remove(device);
        }
    }
}

#[cfg(test)]
mod tests {
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
            .grant(&device(), Grant::Telemetry(None), &LIMITS)
            .unwrap();
        session
            .subscribe(&device(), Subscription::Telemetry(key("t")), &LIMITS)
            .unwrap();
        session
    }

    #[test]
    fn a_fresh_session_binds_even_with_subscriptions() {
        assert_eq!(subscribed().connect(FIRST), Connected::Bound);
    }

    #[test]
    fn a_session_without_subscriptions_rebinds() {
        let mut session = Session::new(0);
        assert_eq!(session.connect(FIRST), Connected::Bound);
        assert_eq!(session.connect(SECOND), Connected::Bound);
        assert_eq!(session.disconnect(FIRST, 1), Disconnected::Stale);
        assert_eq!(session.disconnect(SECOND, 1), Disconnected::Kept);
        assert_eq!(session.connect(FIRST), Connected::Bound);
    }

    #[test]
    fn a_session_with_subscriptions_does_not_survive_its_connection() {
        let mut session = subscribed();
        session.connect(FIRST);
        assert_eq!(session.connect(SECOND), Connected::MustRetire);
        assert_eq!(session.disconnect(FIRST, 1), Disconnected::MustRetire);
        assert_eq!(session.retire(), [device()]);
        assert_eq!(session.connect(SECOND), Connected::Retired);
        assert!(!session.is_granted(&device(), &Grant::Telemetry(key("t"))));
    }

    #[test]
    fn an_unused_session_expires_and_use_defers_it() {
        let mut session = Session::new(0);
        assert!(!session.is_expired(FRESH_TTL_MS - 1));
        assert!(session.is_expired(FRESH_TTL_MS));
        session.touch(1);
        assert!(!session.is_expired(FRESH_TTL_MS));
        session.connect(FIRST);
        assert!(!session.is_expired(u64::MAX));
        session.disconnect(FIRST, 10);
        assert!(session.is_expired(10 + UNBOUND_TTL_MS));
    }

    #[test]
    fn revoking_ends_exactly_the_subscriptions_no_longer_covered() {
        let mut session = subscribed();
        session
            .grant(&device(), Grant::Telemetry(key("u")), &LIMITS)
            .unwrap();
        session
            .subscribe(&device(), Subscription::Telemetry(key("u")), &LIMITS)
            .unwrap();
        session
            .grant(&device(), Grant::ConnectionState, &LIMITS)
            .unwrap();
        assert!(
            !session.revoke(&device(), &Grant::Telemetry(key("u"))),
            "all keys still cover u"
        );
        assert!(session.revoke(&device(), &Grant::Telemetry(None)));
        assert_eq!(session.subscription_count(), 0);
        assert_eq!(session.grant_count(), 1);
    }

    #[test]
    fn limits_refuse_one_more_but_never_a_repetition() {
        let mut session = subscribed();
        session
            .grant(&device(), Grant::DeviceTwin, &LIMITS)
            .unwrap();
        session
            .grant(&device(), Grant::ConnectionState, &LIMITS)
            .unwrap();
        assert_eq!(
            session.grant(&device(), Grant::D2cMessages, &LIMITS),
            Err(TooManyGrants)
        );
        assert_eq!(session.grant(&device(), Grant::DeviceTwin, &LIMITS), Ok(()));
        assert_eq!(
            session.subscribe(&device(), Subscription::DeviceTwin, &LIMITS),
            Ok(true)
        );
        assert_eq!(
            session.subscribe(&device(), Subscription::ConnectionState, &LIMITS),
            Err(SubscribeRefusal::TooMany)
        );
        assert_eq!(
            session.subscribe(&device(), Subscription::DeviceTwin, &LIMITS),
            Ok(false)
        );
    }
}
