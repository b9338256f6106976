//! What a session may see or do, as a security backend said.

mod actions;
mod extent;

use std::fmt;
use std::sync::Arc;

use self::actions::Actions;
use self::extent::Extent;
use super::id::TelemetryKey;
use super::json_pointer::{Pointer, Pointers};
use super::payload_policy::PayloadPolicy;
use super::subscription::{DeviceSubscriptions, Selection, Subscription};
use super::twin_view::TwinView;

/// Longest name of a direct method in bytes.
pub const METHOD_NAME_BYTES_MAX: usize = 1024;

/// One thing that a session may see of a device, or do with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// See the values of one telemetry key, or of every key.
    Telemetry(Option<TelemetryKey>),
    /// See the twin, or some parts of it; pointers are those into the twin as clients get it.
    DeviceTwin(Option<Pointers>),
    /// See the connection state.
    ConnectionState,
    /// See complete device-to-cloud messages.
    D2cMessages,
    /// Change desired properties, or some of them.
    DesiredProperties(Option<Pointers>),
    /// Change tags of the twin, or some of them.
    Tags(Option<Pointers>),
    /// Call one direct method, or every one, with any payload or with those that a policy allows.
    DirectMethod(Option<Arc<str>>, Option<PayloadPolicy>),
}

/// What a session is about to see or do.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// See the values of one telemetry key, or of every key.
    Telemetry(Option<&'a str>),
    /// See the twin, as far as the session may.
    DeviceTwin,
    /// See the connection state.
    ConnectionState,
    /// See complete device-to-cloud messages.
    D2cMessages,
    /// Change desired properties by a JSON merge patch.
    DesiredProperties {
        /// The patch, a JSON text.
        patch: &'a str,
    },
    /// Change tags by a JSON merge patch.
    Tags {
        /// The patch, a JSON text.
        patch: &'a str,
    },
    /// Call a direct method.
    DirectMethod {
        /// The method.
        name: &'a str,
        /// What it is called with, a JSON text.
        payload: &'a str,
    },
}

/// Why something must not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No grant is for it.
    NoGrant,
    /// Grants are for other parts of the document.
    OutsidePointers,
    /// Grants are for the method, with other payloads.
    PayloadPolicy,
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoGrant => "no grant is for it",
            Self::OutsidePointers => "the patch writes what no pointer of a grant names",
            Self::PayloadPolicy => "no payload policy of a grant allows the payload",
        })
    }
}

/// What one session may see of one device, or do with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceGrants {
    /// Telemetry keys it may see.
    pub telemetry: Selection<TelemetryKey>,
    device_twin: Extent,
    connection_state: bool,
    d2c_messages: bool,
    /// What it may do with the device, if anything: most sessions only look.
    actions: Option<Box<Actions>>,
}

impl DeviceGrants {
    /// Adds a grant. Returns whether it is new.
    pub fn insert(&mut self, grant: Grant) -> bool {
        match grant {
            Grant::Telemetry(key) => self.telemetry.insert(key),
            Grant::DeviceTwin(parts) => self.device_twin.insert(parts),
            Grant::ConnectionState => !std::mem::replace(&mut self.connection_state, true),
            Grant::D2cMessages => !std::mem::replace(&mut self.d2c_messages, true),
            Grant::DesiredProperties(_) | Grant::Tags(_) | Grant::DirectMethod(..) => {
                self.actions.get_or_insert_default().insert(grant)
            }
        }
    }

    /// Takes a grant away, and those that are narrower by what it leaves open: without a key (or method name) also those
    /// for single keys (or methods), without pointers or a policy also those with. "All" means all, so that a revocation
    /// never leaves more open than it says.
    pub fn remove(&mut self, grant: &Grant) {
        match grant {
            Grant::Telemetry(None) => self.telemetry = Selection::default(),
            Grant::DeviceTwin(None) => self.device_twin = Extent::default(),
            Grant::DesiredProperties(_) | Grant::Tags(_) | Grant::DirectMethod(..) => {
                self.change_actions(|actions| actions.remove(grant));
            }
            _ => {
                self.remove_exactly(grant);
            }
        }
    }

    /// Takes away exactly this grant; narrower ones stay as they are. Returns whether it was there.
    pub fn remove_exactly(&mut self, grant: &Grant) -> bool {
        match grant {
            Grant::Telemetry(key) => self
                .telemetry
                .remove(key.as_ref().map(TelemetryKey::as_str)),
            Grant::DeviceTwin(parts) => self.device_twin.remove(parts.as_ref()),
            Grant::ConnectionState => std::mem::take(&mut self.connection_state),
            Grant::D2cMessages => std::mem::take(&mut self.d2c_messages),
            Grant::DesiredProperties(_) | Grant::Tags(_) | Grant::DirectMethod(..) => {
                self.change_actions(|actions| actions.remove_exactly(grant))
            }
        }
    }

    /// Takes something away from what may be done.
    fn change_actions<T: Default>(&mut self, change: impl FnOnce(&mut Actions) -> T) -> T {
        let changed = self.actions.as_deref_mut().map(change);
        self.actions.take_if(|actions| actions.is_empty());
        changed.unwrap_or_default()
    }

    /// Whether something may be seen or done: by a grant for it, or by one for all of its kind.
    pub fn allow(&self, access: &Access<'_>) -> bool {
        match *access {
            Access::Telemetry(key) => self.telemetry.covers(key),
            Access::DeviceTwin => !self.device_twin.is_empty(),
            Access::ConnectionState => self.connection_state,
            Access::D2cMessages => self.d2c_messages,
            Access::DesiredProperties { .. }
            | Access::Tags { .. }
            | Access::DirectMethod { .. } => {
                (self.actions.as_deref()).is_some_and(|actions| actions.allow(access))
            }
        }
    }

    /// Why something must not be seen or done; `None` when it may.
    pub fn deny(&self, access: &Access<'_>) -> Option<Denial> {
        if self.allow(access) {
            return None;
        }
        let denial = (self.actions.as_deref()).map(|actions| actions.denial(access));
        Some(denial.unwrap_or(Denial::NoGrant))
    }

    /// How much of the twin may be seen, if anything.
    pub fn twin_view(&self) -> Option<TwinView> {
        let granted = &self.device_twin;
        if granted.whole {
            Some(TwinView::Whole)
        } else {
            (!granted.is_empty()).then(|| TwinView::Parts(granted.union()))
        }
    }

    /// How much may be seen of the twin that a change made: what may be seen anyway, and what may be changed.
    pub fn view_after(&self, change: &Access<'_>) -> TwinView {
        let seen = self.twin_view().unwrap_or_default();
        let (Some(actions), TwinView::Parts(visible)) = (&self.actions, &seen) else {
            return seen;
        };
        let (changed, at) = match change {
            Access::DesiredProperties { .. } => {
                (&actions.desired_properties, "/properties/desired")
            }
            Access::Tags { .. } => (&actions.tags, "/tags"),
            _ => return seen,
        };
        let section = Pointer::parse(at).expect("it is a pointer");
        let parts = changed.union();
        let below = parts.iter().map(|pointer| section.join(pointer));
        let whole = changed.whole.then(|| section.clone());
        TwinView::Parts(visible.iter().cloned().chain(below).chain(whole).collect())
    }

    /// Whether this very grant is there.
    pub fn contains(&self, grant: &Grant) -> bool {
        match grant {
            Grant::Telemetry(key) => self
                .telemetry
                .contains(key.as_ref().map(TelemetryKey::as_str)),
            Grant::DeviceTwin(parts) => self.device_twin.contains(parts.as_ref()),
            Grant::ConnectionState => self.connection_state,
            Grant::D2cMessages => self.d2c_messages,
            Grant::DesiredProperties(_) | Grant::Tags(_) | Grant::DirectMethod(..) => {
                (self.actions.as_deref()).is_some_and(|actions| actions.contains(grant))
            }
        }
    }

    /// Takes away and returns the subscriptions that these grants do not cover.
    pub fn restrict(&self, subscriptions: &mut DeviceSubscriptions) -> Vec<Subscription> {
        let uncovered: Vec<_> = subscriptions
            .iter()
            .filter(|subscription| !self.allow(&subscription.needed_access()))
            .collect();
        for subscription in &uncovered {
            subscriptions.remove(subscription);
        }
        uncovered
    }

    /// How many grants there are.
    pub fn len(&self) -> usize {
        self.telemetry.len()
            + self.device_twin.len()
            + usize::from(self.connection_state)
            + usize::from(self.d2c_messages)
            + self.actions.as_deref().map_or(0, Actions::len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_pointer::tests::pointers;
    use super::super::payload_policy::{Condition, Scalar, Test};
    use super::*;

    fn key(name: &str) -> Option<TelemetryKey> {
        TelemetryKey::new(name)
    }

    fn grants(all: impl IntoIterator<Item = Grant>) -> DeviceGrants {
        let mut grants = DeviceGrants::default();
        for grant in all {
            grants.insert(grant);
        }
        grants
    }

    /// The payload must be this JSON value.
    fn only(json: &str) -> PayloadPolicy {
        let condition = Condition {
            pointer: Pointer::parse("").unwrap(),
            test: Test::Equals(Scalar::parse(json).unwrap()),
        };
        PayloadPolicy::new(vec![condition]).unwrap()
    }

    fn call<'a>(name: &'a str, payload: &'a str) -> Access<'a> {
        Access::DirectMethod { name, payload }
    }

    #[test]
    fn a_grant_for_all_keys_covers_each_and_one_for_a_key_only_itself() {
        let mut grants = grants([Grant::Telemetry(key("t"))]);
        assert!(grants.allow(&Access::Telemetry(Some("t"))));
        assert!(!grants.allow(&Access::Telemetry(Some("u"))));
        assert!(!grants.allow(&Access::Telemetry(None)));
        grants.insert(Grant::Telemetry(None));
        assert!(grants.allow(&Access::Telemetry(Some("u"))));
        assert!(grants.allow(&Access::Telemetry(None)));
    }

    #[test]
    fn no_kind_of_grant_covers_another() {
        let kinds = [
            (Grant::Telemetry(None), Access::Telemetry(None)),
            (Grant::DeviceTwin(None), Access::DeviceTwin),
            (Grant::ConnectionState, Access::ConnectionState),
            (Grant::D2cMessages, Access::D2cMessages),
            (
                Grant::DesiredProperties(None),
                Access::DesiredProperties { patch: "{}" },
            ),
            (Grant::Tags(None), Access::Tags { patch: "{}" }),
            (Grant::DirectMethod(None, None), call("m", "null")),
        ];
        for (granted, of_it) in &kinds {
            let grants = grants([granted.clone()]);
            for (_, access) in &kinds {
                let same = std::mem::discriminant(access) == std::mem::discriminant(of_it);
                assert_eq!(grants.allow(access), same, "{granted:?} for {access:?}");
            }
        }
    }

    #[test]
    fn revoking_all_revokes_what_is_narrower_too() {
        let parts = Some(pointers(&["/a"]));
        let mut grants = grants([
            Grant::Telemetry(key("t")),
            Grant::DirectMethod(Some("m".into()), None),
            Grant::DirectMethod(Some("m".into()), Some(only("1"))),
            Grant::DirectMethod(None, Some(only("1"))),
            Grant::DeviceTwin(parts.clone()),
            Grant::DesiredProperties(parts.clone()),
            Grant::Tags(parts),
        ]);
        assert_eq!(grants.len(), 7);
        for all in [
            Grant::Telemetry(None),
            Grant::DirectMethod(None, None),
            Grant::DeviceTwin(None),
            Grant::DesiredProperties(None),
            Grant::Tags(None),
        ] {
            grants.remove(&all);
        }
        assert!(grants.is_empty());
    }

    #[test]
    fn revoking_what_is_narrow_leaves_a_grant_for_all_as_it_is() {
        let parts = Some(pointers(&["/a"]));
        let mut grants = grants([
            Grant::Telemetry(None),
            Grant::Telemetry(key("t")),
            Grant::DeviceTwin(None),
            Grant::DeviceTwin(parts.clone()),
        ]);
        grants.remove(&Grant::Telemetry(key("t")));
        grants.remove(&Grant::DeviceTwin(parts));
        assert!(grants.allow(&Access::Telemetry(Some("t"))));
        assert_eq!(grants.twin_view(), Some(TwinView::Whole));
        assert_eq!(grants.len(), 2);
    }

    #[test]
    fn one_methods_revocation_takes_its_policies_and_no_other_methods() {
        let mut grants = grants([
            Grant::DirectMethod(Some("m".into()), Some(only("1"))),
            Grant::DirectMethod(Some("n".into()), Some(only("1"))),
            Grant::DirectMethod(Some("n".into()), Some(only("2"))),
        ]);
        grants.remove(&Grant::DirectMethod(Some("m".into()), None));
        assert!(!grants.allow(&call("m", "1")));
        grants.remove(&Grant::DirectMethod(Some("n".into()), Some(only("1"))));
        assert!(!grants.allow(&call("n", "1")));
        assert!(grants.allow(&call("n", "2")));
    }

    #[test]
    fn a_denial_says_whether_a_grant_was_too_narrow() {
        let some = Some(pointers(&["/a"]));
        let narrow = grants([
            Grant::DesiredProperties(some.clone()),
            Grant::DirectMethod(Some("m".into()), Some(only("1"))),
        ]);
        let patch = Access::DesiredProperties {
            patch: r#"{"b":1}"#,
        };
        assert_eq!(narrow.deny(&patch), Some(Denial::OutsidePointers));
        assert_eq!(narrow.deny(&call("m", "2")), Some(Denial::PayloadPolicy));
        assert_eq!(narrow.deny(&call("m", "1")), None);
        assert_eq!(narrow.deny(&call("n", "1")), Some(Denial::NoGrant));
        assert_eq!(
            narrow.deny(&Access::Tags { patch: "{}" }),
            Some(Denial::NoGrant)
        );
        assert_eq!(narrow.deny(&Access::DeviceTwin), Some(Denial::NoGrant));
    }

    #[test]
    fn any_of_several_policies_suffices() {
        let grants = grants([
            Grant::DirectMethod(Some("m".into()), Some(only("1"))),
            Grant::DirectMethod(Some("m".into()), Some(only("2"))),
            Grant::DirectMethod(None, Some(only("3"))),
        ]);
        for (name, payload, allowed) in [
            ("m", "1", true),
            ("m", "2", true),
            ("m", "3", true),
            ("m", "4", false),
            ("n", "1", false),
            ("n", "3", true),
        ] {
            assert_eq!(
                grants.allow(&call(name, payload)),
                allowed,
                "{name}({payload})"
            );
        }
    }

    #[test]
    fn a_change_shows_no_part_that_is_neither_seen_nor_changed() {
        let desired = Access::DesiredProperties { patch: "{}" };
        let tags = Access::Tags { patch: "{}" };
        let only = |parts: &[&str]| TwinView::Parts(pointers(parts));
        let mut grants = grants([Grant::DesiredProperties(None), Grant::Tags(None)]);
        assert_eq!(grants.view_after(&desired), only(&["/properties/desired"]));
        assert_eq!(grants.view_after(&tags), only(&["/tags"]));
        let reported = "/properties/reported/a";
        grants.insert(Grant::DeviceTwin(Some(pointers(&[reported]))));
        assert_eq!(
            grants.view_after(&desired),
            only(&["/properties/desired", reported])
        );
        assert_eq!(grants.view_after(&tags), only(&[reported, "/tags"]));
        grants.insert(Grant::DeviceTwin(None));
        assert_eq!(grants.view_after(&desired), TwinView::Whole);
        assert_eq!(grants.view_after(&tags), TwinView::Whole);
        assert_eq!(
            DeviceGrants::default().view_after(&desired),
            TwinView::default(),
            "of what is granted no more"
        );
    }

    #[test]
    fn parts_of_several_grants_add_up() {
        let of = |text| Some(pointers(&[text]));
        let mut grants = grants([
            Grant::DesiredProperties(of("/a")),
            Grant::DesiredProperties(of("/b")),
            Grant::DeviceTwin(of("/tags/a")),
            Grant::DeviceTwin(of("/tags/b")),
        ]);
        let patch = r#"{"a":1,"b":2}"#;
        assert!(grants.allow(&Access::DesiredProperties { patch }));
        assert!(!grants.allow(&Access::Tags { patch }));
        let both = TwinView::Parts(pointers(&["/tags/a", "/tags/b"]));
        assert_eq!(grants.twin_view(), Some(both));
        let after_patch = TwinView::Parts(pointers(&[
            "/properties/desired/a",
            "/properties/desired/b",
            "/tags/a",
            "/tags/b",
        ]));
        assert_eq!(
            grants.view_after(&Access::DesiredProperties { patch }),
            after_patch
        );
        grants.insert(Grant::DesiredProperties(None));
        assert_eq!(
            grants.view_after(&Access::DesiredProperties { patch }),
            TwinView::Parts(pointers(&["/properties/desired", "/tags/a", "/tags/b"]))
        );
        grants.remove(&Grant::DeviceTwin(of("/tags/b")));
        let one = TwinView::Parts(pointers(&["/tags/a"]));
        assert_eq!(grants.twin_view(), Some(one));
    }
}
