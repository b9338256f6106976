//! Who gets which telemetry keys of one device.
//!
//! Sessions that select the same keys share a view, so a message is cut once for each distinct selection, however many
//! sessions there are.

use hashbrown::HashMap;

use super::super::id::{SessionId, TelemetryKey};
use super::super::last_value::{KeySlot, KeyTable};
use super::super::subscription::Selection;
use super::Recipients;

/// The views of one device.
#[derive(Debug)]
pub(super) struct Views<R> {
    views: Vec<View<R>>,
    /// The view that each session is in.
    by_session: HashMap<SessionId, Keys>,
}

/// One distinct selection and the sessions that made it.
#[derive(Debug)]
pub(super) struct View<R> {
    pub(super) keys: Keys,
    pub(super) members: Recipients<R>,
}

/// Which keys a view selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    All,
    /// Sorted.
    Some(std::sync::Arc<[KeySlot]>),
}

impl Keys {
    pub(super) fn contains(&self, slot: Option<KeySlot>) -> bool {
        match self {
            Self::All => true,
            Self::Some(slots) => slot.is_some_and(|slot| slots.binary_search(&slot).is_ok()),
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
    /// Puts a session into the view of its selection, or out of any when it selects nothing.
    pub(super) fn set(
        &mut self,
        session: SessionId,
        recipient: &R,
        selection: &Selection<TelemetryKey>,
        table: &mut KeyTable,
    ) {
        let keys = if selection.all {
            Keys::All
        } else {
            // Held before the old selection is released, so that a slot in both stays the same.
            let mut slots: Vec<_> = selection.names.iter().map(|key| table.hold(key)).collect();
            slots.sort_unstable();
            Keys::Some(slots.into())
        };
        self.remove(session, table);
        if selection.is_empty() {
            return;
        }
        let place = self
            .views
            .iter()
            .position(|view| view.keys == keys)
            .unwrap_or_else(|| {
                self.views.push(View {
                    keys: keys.clone(),
                    members: Recipients::default(),
                });
                self.views.len() - 1
            });
        let view = &mut self.views[place];
        view.members.insert(session, recipient.clone());
        // Sessions of one view share its list of slots.
        self.by_session.insert(session, view.keys.clone());
    }

    /// Takes a session out of its view.
    pub(super) fn remove(&mut self, session: SessionId, table: &mut KeyTable) {
        let Some(keys) = self.by_session.remove(&session) else {
            return;
        };
        if let Some(place) = self.views.iter().position(|view| view.keys == keys) {
            let members = &mut self.views[place].members;
            members.swap_remove(&session);
            if members.is_empty() {
                self.views.swap_remove(place);
            }
        }
        if let Keys::Some(slots) = keys {
            for slot in slots.iter() {
                table.release(*slot);
            }
        }
    }

    /// The recipient of a session that is in a view.
    pub(super) fn recipient(&self, session: SessionId) -> Option<&R> {
        self.views
            .iter()
            .find_map(|view| view.members.get(&session))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &View<R>> {
        self.views.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }
}
