//! What sessions may see: grants given, taken away, and running out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::connection::{EndReason, EndedSubscription};
use super::sessions::{SessionEntry, SessionTurn};
use super::shards::Fresh;
use super::{GrantError, NoSuchSession, Relay};
use crate::domain::disconnect::Disconnect;
use crate::domain::grant::Grant;
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::session::{SessionConstraints, TooManyGrants, Withdrawn};
use crate::domain::subscription::{Delivery, DeviceSubscriptions, Subscription};
use crate::telemetry::metrics::SessionRefusal;

/// What a security backend lets a session do, all in one, as a grant token carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorization {
    /// What it may see and do.
    pub grants: Vec<TimedGrant>,
    /// What it may do at most.
    pub constraints: SessionConstraints,
}

/// A grant that may run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedGrant {
    /// The device that it is about.
    pub device: DeviceId,
    /// What is granted.
    pub grant: Grant,
    /// When it runs out; never when absent.
    pub expires_at_unix_ms: Option<i64>,
}

impl Relay {
    /// Adds a grant for good, also where a token gave it for a time; adding it again changes nothing.
    pub async fn grant(
        &self,
        id: SessionId,
        device: DeviceId,
        grant: Grant,
    ) -> Result<(), GrantError> {
        self.grant_all(id, vec![(device, grant)]).await
    }

    /// As [`grant`](Self::grant), for several; when they are too many, nothing changes.
    pub async fn grant_all(
        &self,
        id: SessionId,
        grants: Vec<(DeviceId, Grant)>,
    ) -> Result<(), GrantError> {
        let entry = self.inner.sessions.get(id)?;
        let mut session = self.lock(&entry).await?;
        let grants = grants.into_iter().map(|(device, grant)| TimedGrant {
            device,
            grant,
            expires_at_unix_ms: None,
        });
        let widened = self.add_grants(&mut session, grants.collect())?;
        self.inner
            .expiries
            .arm(&entry, session.next_expiry_unix_ms());
        self.show_wider_twins(entry, session, widened).await;
        Ok(())
    }

    /// Adds the grants of an authorization and replaces the session's constraints by its own. When they are too many,
    /// nothing changes.
    pub async fn authorize(
        &self,
        id: SessionId,
        authorization: Authorization,
    ) -> Result<(), GrantError> {
        let entry = self.inner.sessions.get(id)?;
        let mut session = self.lock(&entry).await?;
        let widened = self.add_grants(&mut session, authorization.grants)?;
        session.constrain(authorization.constraints);
        self.inner
            .expiries
            .arm(&entry, session.next_expiry_unix_ms());
        self.show_wider_twins(entry, session, widened).await;
        Ok(())
    }

    /// Adds a grant of a 2.x client: what can be seen with it is subscribed to, and what is known of it is sent at once,
    /// again each time.
    pub async fn grant_v2(
        &self,
        id: SessionId,
        device: DeviceId,
        grant: Grant,
    ) -> Result<(), GrantError> {
        let entry = self.inner.sessions.get(id)?;
        self.to_the_end(move |relay| async move {
            let mut session = relay.lock(&entry).await?;
            let limits = &relay.inner.settings.session_limits;
            let subscription = seen_by(&grant);
            let has_room = |wanted| session.has_room_for(&device, wanted, limits);
            if !subscription.as_ref().is_none_or(has_room) {
                let refusal = SessionRefusal::SubscriptionsFull;
                relay.inner.sessions.refuse(refusal);
                return Err(GrantError::TooMany);
            }
            relay.add_grant(&mut session, &device, grant, None)?;
            session.speak_v2();
            entry.outbox.set_dialect(session.dialect());
            let Some(subscription) = subscription else {
                return Ok(());
            };
            let delivery = Delivery::default();
            session
                .subscribe(&device, subscription.clone(), delivery, limits)
                .map_err(|_| GrantError::TooMany)?;
            let mut fresh = DeviceSubscriptions::default();
            fresh.insert(subscription, delivery);
            fresh.see_twin(session.twin_view(&device).unwrap_or_default());
            let fresh = [(device, fresh)].into();
            relay
                .tell_shards_of(&entry, &session, fresh, Fresh::Publish)
                .await;
            Ok(())
        })
        .await
    }

    /// Takes a grant away, and every subscription that no other grant covers.
    pub async fn revoke(
        &self,
        id: SessionId,
        device: DeviceId,
        grant: Grant,
    ) -> Result<(), NoSuchSession> {
        let entry = self.inner.sessions.get(id)?;
        self.to_the_end(move |relay| async move {
            let mut session = relay.lock(&entry).await?;
            let withdrawn = session.revoke(&device, &grant);
            relay
                .withdraw(&entry, &session, withdrawn, EndReason::Revoked)
                .await;
            Ok(())
        })
        .await
    }

    /// Takes away what has run out of a session.
    pub(super) async fn expire(&self, entry: &Arc<SessionEntry>, session: &mut SessionTurn) {
        let now_unix_ms = self.inner.clock.unix_ms();
        if session.is_over(now_unix_ms) {
            self.retire(entry, session, Disconnect::SessionExpired)
                .await;
            return;
        }
        let withdrawn = session.expire(now_unix_ms);
        self.inner
            .expiries
            .arm(entry, session.next_expiry_unix_ms());
        self.withdraw(entry, session, withdrawn, EndReason::Expired)
            .await;
    }

    /// Returns the devices of which the session sees more of a twin now.
    fn add_grants(
        &self,
        session: &mut SessionTurn,
        grants: Vec<TimedGrant>,
    ) -> Result<BTreeSet<DeviceId>, GrantError> {
        let new: BTreeSet<_> = grants
            .iter()
            .filter(|given| !session.has_grant(&given.device, &given.grant))
            .map(|given| (&given.device, &given.grant))
            .collect();
        let grants_max = self.inner.settings.session_limits.grants_max;
        if session.grant_count() + new.len() > grants_max {
            self.inner.sessions.refuse(SessionRefusal::GrantsFull);
            return Err(GrantError::TooMany);
        }
        let mut widened = BTreeSet::new();
        for given in grants {
            let TimedGrant {
                device,
                grant,
                expires_at_unix_ms,
            } = given;
            if self.add_grant(session, &device, grant, expires_at_unix_ms)? {
                widened.insert(device);
            }
        }
        Ok(widened)
    }

    /// Lets a session that sees more of some twins now have them at once, not only with their next change.
    async fn show_wider_twins(
        &self,
        entry: Arc<SessionEntry>,
        session: SessionTurn,
        widened: BTreeSet<DeviceId>,
    ) {
        if widened.is_empty() {
            return;
        }
        self.to_the_end(move |relay| async move {
            let fresh = widened.into_iter().map(|device| {
                let fresh = DeviceSubscriptions {
                    device_twin: session.subscriptions(&device).device_twin,
                    ..DeviceSubscriptions::default()
                };
                (device, fresh)
            });
            relay
                .tell_shards_of(&entry, &session, fresh.collect(), Fresh::Publish)
                .await;
        })
        .await;
    }

    fn add_grant(
        &self,
        session: &mut SessionTurn,
        device: &DeviceId,
        grant: Grant,
        expires_at_unix_ms: Option<i64>,
    ) -> Result<bool, GrantError> {
        let limits = &self.inner.settings.session_limits;
        session
            .grant(device, grant, expires_at_unix_ms, limits)
            .map_err(|TooManyGrants| {
                self.inner.sessions.refuse(SessionRefusal::GrantsFull);
                GrantError::TooMany
            })
    }

    /// Sees to it that what a session lost with its grants does not leave any more, and tells its client.
    async fn withdraw(
        &self,
        entry: &Arc<SessionEntry>,
        session: &SessionTurn,
        withdrawn: Withdrawn,
        reason: EndReason,
    ) {
        self.narrow(entry, session, withdrawn.devices).await;
        entry
            .outbox
            .settle_snapshot(self.inner.settings.write_wait)
            .await;
        let told = withdrawn
            .ended
            .into_iter()
            .map(|(device, subscription)| EndedSubscription {
                device,
                subscription,
                reason,
            });
        entry.outbox.tell_ended(told.collect());
    }
}

/// What a 2.x client sees by a grant alone.
fn seen_by(grant: &Grant) -> Option<Subscription> {
    match grant {
        Grant::Telemetry(key) => Some(Subscription::Telemetry(key.clone())),
        Grant::DeviceTwin(_) => Some(Subscription::DeviceTwin),
        Grant::ConnectionState => Some(Subscription::ConnectionState),
        Grant::D2cMessages => Some(Subscription::D2cMessages),
        Grant::DesiredProperties(_) | Grant::Tags(_) | Grant::DirectMethod(..) => None,
    }
}
