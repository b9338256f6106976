//! What a session may see or do, as a security backend said.

use std::sync::Arc;

use super::id::TelemetryKey;
use super::subscription::{DeviceSubscriptions, Selection, Subscription};

/// Longest name of a direct method in bytes.
pub const METHOD_NAME_BYTES_MAX: usize = 1024;

/// One thing that a session may see of a device, or do with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// See the values of one telemetry key, or of every key.
    Telemetry(Option<TelemetryKey>),
    /// See the twin.
    DeviceTwin,
    /// See the connection state.
    ConnectionState,
    /// See complete device-to-cloud messages.
    D2cMessages,
    /// Change desired properties.
    DesiredProperties,
    /// Call one direct method, or every one.
    DirectMethod(Option<Arc<str>>),
}

/// What one session may see of one device, or do with it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "kinds of grant are independent of each other; each is there or not"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceGrants {
    /// Telemetry keys it may see.
    pub telemetry: Selection<TelemetryKey>,
    /// Whether it may see the twin.
    pub device_twin: bool,
    /// Whether it may see the connection state.
    pub connection_state: bool,
    /// Whether it may see device-to-cloud messages.
    pub d2c_messages: bool,
    /// Whether it may change desired properties.
    pub desired_properties: bool,
    /// Direct methods it may call.
    pub direct_methods: Selection<Arc<str>>,
}

impl DeviceGrants {
    /// Adds a grant. Returns whether it is new.
    pub fn insert(&mut self, grant: Grant) -> bool {
        match grant {
            Grant::Telemetry(key) => self.telemetry.insert(key),
            Grant::DeviceTwin => !std::mem::replace(&mut self.device_twin, true),
            Grant::ConnectionState => !std::mem::replace(&mut self.connection_state, true),
            Grant::D2cMessages => !std::mem::replace(&mut self.d2c_messages, true),
            Grant::DesiredProperties => !std::mem::replace(&mut self.desired_properties, true),
            Grant::DirectMethod(name) => self.direct_methods.insert(name),
        }
    }

    /// Takes a grant away. Without a key (or method name) it also takes away those for single keys (or methods):
    /// "all" means all, so that a revocation never leaves more open than it says.
    pub fn remove(&mut self, grant: &Grant) {
        match grant {
            Grant::Telemetry(None) => self.telemetry = Selection::default(),
            Grant::Telemetry(Some(key)) => {
                self.telemetry.remove(Some(key.as_str()));
            }
            Grant::DeviceTwin => self.device_twin = false,
            Grant::ConnectionState => self.connection_state = false,
            Grant::D2cMessages => self.d2c_messages = false,
            Grant::DesiredProperties => self.desired_properties = false,
            Grant::DirectMethod(None) => self.direct_methods = Selection::default(),
            Grant::DirectMethod(Some(name)) => {
                self.direct_methods.remove(Some(name));
            }
        }
    }

    /// Takes away exactly this grant; one for all leaves those for single keys (or methods) as they are. Returns
    /// whether it was there.
    pub fn remove_exactly(&mut self, grant: &Grant) -> bool {
        match grant {
            Grant::Telemetry(key) => self
                .telemetry
                .remove(key.as_ref().map(TelemetryKey::as_str)),
            Grant::DirectMethod(name) => self.direct_methods.remove(name.as_deref()),
            Grant::DeviceTwin => std::mem::take(&mut self.device_twin),
            Grant::ConnectionState => std::mem::take(&mut self.connection_state),
            Grant::D2cMessages => std::mem::take(&mut self.d2c_messages),
            Grant::DesiredProperties => std::mem::take(&mut self.desired_properties),
        }
    }

    /// Whether what `needed` allows is allowed: by a grant for the key or method, or by one for all.
    pub fn covers(&self, needed: &Grant) -> bool {
        match needed {
            Grant::Telemetry(key) => self
                .telemetry
                .covers(key.as_ref().map(TelemetryKey::as_str)),
            Grant::DeviceTwin => self.device_twin,
            Grant::ConnectionState => self.connection_state,
            Grant::D2cMessages => self.d2c_messages,
            Grant::DesiredProperties => self.desired_properties,
            Grant::DirectMethod(name) => self.direct_methods.covers(name.as_deref()),
        }
    }

    /// Whether this very grant is there.
    pub fn contains(&self, grant: &Grant) -> bool {
        match grant {
            Grant::Telemetry(key) => self
                .telemetry
                .contains(key.as_ref().map(TelemetryKey::as_str)),
            Grant::DirectMethod(name) => self.direct_methods.contains(name.as_deref()),
            Grant::DeviceTwin
            | Grant::ConnectionState
            | Grant::D2cMessages
            | Grant::DesiredProperties => self.covers(grant),
        }
    }

    /// Takes away and returns the subscriptions that these grants do not cover.
    pub fn restrict(&self, subscriptions: &mut DeviceSubscriptions) -> Vec<Subscription> {
        let uncovered: Vec<_> = subscriptions
            .iter()
            .filter(|subscription| !self.covers(&subscription.needed_grant()))
            .collect();
        for subscription in &uncovered {
            subscriptions.remove(subscription);
        }
        uncovered
    }

    /// How many grants there are.
    pub fn len(&self) -> usize {
        self.telemetry.len()
            + self.direct_methods.len()
            + [
                self.device_twin,
                self.connection_state,
                self.d2c_messages,
                self.desired_properties,
            ]
            .into_iter()
            .filter(|granted| *granted)
            .count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Option<TelemetryKey> {
        TelemetryKey::new(name)
    }

    #[test]
    fn a_grant_for_all_keys_covers_each_and_one_for_a_key_only_itself() {
        let mut grants = DeviceGrants::default();
        grants.insert(Grant::Telemetry(key("t")));
        assert!(grants.covers(&Grant::Telemetry(key("t"))));
        assert!(!grants.covers(&Grant::Telemetry(key("u"))));
        assert!(!grants.covers(&Grant::Telemetry(None)));
        grants.insert(Grant::Telemetry(None));
        assert!(grants.covers(&Grant::Telemetry(key("u"))));
        assert!(grants.covers(&Grant::Telemetry(None)));
    }

    #[test]
    fn no_kind_of_grant_covers_another() {
        let kinds = [
            Grant::Telemetry(None),
            Grant::DeviceTwin,
            Grant::ConnectionState,
            Grant::D2cMessages,
            Grant::DesiredProperties,
            Grant::DirectMethod(None),
        ];
        for granted in &kinds {
            let mut grants = DeviceGrants::default();
            grants.insert(granted.clone());
            for needed in &kinds {
                assert_eq!(
                    grants.covers(needed),
                    needed == granted,
                    "{granted:?} for {needed:?}"
                );
            }
        }
    }

    #[test]
    fn revoking_all_keys_revokes_single_ones_too() {
        let mut grants = DeviceGrants::default();
        grants.insert(Grant::Telemetry(key("t")));
        grants.insert(Grant::DirectMethod(Some("m".into())));
        grants.remove(&Grant::Telemetry(None));
        grants.remove(&Grant::DirectMethod(None));
        assert!(grants.is_empty());
    }

    #[test]
    fn revoking_a_key_leaves_a_grant_for_all_as_it_is() {
        let mut grants = DeviceGrants::default();
        grants.insert(Grant::Telemetry(None));
        grants.insert(Grant::Telemetry(key("t")));
        grants.remove(&Grant::Telemetry(key("t")));
        assert!(grants.covers(&Grant::Telemetry(key("t"))));
    }
}
