//! The identity registry: which devices and modules there are.
//!
//! Bounded, like that of the real service. Lifecycle events are published while the registry is locked, so those of one
//! id are in order even when it is created anew.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::authentication::{Authentication, SymmetricKeys};
use super::built_in_endpoint::LifecycleOperation;
use super::device_link::EndReason;
use super::error::{ErrorCode, HubError};
use super::identity::{Identity, IdentityDescription, IdentityStatus, Registration, not_found};
use super::identity_id::IdentityId;
use super::twin::IfMatch;
use super::{Hub, IotHub};

/// How many devices there may be.
const DEVICES_MAX: usize = 100_000;

/// How many modules a device may have, as at the real service.
const MODULES_MAX: usize = 50;

const STATUS_REASON_CHARACTERS_MAX: usize = 128;

/// What users of the registry set of an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Whether it may connect.
    pub status: IdentityStatus,
    /// Why not; at most 128 characters.
    pub status_reason: Option<String>,
    /// What it proves itself with. When it is missing, a new identity gets random keys, and an existing one keeps what
    /// it has.
    pub authentication: Option<Authentication>,
}

impl IdentitySettings {
    fn validate(&self) -> Result<(), HubError> {
        let reason = self.status_reason.as_deref().unwrap_or_default();
        if reason.chars().count() > STATUS_REASON_CHARACTERS_MAX {
            return Err(HubError::invalid("statusReason may have 128 characters"));
        }
        match &self.authentication {
            None => Ok(()),
            Some(Authentication::Sas(keys)) => keys.validate(),
            Some(Authentication::SelfSigned(thumbprints)) => thumbprints.validate(),
        }
    }
}

/// How many devices there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// Enabled ones.
    pub enabled: usize,
    /// Disabled ones.
    pub disabled: usize,
    /// Those that are connected.
    pub connected: usize,
}

/// The identities by id. A device stands right before its modules.
#[derive(Debug, Default)]
pub(super) struct Registry {
    identities: BTreeMap<IdentityId, Arc<Identity>>,
    device_count: usize,
}

impl Registry {
    pub(super) fn get(&self, id: &IdentityId) -> Result<Arc<Identity>, HubError> {
        match self.identities.get(id) {
            Some(identity) => Ok(Arc::clone(identity)),
            None if self.identities.contains_key(&id.to_device()) => Err(not_found(id)),
            None => Err(not_found(&id.to_device())),
        }
    }

    /// The identities behind one, or all.
    pub(super) fn after<'a>(
        &'a self,
        last: Option<&IdentityId>,
    ) -> impl Iterator<Item = &'a Arc<Identity>> + use<'a> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.identities
            .range((from, Bound::Unbounded))
            .map(|(_, identity)| identity)
    }

    fn modules<'a>(&'a self, device: &'a IdentityId) -> impl Iterator<Item = &'a Arc<Identity>> {
        self.after(Some(device))
            .take_while(|identity| identity.id.device_id() == device.device_id())
    }

    /// Whether there is room for an identity of this id, and its device is there.
    fn admits(&self, id: &IdentityId) -> Result<(), HubError> {
        if self.identities.contains_key(id) {
            let code = match id.module_id() {
                None => ErrorCode::DeviceAlreadyExists,
                Some(_) => ErrorCode::ModuleAlreadyExistsOnDevice,
            };
            return Err(HubError::new(code, format!("'{id}' already exists")));
        }
        if id.module_id().is_none() {
            if self.device_count >= DEVICES_MAX {
                return Err(HubError::new(
                    ErrorCode::TooManyDevices,
                    "there are as many devices as there may be",
                ));
            }
            return Ok(());
        }
        let device = id.to_device();
        if !self.identities.contains_key(&device) {
            return Err(not_found(&device));
        }
        if self.modules(&device).count() >= MODULES_MAX {
            return Err(HubError::new(
                ErrorCode::TooManyModulesOnDevice,
                "a device may have 50 modules",
            ));
        }
        Ok(())
    }

    fn insert(&mut self, identity: Arc<Identity>) {
        if identity.id.module_id().is_none() {
            self.device_count += 1;
        }
        self.identities.insert(identity.id.clone(), identity);
    }

    fn remove(&mut self, id: &IdentityId) {
        if self.identities.remove(id).is_some() && id.module_id().is_none() {
            self.device_count -= 1;
        }
    }
}

/// The identity registry.
impl IotHub {
    /// Registers a device or module.
    pub fn create_identity(
        &self,
        id: &IdentityId,
        settings: IdentitySettings,
    ) -> Result<IdentityDescription, HubError> {
        settings.validate()?;
        let hub = &*self.hub;
        let now_ms = hub.clock.now_ms();
        let IdentitySettings {
            status,
            status_reason,
            authentication,
        } = settings;
        let mut registry = hub.registry.write();
        registry.admits(id)?;
        let registration = Registration {
            etag: rand::random(),
            status,
            status_reason,
            status_updated_ms: None,
            authentication: authentication
                .unwrap_or_else(|| Authentication::Sas(SymmetricKeys::generate())),
        };
        let identity = Arc::new(Identity::new(
            id.clone(),
            hub.next_generation_id(now_ms),
            registration,
            now_ms,
        ));
        registry.insert(Arc::clone(&identity));
        let locked = identity.lock(hub)?;
        hub.endpoint.lifecycle(
            id,
            LifecycleOperation::Create,
            &locked.twin_event_body(),
            now_ms,
        );
        Ok(locked.description())
    }

    /// Registers a device or module with the keys of [`IotHub::kept_keys`], and returns them.
    pub fn create_identity_with_kept_keys(
        &self,
        id: &IdentityId,
    ) -> Result<SymmetricKeys, HubError> {
        let keys = self.kept_keys(id);
        let settings = IdentitySettings {
            authentication: Some(Authentication::Sas(keys.clone())),
            ..IdentitySettings::default()
        };
        self.create_identity(id, settings)?;
        Ok(keys)
    }

    /// What the registry says of one device or module.
    pub fn identity(&self, id: &IdentityId) -> Result<IdentityDescription, HubError> {
        let identity = self.hub.identity(id)?;
        let locked = identity.lock(&self.hub)?;
        Ok(locked.description())
    }

    /// Changes a registration. One that is disabled is disconnected.
    pub fn update_identity(
        &self,
        id: &IdentityId,
        settings: IdentitySettings,
        if_match: &IfMatch,
    ) -> Result<IdentityDescription, HubError> {
        settings.validate()?;
        let identity = self.hub.identity(id)?;
        let mut locked = identity.lock(&self.hub)?;
        let now_ms = locked.now_ms;
        let registration = &mut locked.state.registration;
        if_match.check(&registration.etag_text())?;
        registration.etag = registration.etag.wrapping_add(1);
        if registration.status != settings.status {
            registration.status_updated_ms = Some(now_ms);
        }
        registration.status = settings.status;
        registration.status_reason = settings.status_reason;
        if let Some(authentication) = settings.authentication {
            registration.authentication = authentication;
        }
        if settings.status == IdentityStatus::Disabled {
            locked.end_connection(EndReason::Disabled);
        }
        Ok(locked.description())
    }

    /// Removes a module, or a device with all its modules.
    pub fn delete_identity(&self, id: &IdentityId, if_match: &IfMatch) -> Result<(), HubError> {
        let hub = &*self.hub;
        let mut registry = hub.registry.write();
        let identity = registry.get(id)?;
        if_match.check(&identity.lock(hub)?.state.registration.etag_text())?;
        let mut removed = Vec::new();
        if id.module_id().is_none() {
            removed.extend(registry.modules(id).map(Arc::clone));
        }
        removed.push(identity);
        for identity in removed {
            registry.remove(&identity.id);
            delete(hub, &identity)?;
        }
        Ok(())
    }

    /// Up to `count_max` devices, in the order of their ids.
    pub fn devices(&self, count_max: usize) -> Vec<IdentityDescription> {
        let registry = self.hub.registry.read();
        registry
            .after(None)
            .filter(|identity| identity.id.module_id().is_none())
            .take(count_max)
            .filter_map(|identity| Some(identity.lock(&self.hub).ok()?.description()))
            .collect()
    }

    /// The modules of a device, in the order of their ids.
    pub fn modules(&self, device: &IdentityId) -> Result<Vec<IdentityDescription>, HubError> {
        let registry = self.hub.registry.read();
        let device = registry.get(&device.to_device())?.id.clone();
        Ok(registry
            .modules(&device)
            .filter_map(|identity| Some(identity.lock(&self.hub).ok()?.description()))
            .collect())
    }

    /// How many devices there are.
    pub fn device_statistics(&self) -> DeviceStatistics {
        let registry = self.hub.registry.read();
        let mut statistics = DeviceStatistics::default();
        for identity in registry.after(None) {
            if let (None, Ok(locked)) = (identity.id.module_id(), identity.lock(&self.hub)) {
                statistics.connected += usize::from(locked.state.connection.is_some());
                match locked.state.registration.status {
                    IdentityStatus::Enabled => statistics.enabled += 1,
                    IdentityStatus::Disabled => statistics.disabled += 1,
                }
            }
        }
        statistics
    }
}

fn delete(hub: &Hub, identity: &Identity) -> Result<(), HubError> {
    {
        let mut locked = identity.lock(hub)?;
        locked.end_connection(EndReason::Deleted);
        locked.state.is_deleted = true;
        hub.endpoint.lifecycle(
            &identity.id,
            LifecycleOperation::Delete,
            &locked.twin_event_body(),
            locked.now_ms,
        );
    }
    identity.reachable.notify_waiters();
    Ok(())
}
