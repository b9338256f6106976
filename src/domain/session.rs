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
//! client needs: it forgets its own subscriptions on reconnect and would never ask for them again on the same id. Clients
//! that remember what they subscribed to, those of the native protocol and of ux4iot 2.x, get their session back with
//! everything for a while instead.

mod expiry;

use std::collections::BTreeSet;

use self::expiry::Expiries;
use super::grant::{Access, Denial, DeviceGrants, Grant};
use super::id::{DeviceId, TelemetryKey};
use super::limits::SessionLimits;
use super::small_map::SmallMap;
use super::subscription::{Added, Delivery, DeviceSubscriptions, Selection, Subscription};
use super::twin_view::TwinView;

/// How long a session that lost its connection is kept, from its last use.
pub const UNBOUND_TTL_MS: u64 = 10 * 60 * 1000;

/// How long a session that never had a connection is kept, from its last use.
pub const FRESH_TTL_MS: u64 = 60 * 60 * 1000;

/// How long a session of a 2.x client is kept with its subscriptions after it lost its connection.
pub const V2_KEPT_MS: u64 = 2 * 60 * 1000;

/// Tells the connections of a session apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionNumber(pub u64);

/// What one client may see and wants to see.
#[derive(Debug)]
pub struct Session {
    state: State,
    used_at_ms: u64,
    dialect: Dialect,
    /// How long its subscriptions outlive its connection; 0 when its client would not remember them.
    kept_ms: u64,
    constraints: Option<Box<SessionConstraints>>,
    /// Those that something is granted of.
    devices: SmallMap<DeviceId, Interest>,
    grant_count: usize,
    expiries: Expiries,
    subscription_count: usize,
}

/// What a session may see of a device, or do with it, and what it wants to see of that.
#[derive(Debug, Default)]
struct Interest {
    granted: DeviceGrants,
    wanted: DeviceSubscriptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Bound(ConnectionNumber),
    Unbound,
    Retired,
}

/// The generation of ux4iot's protocol that a session's client speaks over Socket.IO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Since 3.0: grants and subscriptions are two things.
    #[default]
    V3,
    /// 2.x: a grant is a subscription, and the client remembers its grants.
    V2,
}

/// The client that a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// It speaks ux4iot's protocol.
    SocketIo,
    /// It speaks the native protocol, and remembers its subscriptions.
    Native {
        /// How long they outlive the connection.
        resume_window_ms: u64,
    },
}

/// What one session may do at most, as the security backend says. An absent member means what is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionConstraints {
    /// Subscriptions it may have.
    pub subscriptions_max: Option<usize>,
    /// Shortest interval between two updates of a device, whatever it asks for.
    pub min_interval_ms: Option<u32>,
    /// When it ends.
    pub expires_at_unix_ms: Option<i64>,
}

/// Why a subscription is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeRefusal {
    /// No grant covers it.
    NotGranted,
    /// The session has as many subscriptions as it may have.
    TooMany,
    /// The session gets keys of the device in as many different ways as it may.
    TooManyDeliveries,
    /// There are as many patterns for the device as there may be.
    TooManyPatterns,
}

/// The session has as many grants as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyGrants;

/// What a session lost with some grants.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// The subscriptions that ended.
    pub ended: Vec<(DeviceId, Subscription)>,
    /// The devices of which it sees less than before: those of the subscriptions that ended, and those whose twin it sees
    /// less of.
    pub devices: BTreeSet<DeviceId>,
}

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
            dialect: Dialect::V3,
            kept_ms: 0,
            constraints: None,
            devices: SmallMap::default(),
            grant_count: 0,
            expiries: Expiries::default(),
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
            State::Unbound if self.subscription_count > 0 => self.kept_ms,
            State::Unbound => UNBOUND_TTL_MS,
            State::Bound(_) | State::Retired => return false,
        };
        now_ms.saturating_sub(self.used_at_ms) >= ttl_ms
    }

    /// Whether nobody has ever connected to it or granted it anything, nor used it for `age_ms`.
    pub fn is_unused_for(&self, age_ms: u64, now_ms: u64) -> bool {
        self.state == State::Fresh
            && self.grant_count == 0
            && now_ms.saturating_sub(self.used_at_ms) >= age_ms
    }

    /// Makes the session one of a 2.x client.
    pub fn speak_v2(&mut self) {
        self.dialect = Dialect::V2;
        self.kept_ms = V2_KEPT_MS;
    }

    /// What the session's client speaks over Socket.IO.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A connection names the session.
    pub fn connect(&mut self, connection: ConnectionNumber, client: Client) -> Connected {
        let remembers = match client {
            Client::Native { .. } => true,
            Client::SocketIo => self.dialect == Dialect::V2,
        };
        match self.state {
            State::Retired => return Connected::Retired,
            State::Bound(_) | State::Unbound if self.subscription_count > 0 && !remembers => {
                return Connected::MustRetire;
            }
            State::Fresh | State::Bound(_) | State::Unbound => {}
        }
        self.kept_ms = match (client, self.dialect) {
            (Client::Native { resume_window_ms }, _) => resume_window_ms,
            (Client::SocketIo, Dialect::V2) => V2_KEPT_MS,
            (Client::SocketIo, Dialect::V3) => 0,
        };
        self.state = State::Bound(connection);
        Connected::Bound
    }

    /// A connection of the session has ended.
    pub fn disconnect(&mut self, connection: ConnectionNumber, now_ms: u64) -> Disconnected {
        if self.state != State::Bound(connection) {
            return Disconnected::Stale;
        }
        if self.subscription_count > 0 && self.kept_ms == 0 {
            return Disconnected::MustRetire;
        }
        self.state = State::Unbound;
        self.used_at_ms = now_ms;
        Disconnected::Kept
    }

    /// Ends the session. Returns the devices that it had subscriptions of.
    pub fn retire(&mut self) -> Vec<DeviceId> {
        let subscribed = self.subscribed_devices().cloned().collect();
        self.state = State::Retired;
        self.devices = SmallMap::default();
        self.grant_count = 0;
        self.expiries = Expiries::default();
        self.subscription_count = 0;
        subscribed
    }

    /// Replaces what the session may do at most. What it has already stays.
    pub fn constrain(&mut self, constraints: SessionConstraints) {
        let is_free = constraints == SessionConstraints::default();
        self.constraints = (!is_free).then(|| Box::new(constraints));
    }

    /// Adds a grant, until a moment or for good; of two moments for the same grant the later one counts. Returns whether
    /// it shows more of a twin that is subscribed to.
    pub fn grant(
        &mut self,
        device: &DeviceId,
        grant: Grant,
        expires_at_unix_ms: Option<i64>,
        limits: &SessionLimits,
    ) -> Result<bool, TooManyGrants> {
        let full = self.grant_count >= limits.grants_max;
        if full && !self.has_grant(device, &grant) {
            return Err(TooManyGrants);
        }
        let known = self.devices.get_or_default(device);
        let new = known.granted.insert(grant.clone());
        self.grant_count += usize::from(new);
        self.expiries
            .granted(device, grant, expires_at_unix_ms, new);
        Ok(self.settle_twin_view(device))
    }

    /// Takes a grant away, and with it every subscription that no other grant covers.
    pub fn revoke(&mut self, device: &DeviceId, grant: &Grant) -> Withdrawn {
        self.expiries.revoked(device, grant);
        let mut withdrawn = Withdrawn::default();
        self.take_grants(device, |grants| grants.remove(grant), &mut withdrawn);
        withdrawn
    }

    /// The first moment at which a grant or the session itself runs out.
    pub fn next_expiry_unix_ms(&self) -> Option<i64> {
        let of_session = self.constraints().expires_at_unix_ms;
        self.expiries.next().into_iter().chain(of_session).min()
    }

    /// Whether the session itself has run out.
    pub fn is_over(&self, now_unix_ms: i64) -> bool {
        self.constraints()
            .expires_at_unix_ms
            .is_some_and(|expires_at| expires_at <= now_unix_ms)
    }

    /// Takes away the grants that have run out, exactly as if each were revoked, but one for all keys leaves those for
    /// single keys as they are.
    pub fn expire(&mut self, now_unix_ms: i64) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        while let Some((device, grant)) = self.expiries.pop_due(now_unix_ms) {
            let take = |grants: &mut DeviceGrants| {
                grants.remove_exactly(&grant);
            };
            self.take_grants(&device, take, &mut withdrawn);
        }
        withdrawn
    }

    fn take_grants(
        &mut self,
        device: &DeviceId,
        take: impl FnOnce(&mut DeviceGrants),
        withdrawn: &mut Withdrawn,
    ) {
        let Some(Interest { granted, wanted }) = self.devices.get_mut(device) else {
            return;
        };
        let before = granted.len();
        take(granted);
        self.grant_count -= before - granted.len();
        let ended = granted.restrict(wanted);
        self.subscription_count -= ended.len();
        if self.settle_twin_view(device) || !ended.is_empty() {
            withdrawn.devices.insert(device.clone());
        }
        let ended = ended.into_iter();
        withdrawn
            .ended
            .extend(ended.map(|subscription| (device.clone(), subscription)));
        self.forget_if_empty(device);
    }

    /// Lets a subscription of a device's twin, if there is one, show what the grants now say. Returns whether that changed.
    fn settle_twin_view(&mut self, device: &DeviceId) -> bool {
        match self.devices.get_mut(device) {
            Some(Interest { granted, wanted }) if wanted.device_twin.is_some() => {
                wanted.see_twin(granted.twin_view().unwrap_or_default())
            }
            _ => false,
        }
    }

    /// How many subscriptions the session may have.
    pub fn subscriptions_max(&self, limits: &SessionLimits) -> usize {
        let constrained = self.constraints().subscriptions_max.unwrap_or(usize::MAX);
        constrained.min(limits.subscriptions_max)
    }

    /// Whether the session may have a subscription, or has it already.
    pub fn has_room_for(
        &self,
        device: &DeviceId,
        subscription: &Subscription,
        limits: &SessionLimits,
    ) -> bool {
        let known = || self.subscriptions_of(device);
        self.subscription_count < self.subscriptions_max(limits)
            || known().is_some_and(|known| known.contains(subscription))
    }

    /// Adds a subscription, or changes how it is delivered.
    pub fn subscribe(
        &mut self,
        device: &DeviceId,
        subscription: Subscription,
        mut delivery: Delivery,
        limits: &SessionLimits,
    ) -> Result<Added, SubscribeRefusal> {
        if !self.is_granted(device, &subscription.needed_access()) {
            return Err(SubscribeRefusal::NotGranted);
        }
        let constrained_ms = self.constraints().min_interval_ms.unwrap_or_default();
        delivery.min_interval_ms = delivery.min_interval_ms.max(constrained_ms);
        if !self.has_room_for(device, &subscription, limits) {
            return Err(SubscribeRefusal::TooMany);
        }
        let Some(Interest { wanted, .. }) = self.devices.get_mut(device) else {
            return Err(SubscribeRefusal::NotGranted);
        };
        let telemetry = &wanted.telemetry;
        match &subscription {
            Subscription::TelemetryPattern(pattern) if !telemetry.has_room_for_pattern(pattern) => {
                return Err(SubscribeRefusal::TooManyPatterns);
            }
            Subscription::Telemetry(_) | Subscription::TelemetryPattern(_)
                if !telemetry.has_room_for(delivery) =>
            {
                return Err(SubscribeRefusal::TooManyDeliveries);
            }
            _ => {}
        }
        let added = wanted.insert(subscription, delivery);
        self.subscription_count += usize::from(added == Added::New);
        self.settle_twin_view(device);
        Ok(added)
    }

    /// Takes a subscription away; it must be granted, but need not be there. Returns whether it was.
    pub fn unsubscribe(
        &mut self,
        device: &DeviceId,
        subscription: &Subscription,
    ) -> Result<bool, SubscribeRefusal> {
        if !self.is_granted(device, &subscription.needed_access()) {
            return Err(SubscribeRefusal::NotGranted);
        }
        Ok(self.drop_subscription(device, subscription))
    }

    /// Takes a subscription away, if it is there. Returns whether it was.
    pub fn drop_subscription(&mut self, device: &DeviceId, subscription: &Subscription) -> bool {
        let known = self.devices.get_mut(device);
        let removed = known.is_some_and(|known| known.wanted.remove(subscription));
        self.subscription_count -= usize::from(removed);
        removed
    }

    /// Whether the session may see or do something of or with a device.
    pub fn is_granted(&self, device: &DeviceId, access: &Access<'_>) -> bool {
        self.granted(device)
            .is_some_and(|granted| granted.allow(access))
    }

    /// How much of a device's twin the session may see, if anything.
    pub fn twin_view(&self, device: &DeviceId) -> Option<TwinView> {
        self.granted(device)?.twin_view()
    }

    /// Why the session must not see or do something; `None` when it may.
    pub fn deny(&self, device: &DeviceId, access: &Access<'_>) -> Option<Denial> {
        match self.granted(device) {
            Some(granted) => granted.deny(access),
            None => Some(Denial::NoGrant),
        }
    }

    /// How much the session may see of the twin that a change of it made.
    pub fn twin_view_after(&self, device: &DeviceId, change: &Access<'_>) -> TwinView {
        let granted = self.granted(device);
        granted.map_or_else(TwinView::default, |granted| granted.view_after(change))
    }

    /// Whether the session has this very grant.
    pub fn has_grant(&self, device: &DeviceId, grant: &Grant) -> bool {
        self.granted(device)
            .is_some_and(|granted| granted.contains(grant))
    }

    /// The telemetry keys of a device that the session may see.
    pub fn telemetry_access(&self, device: &DeviceId) -> Selection<TelemetryKey> {
        self.granted(device)
            .map(|granted| granted.telemetry.clone())
            .unwrap_or_default()
    }

    /// The devices that the session has subscriptions of.
    pub fn subscribed_devices(&self) -> impl Iterator<Item = &DeviceId> {
        let subscribed = self.devices.iter().filter(|(_, of)| !of.wanted.is_empty());
        subscribed.map(|(device, _)| device)
    }

    /// What the session wants to see of a device, if anything.
    pub fn subscriptions_of(&self, device: &DeviceId) -> Option<&DeviceSubscriptions> {
        let known = self.devices.get(device).map(|known| &known.wanted);
        known.filter(|wanted| !wanted.is_empty())
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

    fn granted(&self, device: &DeviceId) -> Option<&DeviceGrants> {
        self.devices.get(device).map(|known| &known.granted)
    }

    fn constraints(&self) -> SessionConstraints {
        self.constraints.as_deref().copied().unwrap_or_default()
    }

    /// Without a grant there is no subscription either.
    fn forget_if_empty(&mut self, device: &DeviceId) {
        if self.granted(device).is_some_and(DeviceGrants::is_empty) {
            self.devices.remove(device);
        }
    }
}

#[cfg(test)]
mod tests;
