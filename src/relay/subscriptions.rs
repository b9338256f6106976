//! Changes of subscriptions: one, or many at once, of one session or of several.
//!
//! Either all that is granted is applied, or nothing changes. The turns of all sessions are taken first, in the order of
//! their ids so that two changes never wait for each other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::sessions::{SessionEntry, SessionTurn};
use super::{Relay, SubscribeError};
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::session::{Session, SubscribeRefusal};
use crate::domain::subscription::Subscription;
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
            if change == Change::Subscribe
                && turns
                    .iter()
                    .any(|(_, turn, requests)| !relay.has_room(turn, requests))
            {
                relay
                    .inner
                    .sessions
                    .refuse(SessionRefusal::SubscriptionsFull);
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

    /// Whether a session may have all that is new in the requests.
    fn has_room(&self, session: &Session, requests: &[(usize, SubscriptionRequest)]) -> bool {
        let room = (self.inner.settings.session_limits.subscriptions_max)
            .saturating_sub(session.subscription_count());
        let is_new = |request: &SubscriptionRequest| {
            let known = session.subscriptions_of(&request.device);
            !known.is_some_and(|known| known.contains(&request.subscription))
                && session.is_granted(&request.device, &request.subscription.needed_grant())
        };
        if requests.len() <= room {
            return true;
        }
        // A list may name a subscription more than once; it is one all the same.
        let new: HashSet<_> = requests
            .iter()
            .filter(|(_, request)| is_new(request))
            .map(|(_, request)| (&request.device, &request.subscription))
            .collect();
        new.len() <= room
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
                Change::Subscribe => session.subscribe(&device, subscription, limits),
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

fn granted(applied: &[bool]) -> Result<(), SubscribeError> {
    if applied == [true] {
        Ok(())
    } else {
        Err(SubscribeError::NotGranted)
    }
}
