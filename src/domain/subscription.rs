//! What a session wants to see.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use super::grant::Grant;
use super::id::TelemetryKey;

/// One thing that a session wants to see of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// The values of one telemetry key, or of every key.
    Telemetry(Option<TelemetryKey>),
    /// Changes of the twin.
    DeviceTwin,
    /// Changes of the connection state.
    ConnectionState,
    /// Complete bodies of device-to-cloud messages.
    D2cMessages,
}

impl Subscription {
    /// The grant that a subscription asks for: the narrowest one that covers it.
    pub fn needed_grant(&self) -> Grant {
        match self {
            Self::Telemetry(key) => Grant::Telemetry(key.clone()),
            Self::DeviceTwin => Grant::DeviceTwin,
            Self::ConnectionState => Grant::ConnectionState,
            Self::D2cMessages => Grant::D2cMessages,
        }
    }
}

/// Every name, or some names, or both: asking for all does not forget the names asked for singly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<N> {
    /// Whether every name is selected.
    pub all: bool,
    /// The names selected singly.
    pub names: BTreeSet<N>,
}

impl<N> Default for Selection<N> {
    fn default() -> Self {
        Self {
            all: false,
            names: BTreeSet::new(),
        }
    }
}

impl<N: Ord + Borrow<str>> Selection<N> {
    /// Adds one name, or all with `None`. Returns whether anything changed.
    pub fn insert(&mut self, name: Option<N>) -> bool {
        match name {
            Some(name) => self.names.insert(name),
            None => !std::mem::replace(&mut self.all, true),
        }
    }

    /// Takes away one name, or with `None` the selection of all; names selected singly stay. Returns whether
    /// anything changed.
    pub fn remove(&mut self, name: Option<&str>) -> bool {
        match name {
            Some(name) => self.names.remove(name),
            None => std::mem::replace(&mut self.all, false),
        }
    }

    /// Whether a name is selected singly or with all; with `None`, whether all are.
    pub fn covers(&self, name: Option<&str>) -> bool {
        self.all || name.is_some_and(|name| self.names.contains(name))
    }

    /// Whether exactly this was selected: one name singly, or all with `None`.
    pub fn contains(&self, name: Option<&str>) -> bool {
        match name {
            Some(name) => self.names.contains(name),
            None => self.all,
        }
    }

    /// How many selections there are.
    pub fn len(&self) -> usize {
        self.names.len() + usize::from(self.all)
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty()
    }
}

/// What one session wants to see of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSubscriptions {
    /// Telemetry keys.
    pub telemetry: Selection<TelemetryKey>,
    /// Twin changes.
    pub device_twin: bool,
    /// Connection state changes.
    pub connection_state: bool,
    /// Device-to-cloud messages.
    pub d2c_messages: bool,
}

impl DeviceSubscriptions {
    /// Adds one subscription. Returns whether it is new.
    pub fn insert(&mut self, subscription: Subscription) -> bool {
        match subscription {
            Subscription::Telemetry(key) => self.telemetry.insert(key),
            Subscription::DeviceTwin => !std::mem::replace(&mut self.device_twin, true),
            Subscription::ConnectionState => !std::mem::replace(&mut self.connection_state, true),
            Subscription::D2cMessages => !std::mem::replace(&mut self.d2c_messages, true),
        }
    }

    /// Takes one subscription away. Returns whether it was there.
    pub fn remove(&mut self, subscription: &Subscription) -> bool {
        match subscription {
            Subscription::Telemetry(key) => self
                .telemetry
                .remove(key.as_ref().map(TelemetryKey::as_str)),
            Subscription::DeviceTwin => std::mem::take(&mut self.device_twin),
            Subscription::ConnectionState => std::mem::take(&mut self.connection_state),
            Subscription::D2cMessages => std::mem::take(&mut self.d2c_messages),
        }
    }

    /// Whether this very subscription is there.
    pub fn contains(&self, subscription: &Subscription) -> bool {
        match subscription {
            Subscription::Telemetry(key) => self
                .telemetry
                .contains(key.as_ref().map(TelemetryKey::as_str)),
            Subscription::DeviceTwin => self.device_twin,
            Subscription::ConnectionState => self.connection_state,
            Subscription::D2cMessages => self.d2c_messages,
        }
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.telemetry.len()
            + usize::from(self.device_twin)
            + usize::from(self.connection_state)
            + usize::from(self.d2c_messages)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
