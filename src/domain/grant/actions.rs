//! What a session may do with a device beside looking: change its twin, and call its direct methods.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::extent::Extent;
use super::{Access, Denial, Grant};
use crate::domain::payload_policy::PayloadPolicy;
use crate::domain::subscription::Selection;

/// What one session may do with one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Actions {
    pub(super) desired_properties: Extent,
    pub(super) tags: Extent,
    direct_methods: Selection<Arc<str>>,
    /// Direct methods it may call with some payloads, beside those above.
    restricted_methods: BTreeSet<(Option<Arc<str>>, PayloadPolicy)>,
}

/// Grants and accesses of other kinds are never there.
impl Actions {
    pub(super) fn insert(&mut self, grant: Grant) -> bool {
        match grant {
            Grant::DesiredProperties(parts) => self.desired_properties.insert(parts),
            Grant::Tags(parts) => self.tags.insert(parts),
            Grant::DirectMethod(name, None) => self.direct_methods.insert(name),
            Grant::DirectMethod(name, Some(policy)) => {
                self.restricted_methods.insert((name, policy))
            }
            _ => false,
        }
    }

    /// See [`DeviceGrants::remove`].
    pub(super) fn remove(&mut self, grant: &Grant) {
        match grant {
            Grant::DesiredProperties(None) => self.desired_properties = Extent::default(),
            Grant::Tags(None) => self.tags = Extent::default(),
            Grant::DirectMethod(None, None) => {
                self.direct_methods = Selection::default();
                self.restricted_methods.clear();
            }
            Grant::DirectMethod(name, None) => {
                self.direct_methods.remove(name.as_deref());
                self.restricted_methods.retain(|(of, _)| of != name);
            }
            Grant::DirectMethod(None, Some(policy)) => {
                self.restricted_methods.retain(|(_, of)| of != policy);
            }
            _ => {
                self.remove_exactly(grant);
            }
        }
    }

    pub(super) fn remove_exactly(&mut self, grant: &Grant) -> bool {
        match grant {
            Grant::DesiredProperties(parts) => self.desired_properties.remove(parts.as_ref()),
            Grant::Tags(parts) => self.tags.remove(parts.as_ref()),
            Grant::DirectMethod(name, None) => self.direct_methods.remove(name.as_deref()),
            Grant::DirectMethod(name, Some(policy)) => self
                .restricted_methods
                .remove(&(name.clone(), policy.clone())),
            _ => false,
        }
    }

    pub(super) fn allow(&self, access: &Access<'_>) -> bool {
        match *access {
            Access::DesiredProperties { patch } => self.desired_properties.allow_patch(patch),
            Access::Tags { patch } => self.tags.allow_patch(patch),
            Access::DirectMethod { name, payload } => {
                self.direct_methods.covers(Some(name))
                    || self.policies_of(name).any(|policy| policy.allows(payload))
            }
            _ => false,
        }
    }

    /// Why something that is not allowed is not.
    pub(super) fn denial(&self, access: &Access<'_>) -> Denial {
        match *access {
            Access::DesiredProperties { .. } if !self.desired_properties.is_empty() => {
                Denial::OutsidePointers
            }
            Access::Tags { .. } if !self.tags.is_empty() => Denial::OutsidePointers,
            Access::DirectMethod { name, .. } if self.policies_of(name).next().is_some() => {
                Denial::PayloadPolicy
            }
            _ => Denial::NoGrant,
        }
    }

    /// The policies under which a direct method may be called.
    fn policies_of(&self, method: &str) -> impl Iterator<Item = &PayloadPolicy> {
        let restricted = self.restricted_methods.iter();
        restricted
            .filter(move |(of, _)| of.as_deref().is_none_or(|of| of == method))
            .map(|(_, policy)| policy)
    }

    pub(super) fn contains(&self, grant: &Grant) -> bool {
        match grant {
            Grant::DesiredProperties(parts) => self.desired_properties.contains(parts.as_ref()),
            Grant::Tags(parts) => self.tags.contains(parts.as_ref()),
            Grant::DirectMethod(name, None) => self.direct_methods.contains(name.as_deref()),
            Grant::DirectMethod(name, Some(policy)) => self
                .restricted_methods
                .contains(&(name.clone(), policy.clone())),
            _ => false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.desired_properties.len()
            + self.tags.len()
            + self.direct_methods.len()
            + self.restricted_methods.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
