//! What a session wants to see.

mod telemetry_selection;

use std::borrow::Borrow;
use std::hash::Hash;

pub use self::telemetry_selection::{KeyPattern, TelemetrySelection};
use super::grant::{Access, Grant};
use super::id::TelemetryKey;
use super::small_map::SmallSet;
use super::twin_view::TwinView;

/// One thing that a session wants to see of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// The values of one telemetry key, or of every key.
    Telemetry(Option<TelemetryKey>),
    /// The values of every telemetry key that a pattern matches.
    TelemetryPattern(KeyPattern),
    /// Changes of the twin.
    DeviceTwin,
    /// Changes of the connection state.
    ConnectionState,
    /// Complete bodies of device-to-cloud messages.
    D2cMessages,
}

impl Subscription {
    /// The grant for all that a subscription can show: the narrowest one.
    pub fn needed_grant(&self) -> Grant {
        match self {
            Self::Telemetry(key) => Grant::Telemetry(key.clone()),
            Self::TelemetryPattern(_) => Grant::Telemetry(None),
            Self::DeviceTwin => Grant::DeviceTwin(None),
            Self::ConnectionState => Grant::ConnectionState,
            Self::D2cMessages => Grant::D2cMessages,
        }
    }

    /// What must be granted for a subscription.
    pub fn needed_access(&self) -> Access<'_> {
        match self {
            Self::Telemetry(key) => Access::Telemetry(key.as_ref().map(TelemetryKey::as_str)),
            // Which keys a pattern will match is not known beforehand.
            Self::TelemetryPattern(_) => Access::Telemetry(None),
            Self::DeviceTwin => Access::DeviceTwin,
            Self::ConnectionState => Access::ConnectionState,
            Self::D2cMessages => Access::D2cMessages,
        }
    }
}

/// How telemetry is to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// Shortest time between two updates; what comes faster is merged, the newest value of each key kept. 0 for none.
    pub min_interval_ms: u32,
    /// Whether only values that differ from the one before are wanted.
    pub changes_only: bool,
}

impl Delivery {
    /// Longest interval that can be asked for: a day.
    pub const MIN_INTERVAL_MS_MAX: u32 = 24 * 60 * 60 * 1000;
}

/// What adding a subscription did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was not there before.
    New,
    /// It was there, to be delivered in another way.
    Redirected,
    /// It was there just so.
    Known,
}

/// One part of what there is to see of a device: what an update, or a part of one, is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The value of a telemetry key.
    Key(&'a str),
    /// The twin.
    DeviceTwin,
    /// The connection state.
    ConnectionState,
    /// A device-to-cloud message.
    Message,
}

/// Every name, or some names, or both: asking for all does not forget the names asked for singly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<N: Ord + Hash> {
    /// Whether every name is selected.
    pub all: bool,
    /// The names selected singly.
    pub names: SmallSet<N>,
}

impl<N: Ord + Hash> Default for Selection<N> {
    fn default() -> Self {
        Self {
            all: false,
            names: SmallSet::default(),
        }
    }
}

impl<N: Ord + Hash + Borrow<str>> Selection<N> {
    /// Adds one name, or all with `None`. Returns whether anything changed.
    pub fn insert(&mut self, name: Option<N>) -> bool {
        match name {
            Some(name) => self.names.insert(name, ()).is_none(),
            None => !std::mem::replace(&mut self.all, true),
        }
    }

    /// Takes away one name, or with `None` the selection of all; names selected singly stay. Returns whether
    /// anything changed.
    pub fn remove(&mut self, name: Option<&str>) -> bool {
        match name {
            Some(name) => self.names.remove(name).is_some(),
            None => std::mem::replace(&mut self.all, false),
        }
    }

    /// Whether a name is selected singly or with all; with `None`, whether all are.
    pub fn covers(&self, name: Option<&str>) -> bool {
        self.all || name.is_some_and(|name| self.names.contains_key(name))
    }

    /// Whether exactly this was selected: one name singly, or all with `None`.
    pub fn contains(&self, name: Option<&str>) -> bool {
        match name {
            Some(name) => self.names.contains_key(name),
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
    pub telemetry: TelemetrySelection,
    /// Twin changes, and how much of the twin is shown.
    pub device_twin: Option<TwinView>,
    /// Connection state changes.
    pub connection_state: bool,
    /// Device-to-cloud messages.
    pub d2c_messages: bool,
}

impl DeviceSubscriptions {
    /// Adds one subscription, or changes how it is delivered; only telemetry knows more than one way. Of a twin nothing
    /// is shown until [`see_twin`](Self::see_twin) says how much.
    pub fn insert(&mut self, subscription: Subscription, delivery: Delivery) -> Added {
        let flag = match subscription {
            Subscription::Telemetry(key) => return self.telemetry.insert(key, delivery),
            Subscription::TelemetryPattern(pattern) => {
                return self.telemetry.insert_pattern(pattern, delivery);
            }
            Subscription::DeviceTwin if self.device_twin.is_some() => return Added::Known,
            Subscription::DeviceTwin => {
                self.device_twin = Some(TwinView::default());
                return Added::New;
            }
            Subscription::ConnectionState => &mut self.connection_state,
            Subscription::D2cMessages => &mut self.d2c_messages,
        };
        if std::mem::replace(flag, true) {
            Added::Known
        } else {
            Added::New
        }
    }

    /// Says how much of the twin is shown, if it is subscribed to. Returns whether that changed.
    pub fn see_twin(&mut self, view: TwinView) -> bool {
        self.device_twin
            .as_mut()
            .is_some_and(|seen| std::mem::replace(seen, view) != *seen)
    }

    /// Takes one subscription away. Returns whether it was there.
    pub fn remove(&mut self, subscription: &Subscription) -> bool {
        match subscription {
            Subscription::Telemetry(key) => self
                .telemetry
                .remove(key.as_ref().map(TelemetryKey::as_str)),
            Subscription::TelemetryPattern(pattern) => self.telemetry.remove_pattern(pattern),
            Subscription::DeviceTwin => self.device_twin.take().is_some(),
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
            Subscription::TelemetryPattern(pattern) => self.telemetry.contains_pattern(pattern),
            Subscription::DeviceTwin => self.device_twin.is_some(),
            Subscription::ConnectionState => self.connection_state,
            Subscription::D2cMessages => self.d2c_messages,
        }
    }

    /// Whether any subscription is about a part.
    pub fn covers(&self, part: Part<'_>) -> bool {
        match part {
            Part::Key(key) => self.telemetry.covers(key),
            Part::DeviceTwin => self.device_twin.is_some(),
            Part::ConnectionState => self.connection_state,
            Part::Message => self.d2c_messages,
        }
    }

    /// Every subscription.
    pub fn iter(&self) -> impl Iterator<Item = Subscription> + '_ {
        let flags = [
            (self.device_twin.is_some(), Subscription::DeviceTwin),
            (self.connection_state, Subscription::ConnectionState),
            (self.d2c_messages, Subscription::D2cMessages),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(wanted, subscription)| wanted.then_some(subscription));
        self.telemetry.iter().chain(flags)
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.telemetry.len()
            + usize::from(self.device_twin.is_some())
            + usize::from(self.connection_state)
            + usize::from(self.d2c_messages)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
