//! Who gets which telemetry keys of one device, and how.
//!
//! Sessions that select the same keys, to be delivered in the same way, share a view, so a message is cut once for each
//! distinct selection, however many sessions there are. A session that wants different keys delivered in different ways
//! is in several views; no key is in more than one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::super::id::SessionId;
use super::super::last_value::{KeySlot, KeyTable, Recorded};
use super::super::raw_json::offset;
use super::super::shape::Shape;
use super::super::subscription::{Delivery, TelemetrySelection};
use super::super::telemetry::Telemetry;
use super::Recipients;

/// The views of one device.
#[derive(Debug)]
pub(super) struct Views<R> {
    views: Vec<View<R>>,
    /// The views that each session is in. Mostly one.
    by_session: HashMap<SessionId, SmallVec<[Place; 1]>>,
}

/// One distinct selection and the sessions that made it.
#[derive(Debug)]
pub(super) struct View<R> {
    pub(super) place: Place,
    pub(super) members: Recipients<R>,
    /// How the message before was cut; mostly the next one has the same shape.
    cut: Option<Cut>,
}

/// Which members of messages of a shape are in a view. This never changes: it depends on keys alone, and a view that
/// selects by slots holds them.
#[derive(Debug)]
struct Cut {
    shape: Arc<Shape>,
    members: SmallVec<[u32; 2]>,
}

impl<R> View<R> {
    /// What the view gets of a message, if anything.
    pub(super) fn select(&mut self, recorded: &Recorded<'_>) -> Option<Telemetry> {
        let telemetry = recorded.telemetry();
        let changes_only = self.place.delivery.changes_only;
        if self.place.keys == Keys::All && !changes_only {
            return Some(telemetry.clone()).filter(|telemetry| !telemetry.is_empty());
        }
        let wanted = |member: &usize| !changes_only || recorded.may_have_changed(*member);
        let place = &self.place;
        let contains =
            |member: &usize| place.contains(recorded.slot(*member), || telemetry.key(*member));
        let Some(shape) = telemetry.whole_shape() else {
            return telemetry.select((0..telemetry.len()).filter(contains).filter(wanted));
        };
        let cut = match &mut self.cut {
            Some(cut) if Arc::ptr_eq(&cut.shape, shape) => cut,
            cut => {
                let members = (0..telemetry.len()).filter(contains);
                cut.insert(Cut {
                    shape: shape.clone(),
                    members: members.map(offset).collect(),
                })
            }
        };
        if !changes_only && cut.members.len() == telemetry.len() {
            return Some(telemetry.clone()).filter(|telemetry| !telemetry.is_empty());
        }
        let members = cut.members.iter().map(|member| *member as usize);
        telemetry.select(members.filter(wanted))
    }
}

/// What tells a view apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) keys: Keys,
    pub(super) delivery: Delivery,
}

/// Which keys a view selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    /// Sorted.
    Some(Arc<[KeySlot]>),
    /// Those that the selection delivers in the way of the view: it has patterns, or several ways.
    Chosen(Arc<TelemetrySelection>),
}

impl Place {
    /// Whether a key, which has this slot if any, is in the view.
    pub(super) fn contains<'a>(
        &self,
        slot: Option<KeySlot>,
        key: impl FnOnce() -> &'a str,
    ) -> bool {
        match &self.keys {
            Keys::All => true,
            Keys::Some(slots) => slot.is_some_and(|slot| slots.binary_search(&slot).is_ok()),
            Keys::Chosen(selection) => selection.delivery_of(key()) == Some(self.delivery),
        }
    }
}

impl<R> Default for Views<R> {
    fn default() -> Self {
        Self {
            views: Vec::new(),
            by_session: HashMap::new(),
        }
    }
}

impl<R: Clone> Views<R> {
    /// Puts a session into the views of its selection, or out of any when it selects nothing.
    pub(super) fn set(
        &mut self,
        session: SessionId,
        recipient: &R,
        selection: &TelemetrySelection,
        table: &mut KeyTable,
    ) {
        // Held before the old selection is released, so that a slot in both stays the same.
        let places = places(selection, table);
        self.remove(session, table);
        if places.is_empty() {
            return;
        }
        let mut shared = SmallVec::with_capacity(places.len());
        for place in places {
            let known = self.views.iter().position(|view| view.place == place);
            let known = known.unwrap_or_else(|| {
                self.views.push(View {
                    place,
                    members: Recipients::default(),
                    cut: None,
                });
                self.views.len() - 1
            });
            let view = &mut self.views[known];
            view.members.insert(session, recipient.clone());
            // Sessions of one view share its list of slots.
            shared.push(view.place.clone());
        }
        self.by_session.insert(session, shared);
    }

    /// Takes a session out of its views.
    fn remove(&mut self, session: SessionId, table: &mut KeyTable) {
        for place in self.by_session.remove(&session).unwrap_or_default() {
            if let Some(known) = self.views.iter().position(|view| view.place == place) {
                let members = &mut self.views[known].members;
                members.swap_remove(&session);
                if members.is_empty() {
                    self.views.swap_remove(known);
                }
            }
            if let Keys::Some(slots) = place.keys {
                for slot in slots.iter() {
                    table.release(*slot);
                }
            }
        }
    }

    /// The recipient of a session that is in a view.
    pub(super) fn recipient(&self, session: SessionId) -> Option<&R> {
        self.views
            .iter()
            .find_map(|view| view.members.get(&session))
    }

    /// Of the first few views the first recipients: mostly all that there are.
    pub(super) fn first_recipients(&self) -> impl Iterator<Item = &R> {
        let views = self.views.iter().take(4);
        views.flat_map(|view| view.members.values().take(2))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut View<R>> {
        self.views.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }
}

/// The views that a selection needs. Holds the keys that are selected by their slots.
fn places(selection: &TelemetrySelection, table: &mut KeyTable) -> SmallVec<[Place; 1]> {
    let mut ways = selection.ways();
    if let (Some(delivery), None, true) = (ways.next(), ways.next(), selection.is_all()) {
        let keys = Keys::All;
        return [Place { keys, delivery }].into_iter().collect();
    }
    let mut named: BTreeMap<Delivery, Vec<KeySlot>> = BTreeMap::new();
    let mut open: SmallVec<[Delivery; 2]> = selection.open_deliveries().collect();
    open.sort_unstable();
    open.dedup();
    for (key, delivery) in selection.names() {
        if !open.contains(&delivery) {
            named.entry(delivery).or_default().push(table.hold(key));
        }
    }
    let by_slots = named.into_iter().map(|(delivery, mut slots)| {
        slots.sort_unstable();
        let keys = Keys::Some(slots.into());
        Place { keys, delivery }
    });
    let selection = (!open.is_empty()).then(|| Arc::new(selection.clone()));
    let by_choice = selection.into_iter().flat_map(|selection| {
        let keys = Keys::Chosen(selection);
        open.iter().map(move |delivery| Place {
            keys: keys.clone(),
            delivery: *delivery,
        })
    });
    by_slots.chain(by_choice).collect()
}
