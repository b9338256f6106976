//! devhub's IoT Hub: identity registry, twins, connected devices, direct methods, messages, and the events that all of
//! these put on the built-in endpoint.
//!
//! [`IotHub`] is the hub in process; the service REST API and the MQTT listeners are thin translations onto it. What
//! decides is plain code below: the twin engine ([`twin`]) and the queues know no locks and no sockets. Each identity
//! has one lock, under which its events are published, so their order is that of its changes.
//!
//! Nothing outlives the process but keys.

mod access_policy;
mod authentication;
pub mod built_in_endpoint;
mod connection;
pub mod connection_sequence;
mod device_link;
mod direct_method;
mod error;
mod identity;
mod identity_id;
mod mailbox;
mod message_queue;
mod query;
mod registry;
mod telemetry_message;
pub mod twin;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use serde_json::Value;

pub use self::access_policy::{OWNER_POLICY, Right};
pub use self::authentication::{
    AuthError, AuthKind, AuthMethod, AuthScope, Authentication, Credential, SymmetricKeys,
    Thumbprints,
};
pub use self::built_in_endpoint::Routes;
pub use self::device_link::{DeviceLink, EndReason, Listen, ToDevice};
pub use self::direct_method::{MethodAnswer, MethodCall};
pub use self::error::{ErrorCode, HubError};
pub use self::identity::{IdentityDescription, IdentityStatus};
pub use self::identity_id::{IdentityId, InvalidId};
pub use self::message_queue::{CloudToDeviceMessage, LockedMessage};
pub use self::query::{Query, QueryPage};
pub use self::registry::{DeviceStatistics, IdentitySettings};
pub use self::telemetry_message::{SystemProperties, TelemetryMessage};
pub use self::twin::IfMatch;

pub(crate) use self::identity::{connection_state, time_text};

use self::access_policy::AccessPolicies;
use self::built_in_endpoint::BuiltInEndpoint;
use self::identity::Identity;
use self::registry::Registry;
use crate::clock::Clock;
use crate::event_hub::EventHub;
use crate::sas::{self, SharedAccessKey, Token};

/// Ticks of 100 ns between year 1 and the Unix epoch; generation ids are such ticks.
const TICKS_BEFORE_UNIX_EPOCH: u64 = 621_355_968_000_000_000;
const TICKS_PER_MS: u64 = 10_000;

/// How an IoT hub is set up.
#[derive(Clone, Debug)]
pub struct IotHubSettings {
    /// The hub's name, without a domain, as events tell it.
    pub name: String,
    /// From this come the keys of the policies, and those that [`IotHub::kept_keys`] gives.
    pub key: SharedAccessKey,
    /// Which events reach the event hub.
    pub routes: Routes,
}

/// A running IoT hub. Cloned handles mean the same hub.
#[derive(Clone, Debug)]
pub struct IotHub {
    hub: Arc<Hub>,
}

/// What all parts share.
#[derive(Debug)]
struct Hub {
    clock: Arc<dyn Clock>,
    endpoint: BuiltInEndpoint,
    policies: AccessPolicies,
    key: SharedAccessKey,
    registry: RwLock<Registry>,
    last_link_id: AtomicU64,
    last_request_id: AtomicU64,
    last_generation_id: AtomicU64,
}

impl IotHub {
    /// A hub without devices, whose built-in endpoint is `event_hub`.
    pub fn new(settings: IotHubSettings, event_hub: EventHub, clock: Arc<dyn Clock>) -> Self {
        let IotHubSettings { name, key, routes } = settings;
        Self {
            hub: Arc::new(Hub {
                clock,
                endpoint: BuiltInEndpoint {
                    event_hub,
                    hub_name: name,
                    routes: RwLock::new(routes),
                },
                policies: AccessPolicies::new(key.clone()),
                key,
                registry: RwLock::default(),
                last_link_id: AtomicU64::new(0),
                last_request_id: AtomicU64::new(0),
                last_generation_id: AtomicU64::new(0),
            }),
        }
    }

    /// The hub's name, without a domain.
    pub fn name(&self) -> &str {
        &self.hub.endpoint.hub_name
    }

    /// Changes which events reach the event hub from now on.
    pub fn set_routes(&self, routes: Routes) {
        *self.hub.endpoint.routes.write() = routes;
    }

    /// The key of a policy; `None` if there is no such policy.
    pub fn policy_key(&self, policy: &str) -> Option<SharedAccessKey> {
        self.hub.policies.key(policy)
    }

    /// Keys for an identity that are the same again as long as the hub's own key is kept, so that connection strings of
    /// devices that every start registers stay valid.
    pub fn kept_keys(&self, id: &IdentityId) -> SymmetricKeys {
        SymmetricKeys {
            primary: self.hub.key.derive(&format!("primary/{id}")),
            secondary: self.hub.key.derive(&format!("secondary/{id}")),
        }
    }

    /// How a service connects to the hub at `host` with all rights. It holds a key.
    pub fn service_connection_string(&self, host: &str) -> String {
        let key = self.policy_key(OWNER_POLICY).expect("the policy exists");
        format!(
            "HostName={host};SharedAccessKeyName={OWNER_POLICY};SharedAccessKey={}",
            key.expose()
        )
    }

    /// How a registered device or module that has symmetric keys connects to the hub at `host`. It holds a key.
    pub fn device_connection_string(&self, id: &IdentityId, host: &str) -> Option<String> {
        let Authentication::Sas(keys) = self.identity(id).ok()?.authentication else {
            return None;
        };
        let mut text = format!("HostName={host};DeviceId={}", id.device_id());
        if let Some(module_id) = id.module_id() {
            text.push_str(";ModuleId=");
            text.push_str(module_id);
        }
        text.push_str(";SharedAccessKey=");
        text.push_str(keys.primary.expose());
        Some(text)
    }

    /// What a service's token allows.
    pub(crate) fn service_rights(&self, token: &str) -> Result<&'static [Right], sas::Error> {
        let now = Duration::from_millis(self.hub.clock.now_ms().try_into().unwrap_or(0));
        let (rights, _) = self.hub.policies.verify(&Token::parse(token)?, now)?;
        Ok(rights)
    }
}

/// What services do.
impl IotHub {
    /// The whole twin document.
    pub fn twin(&self, id: &IdentityId) -> Result<Value, HubError> {
        let identity = self.hub.identity(id)?;
        let locked = identity.lock(&self.hub)?;
        Ok(locked.twin_document())
    }

    /// Merges `{"tags": {..}, "properties": {"desired": {..}}}` and returns the whole twin.
    pub fn update_twin(
        &self,
        id: &IdentityId,
        patch: &Value,
        if_match: &IfMatch,
    ) -> Result<Value, HubError> {
        let identity = self.hub.identity(id)?;
        let mut locked = identity.lock(&self.hub)?;
        if_match.check(&locked.state.twin.etag())?;
        let now_ms = locked.now_ms;
        if let Some(change) = locked.state.twin.update(patch, now_ms)? {
            locked.twin_changed(change);
        }
        Ok(locked.twin_document())
    }

    /// Replaces tags and desired properties and returns the whole twin.
    pub fn replace_twin(
        &self,
        id: &IdentityId,
        twin: &Value,
        if_match: &IfMatch,
    ) -> Result<Value, HubError> {
        let identity = self.hub.identity(id)?;
        let mut locked = identity.lock(&self.hub)?;
        if_match.check(&locked.state.twin.etag())?;
        let now_ms = locked.now_ms;
        let desired = locked.state.twin.replace(twin, now_ms)?;
        locked.twin_replaced(desired);
        Ok(locked.twin_document())
    }

    /// Calls a direct method and waits for its answer.
    pub async fn invoke_method(
        &self,
        id: &IdentityId,
        call: MethodCall,
    ) -> Result<MethodAnswer, HubError> {
        let identity = self.hub.identity(id)?;
        direct_method::invoke(&self.hub, &identity, call).await
    }

    /// Up to `count_max` of the twins that a query finds behind the identity `after`.
    pub fn query_twins(
        &self,
        query: &Query,
        after: Option<&IdentityId>,
        count_max: usize,
    ) -> QueryPage {
        let registry = self.hub.registry.read();
        let mut found = registry
            .after(after)
            .filter(|identity| query.is_about(&identity.id))
            .filter_map(|identity| {
                let twin = identity.lock(&self.hub).ok()?.twin_document();
                query.matches(&twin).then_some((&identity.id, twin))
            });
        let mut page = QueryPage {
            twins: Vec::new(),
            continues_after: None,
        };
        let mut last = None;
        for (id, twin) in found.by_ref().take(count_max) {
            page.twins.push(twin);
            last = Some(id.clone());
        }
        page.continues_after = last.filter(|_| found.next().is_some());
        page
    }

    /// Queues a message for a device, which may be offline.
    pub fn send_message(
        &self,
        id: &IdentityId,
        message: CloudToDeviceMessage,
    ) -> Result<(), HubError> {
        let identity = self.hub.identity(id)?;
        let mut locked = identity.lock(&self.hub)?;
        let now_ms = locked.now_ms;
        locked.state.messages.push(message, now_ms)?;
        locked.deliver_messages();
        Ok(())
    }
}

/// What devices do.
impl IotHub {
    /// Checks what a device or module shows when it connects.
    pub fn authenticate(
        &self,
        id: &IdentityId,
        credential: Credential<'_>,
    ) -> Result<AuthMethod, AuthError> {
        let unknown = |_| AuthError::UnknownIdentity;
        let identity = self.hub.identity(id).map_err(unknown)?;
        let locked = identity.lock(&self.hub).map_err(unknown)?;
        let registration = &locked.state.registration;
        let verified = authentication::verify(
            credential,
            id,
            &registration.authentication,
            &self.hub.policies,
            locked.now_ms,
        )?;
        match registration.status {
            IdentityStatus::Enabled => Ok(verified),
            IdentityStatus::Disabled => Err(AuthError::Disabled),
        }
    }

    /// Connects an identity that has been authenticated; a connection that it had ends. Its event is published when it
    /// first sends telemetry or listens for messages.
    pub fn connect(&self, id: &IdentityId, auth: AuthMethod) -> Result<DeviceLink, HubError> {
        let identity = self.hub.identity(id)?;
        DeviceLink::new(Arc::clone(&self.hub), identity, auth)
    }

    /// Ends the connection of an identity, as a fault. Whether there was one.
    pub fn disconnect(&self, id: &IdentityId) -> Result<bool, HubError> {
        let identity = self.hub.identity(id)?;
        let mut locked = identity.lock(&self.hub)?;
        let was_connected = locked.state.connection.is_some();
        locked.end_connection(EndReason::Fault);
        Ok(was_connected)
    }
}

impl Hub {
    fn identity(&self, id: &IdentityId) -> Result<Arc<Identity>, HubError> {
        self.registry.read().get(id)
    }

    fn next_link_id(&self) -> u64 {
        self.last_link_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Never 0, which one device SDK takes for no id.
    fn next_request_id(&self) -> String {
        let number = self.last_request_id.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{number:x}")
    }

    /// Ticks at `now_ms`, or more if that was given before.
    fn next_generation_id(&self, now_ms: i64) -> String {
        let ticks = u64::try_from(now_ms)
            .unwrap_or(0)
            .saturating_mul(TICKS_PER_MS)
            .saturating_add(TICKS_BEFORE_UNIX_EPOCH);
        let last = self
            .last_generation_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(ticks.max(last + 1))
            })
            .expect("always updated");
        ticks.max(last + 1).to_string()
    }
}

#[cfg(test)]
mod tests;
