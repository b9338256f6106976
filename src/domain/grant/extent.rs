//! How much of a JSON document is granted.

use std::collections::BTreeSet;

use crate::domain::json_pointer::{Pointer, Pointers};

/// How much of a document is granted: all of it, some parts, or both, each revocable by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) whole: bool,
    parts: BTreeSet<Pointers>,
}

impl Extent {
    pub(super) fn insert(&mut self, parts: Option<Pointers>) -> bool {
        match parts {
            None => !std::mem::replace(&mut self.whole, true),
            Some(parts) => self.parts.insert(parts),
        }
    }

    pub(super) fn remove(&mut self, parts: Option<&Pointers>) -> bool {
        match parts {
            None => std::mem::take(&mut self.whole),
            Some(parts) => self.parts.remove(parts),
        }
    }

    pub(super) fn contains(&self, parts: Option<&Pointers>) -> bool {
        match parts {
            None => self.whole,
            Some(parts) => self.parts.contains(parts),
        }
    }

    pub(super) fn allow_patch(&self, patch: &str) -> bool {
        self.whole || (!self.parts.is_empty() && self.union().allow_patch(patch))
    }

    /// What the parts name together.
    pub(super) fn union(&self) -> Pointers {
        let pointers = self.parts.iter().flat_map(Pointers::iter);
        pointers
            .cloned()
            .collect::<Vec<Pointer>>()
            .into_iter()
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len() + usize::from(self.whole)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
