//! Changes of subscriptions: one, or many at once, of one session or of several.
//!
//! Either all that is granted is applied, or nothing changes. The turns of all sessions are taken first, in the order of
//! their ids so that two changes never wait for each other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::connection::{Connection, Hold};
use super::sessions::{SessionEntry, SessionTurn};
use super::shards::{Fresh, SubscriptionChange, Wishes};
use super::{NoSuchSession, Relay, SnapshotError, SubscribeError};
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::session::{Session, SubscribeRefusal};
use crate::domain::snapshot::DeviceSnapshot;
use crate::domain::subscription::{Added, Delivery, DeviceSubscriptions, Subscription};
use crate::telemetry::metrics::SessionRefusal;

/// One subscription to add or to take away.
#[derive(Clone, Debug)]
pub struct SubscriptionRequest {
    /// The session that wants it.
    pub session: SessionId,
    /// The device it is about.
    pub device: DeviceId,
    /// What is wanted of the device.
    pub subscription: Subscription,
}

/// One subscription that a native client wants to have.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The device it is about.
    pub device: DeviceId,
    /// What is wanted of the device.
    pub subscription: Subscription,
    /// How it is to be delivered; only telemetry knows more than one way.
    pub delivery: Delivery,
}

/// What became of a list of wishes.
#[derive(Debug)]
pub struct Subscribed {
    /// Whether each was met or why not, in the order of the list.
    pub outcomes: Vec<Result<(), SubscribeRefusal>>,
    /// What is known of what is granted, by device, in no order; a device of which nothing is known is left out.
    pub snapshot: Vec<DeviceSnapshot>,
    /// To be kept until the snapshot is written.
    pub hold: Hold,
}

/// A stream of updates that begins with a snapshot of everything.
#[derive(Debug)]
pub struct StartedAnew {
    /// The stream. Its first update has the number 1.
    pub epoch: u64,
    /// What is known of all that the session is subscribed to.
    pub snapshot: Vec<DeviceSnapshot>,
    /// To be kept until the snapshot is written.
    pub hold: Hold,
}

/// The elements of one session, with their places in the list.
struct SessionRequests {
    entry: Arc<SessionEntry>,
    requests: Vec<(usize, SubscriptionRequest)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Subscribe,
    Unsubscribe,
}

impl Relay {
    /// Adds a subscription; adding it again changes nothing.
    pub async fn subscribe(&self, request: SubscriptionRequest) -> Result<(), SubscribeError> {
        granted(&self.subscribe_all(vec![request]).await?)
    }

    /// Takes a subscription away. It must be granted, but need not be there.
    pub async fn unsubscribe(&self, request: SubscriptionRequest) -> Result<(), SubscribeError> {
        granted(&self.unsubscribe_all(vec![request]).await?)
    }

    /// Adds every subscription that is granted and tells which ones these are. When a session is unknown, or would get
    /// too many subscriptions, nothing changes.
    pub async fn subscribe_all(
        &self,
        requests: Vec<SubscriptionRequest>,
    ) -> Result<Vec<bool>, SubscribeError> {
        self.change_all(requests, Change::Subscribe).await
    }

    /// Takes every subscription away that is granted and tells which ones these are. When a session is unknown, nothing
    /// changes.
    pub async fn unsubscribe_all(
        &self,
        requests: Vec<SubscriptionRequest>,
    ) -> Result<Vec<bool>, SubscribeError> {
        self.change_all(requests, Change::Unsubscribe).await
    }

    async fn change_all(
        &self,
        requests: Vec<SubscriptionRequest>,
        change: Change,
    ) -> Result<Vec<bool>, SubscribeError> {
        let mut applied = vec![false; requests.len()];
        let mut by_session: BTreeMap<SessionId, SessionRequests> = BTreeMap::new();
        for (place, request) in requests.into_iter().enumerate() {
            let known = match by_session.entry(request.session) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(SessionRequests {
                    entry: self.inner.sessions.get(request.session)?,
                    requests: Vec::new(),
                }),
            };
            known.requests.push((place, request));
        }
        self.to_the_end(move |relay| async move {
            let mut turns = Vec::with_capacity(by_session.len());
            for SessionRequests { entry, requests } in by_session.into_values() {
                let turn = relay.lock(&entry).await?;
                turns.push((entry, turn, requests));
            }
            let has_room = |turn: &SessionTurn, requests: &[(usize, SubscriptionRequest)]| {
                let wanted = requests
                    .iter()
                    .map(|(_, request)| (&request.device, &request.subscription));
                relay.has_room(turn, wanted)
            };
            if change == Change::Subscribe
                && turns
                    .iter()
                    .any(|(_, turn, requests)| !has_room(turn, requests))
            {
                return Err(SubscribeError::TooMany);
            }
            for (entry, mut turn, requests) in turns {
                for place in relay.change(&entry, &mut turn, requests, change).await {
                    applied[place] = true;
                }
            }
            Ok(applied)
        })
        .await
    }

    /// Whether a session may have all that is new among some subscriptions.
    fn has_room<'a>(
        &self,
        session: &Session,
        wanted: impl ExactSizeIterator<Item = (&'a DeviceId, &'a Subscription)>,
    ) -> bool {
        let room = session
            .subscriptions_max(&self.inner.settings.session_limits)
            .saturating_sub(session.subscription_count());
        let is_new = |(device, subscription): &(&DeviceId, &Subscription)| {
            let known = session.subscriptions_of(device);
            !known.is_some_and(|known| known.contains(subscription))
                && session.is_granted(device, &subscription.needed_access())
        };
        if wanted.len() <= room {
            return true;
        }
        // A list may name a subscription more than once; it is one all the same.
        let new: HashSet<_> = wanted.filter(is_new).collect();
        let has_room = new.len() <= room;
        if !has_room {
            let refusal = SessionRefusal::SubscriptionsFull;
            self.inner.sessions.refuse(refusal);
        }
        has_room
    }

    /// Takes subscriptions away, whether they are granted or there or not.
    pub async fn drop_subscriptions(
        &self,
        session: SessionId,
        unwanted: Vec<(DeviceId, Subscription)>,
    ) -> Result<(), NoSuchSession> {
        let entry = self.inner.sessions.get(session)?;
        self.to_the_end(move |relay| async move {
            let mut session = relay.lock(&entry).await?;
            let mut changed = BTreeSet::new();
            for (device, subscription) in unwanted {
                if session.drop_subscription(&device, &subscription) {
                    changed.insert(device);
                }
            }
            relay.narrow(&entry, &session, changed).await;
            Ok(())
        })
        .await
    }

    /// What is known of all that a session is subscribed to. Its outbox has been emptied before, or is while this is
    /// found out.
    pub(super) async fn subscribe_anew(
        &self,
        entry: &Arc<SessionEntry>,
        session: &Session,
    ) -> Result<Vec<DeviceSnapshot>, SnapshotError> {
        let all = self.bounded(all_subscriptions(session)).await?;
        let all = Arc::unwrap_or_clone(all);
        let snapshot = self.tell_shards_of(entry, session, all, Fresh::Answer);
        Ok(snapshot.await)
    }

    /// The wishes, if the snapshot of them is not too large.
    async fn bounded(
        &self,
        of: BTreeMap<DeviceId, DeviceSubscriptions>,
    ) -> Result<Wishes, SnapshotError> {
        let of = Arc::new(of);
        if self.inner.shards.snapshot_bytes(&of).await > self.inner.settings.snapshot_bytes_max {
            self.inner.sessions.refuse(SessionRefusal::SnapshotTooLarge);
            return Err(SnapshotError::TooLarge);
        }
        Ok(of)
    }

    /// Sends what is known of all that a session is subscribed to as updates.
    pub(super) async fn publish_anew(&self, entry: &Arc<SessionEntry>, session: &Session) {
        let all = all_subscriptions(session);
        self.tell_shards_of(entry, session, all, Fresh::Publish)
            .await;
    }

    /// Tells the shards what a session now wants of the devices that something is fresh of.
    pub(super) async fn tell_shards_of(
        &self,
        entry: &Arc<SessionEntry>,
        session: &Session,
        fresh: BTreeMap<DeviceId, DeviceSubscriptions>,
        purpose: impl Fn(DeviceSubscriptions) -> Fresh,
    ) -> Vec<DeviceSnapshot> {
        let changes = fresh
            .into_iter()
            .map(|(device, fresh)| SubscriptionChange {
                subscriptions: session.subscriptions(&device),
                device,
                fresh: Some(purpose(fresh)),
            })
            .collect();
        self.inner
            .shards
            .set_subscriptions(entry.id, &entry.outbox, changes)
            .await
    }

    /// Changes one session. Returns the places of the requests that were granted.
    async fn change(
        &self,
        entry: &Arc<SessionEntry>,
        session: &mut SessionTurn,
        requests: Vec<(usize, SubscriptionRequest)>,
        change: Change,
    ) -> Vec<usize> {
        let limits = &self.inner.settings.session_limits;
        let mut changed = BTreeSet::new();
        let mut granted = Vec::with_capacity(requests.len());
        for (place, request) in requests {
            let SubscriptionRequest {
                device,
                subscription,
                ..
            } = request;
            let outcome: Result<bool, SubscribeRefusal> = match change {
                Change::Subscribe => session
                    .subscribe(&device, subscription, Delivery::default(), limits)
                    .map(|added| added != Added::Known),
                Change::Unsubscribe => session.unsubscribe(&device, &subscription),
            };
            if outcome.is_ok() {
                granted.push(place);
            }
            if outcome == Ok(true) {
                changed.insert(device);
            }
        }
        match change {
            Change::Subscribe => self.tell_shards(entry, session, changed).await,
            Change::Unsubscribe => self.narrow(entry, session, changed).await,
        }
        granted
    }
}

impl Connection {
    /// Adds every subscription that is granted, or changes how it is delivered. When the session would get too many,
    /// nothing changes.
    ///
    /// The snapshot and the updates that the connection takes after this have no gap and nothing twice. The connection
    /// must not hold a batch meanwhile: it could overtake the snapshot.
    pub async fn subscribe_with_snapshot(
        &self,
        wanted: Vec<Wanted>,
    ) -> Result<Subscribed, SnapshotError> {
        let (entry, number) = (self.entry.clone(), self.number);
        let change = move |relay: Relay| async move {
            let mut session = relay.lock(&entry).await?;
            // First, so that a connection that was replaced meanwhile drops nothing of what waits for the new one.
            let hold = entry.outbox.hold(number).ok_or(NoSuchSession)?;
            let subscriptions = wanted
                .iter()
                .map(|wanted| (&wanted.device, &wanted.subscription));
            if !relay.has_room(&session, subscriptions.clone()) {
                return Err(SnapshotError::TooManySubscriptions);
            }
            let fresh = relay.bounded(granted_part(&session, subscriptions)).await?;
            let mut fresh = Arc::unwrap_or_clone(fresh);
            let limits = &relay.inner.settings.session_limits;
            let mut outcomes = Vec::with_capacity(wanted.len());
            for Wanted {
                device,
                subscription,
                delivery,
            } in wanted
            {
                let outcome = session.subscribe(&device, subscription.clone(), delivery, limits);
                let is_there = |known: &DeviceSubscriptions| known.contains(&subscription);
                if outcome.is_err()
                    && !session.subscriptions_of(&device).is_some_and(is_there)
                    && let Some(fresh) = fresh.get_mut(&device)
                {
                    fresh.remove(&subscription);
                }
                outcomes.push(outcome.map(|_| ()));
            }
            let snapshot = relay
                .tell_shards_of(&entry, &session, fresh, Fresh::Answer)
                .await;
            entry.outbox.retain_ended(&session);
            Ok(Subscribed {
                outcomes,
                snapshot,
                hold,
            })
        };
        self.relay.to_the_end(change).await
    }

    /// Begins a new stream of updates, with all that is known of what the session is subscribed to. Nothing may be held
    /// meanwhile.
    pub async fn start_anew(&self) -> Result<StartedAnew, SnapshotError> {
        let (entry, number) = (self.entry.clone(), self.number);
        let start = move |relay: Relay| async move {
            let session = relay.lock(&entry).await?;
            let epoch = entry.outbox.start_anew(number).ok_or(NoSuchSession)?;
            let hold = entry.outbox.hold(number).ok_or(NoSuchSession)?;
            let snapshot = relay.subscribe_anew(&entry, &session).await?;
            Ok(StartedAnew {
                epoch,
                snapshot,
                hold,
            })
        };
        self.relay.to_the_end(start).await
    }

    /// Whether the session is subscribed to all of some wishes, delivered in whatever way.
    pub async fn has_all(&self, wanted: &[Wanted]) -> Result<bool, NoSuchSession> {
        let session = self.relay.lock(&self.entry).await?;
        let is_there = |wanted: &Wanted| {
            let known = session.subscriptions_of(&wanted.device);
            known.is_some_and(|known| known.contains(&wanted.subscription))
        };
        Ok(wanted.iter().all(is_there))
    }

    /// What is known of what the session may see, without subscribing to it.
    pub async fn snapshot(
        &self,
        of: Vec<(DeviceId, Subscription)>,
    ) -> Result<Subscribed, SnapshotError> {
        let session = self.relay.lock(&self.entry).await?;
        let granted = granted_part(&session, of.iter().map(|(device, of)| (device, of)));
        let outcome = |(device, subscription): &(DeviceId, Subscription)| {
            if !session.is_granted(device, &subscription.needed_access()) {
                Err(SubscribeRefusal::NotGranted)
            } else if granted
                .get(device)
                .is_some_and(|granted| granted.contains(subscription))
            {
                Ok(())
            } else {
                Err(SubscribeRefusal::TooManyPatterns)
            }
        };
        let outcomes = of.iter().map(outcome).collect();
        let asked = self.relay.bounded(granted).await?;
        let snapshot = self.relay.inner.shards.snapshot(&asked).await;
        // Under the turn, so that whatever is revoked from now on waits for the snapshot.
        let hold = self.entry.outbox.hold(self.number).ok_or(NoSuchSession)?;
        Ok(Subscribed {
            outcomes,
            snapshot,
            hold,
        })
    }
}

/// The part of some wishes that is granted, without patterns beyond those that there may be.
fn granted_part<'a>(
    session: &Session,
    wanted: impl Iterator<Item = (&'a DeviceId, &'a Subscription)>,
) -> BTreeMap<DeviceId, DeviceSubscriptions> {
    let mut granted: BTreeMap<DeviceId, DeviceSubscriptions> = BTreeMap::new();
    for (device, subscription) in wanted {
        if session.is_granted(device, &subscription.needed_access()) {
            let granted = granted.entry(device.clone()).or_default();
            if let Subscription::TelemetryPattern(pattern) = subscription
                && !granted.telemetry.has_room_for_pattern(pattern)
            {
                continue;
            }
            granted.insert(subscription.clone(), Delivery::default());
            if *subscription == Subscription::DeviceTwin {
                granted.see_twin(session.twin_view(device).unwrap_or_default());
            }
        }
    }
    granted
}

fn all_subscriptions(session: &Session) -> BTreeMap<DeviceId, DeviceSubscriptions> {
    session
        .subscribed_devices()
        .map(|device| (device.clone(), session.subscriptions(device)))
        .collect()
}

fn granted(applied: &[bool]) -> Result<(), SubscribeError> {
    if applied == [true] {
        Ok(())
    } else {
        Err(SubscribeError::NotGranted)
    }
}
