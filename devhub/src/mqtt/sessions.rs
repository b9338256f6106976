//! What outlives a connection: the subscriptions of clients that connect without `clean session` (MQTT
//! 3.1.1 §3.1.2.4). Cloud-to-device messages that were not acknowledged stay in the hub's own queue of the device,
//! for clean sessions too.
//!
//! A session belongs to one identity as it was created: one that is deleted and created anew starts
//! without.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use rumqttc::mqttbytes::QoS;

use super::topic::Filter;
use crate::iot_hub::IdentityId;

/// When as many are kept, further clients start anew with each connection.
const SESSIONS_MAX: usize = 100_000;

/// What a client is subscribed to, and the quality of service granted.
pub(crate) type Subscriptions = BTreeMap<Filter, QoS>;

/// The sessions of all clients, connected or not.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    kept: Mutex<HashMap<IdentityId, Session>>,
}

#[derive(Debug)]
struct Session {
    generation_id: String,
    subscriptions: Subscriptions,
}

impl Sessions {
    /// The subscriptions of an identity's session, if there is one.
    pub(crate) fn resume(
        &self,
        identity: &IdentityId,
        generation_id: &str,
    ) -> Option<Subscriptions> {
        let kept = self.kept.lock();
        let session = kept
            .get(identity)
            .filter(|session| session.generation_id == generation_id)?;
        Some(session.subscriptions.clone())
    }

    /// Keeps an identity's subscriptions as they are now.
    pub(crate) fn keep(
        &self,
        identity: &IdentityId,
        generation_id: &str,
        subscriptions: &Subscriptions,
    ) {
        let mut kept = self.kept.lock();
        if kept.len() >= SESSIONS_MAX && !kept.contains_key(identity) {
            tracing::warn!("a session is not kept, as there are too many");
            return;
        }
        let session = Session {
            generation_id: generation_id.to_owned(),
            subscriptions: subscriptions.clone(),
        };
        kept.insert(identity.clone(), session);
    }

    /// Ends an identity's session.
    pub(crate) fn discard(&self, identity: &IdentityId) {
        self.kept.lock().remove(identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_discarded_or_its_identity_is_another_one() {
        let sessions = Sessions::default();
        let identity = IdentityId::device("press-01").unwrap();
        let subscriptions = Subscriptions::from([(Filter::Methods, QoS::AtMostOnce)]);
        assert_eq!(sessions.resume(&identity, "1"), None);
        sessions.keep(&identity, "1", &subscriptions);
        assert_eq!(sessions.resume(&identity, "1"), Some(subscriptions));
        assert_eq!(sessions.resume(&identity, "2"), None);
        sessions.discard(&identity);
        assert_eq!(sessions.resume(&identity, "1"), None);
    }
}
