//! Which sessions existed and are over: their ids are refused in another way than ids that nobody ever issued.

use std::collections::{HashSet, VecDeque};

use super::id::SessionId;

/// How long a retired id is remembered.
pub const TOMBSTONE_TTL_MS: u64 = 24 * 60 * 60 * 1000;

/// Ids of retired sessions, within a bound; when full, the oldest is forgotten.
#[derive(Debug)]
pub struct Tombstones {
    ids: HashSet<SessionId>,
    by_age: VecDeque<(u64, SessionId)>,
    entries_max: usize,
}

impl Tombstones {
    /// Remembers at most `entries_max` ids.
    pub fn new(entries_max: usize) -> Self {
        Self {
            ids: HashSet::new(),
            by_age: VecDeque::new(),
            entries_max,
        }
    }

    /// Notes that a session was retired.
    pub fn insert(&mut self, id: SessionId, now_ms: u64) {
        while self.by_age.front().is_some_and(|(retired_at_ms, _)| {
            self.by_age.len() >= self.entries_max
                || now_ms.saturating_sub(*retired_at_ms) >= TOMBSTONE_TTL_MS
        }) {
            if let Some((_, oldest)) = self.by_age.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        if self.ids.insert(id) {
            self.by_age.push_back((now_ms, id));
        }
    }

    /// Whether the session is remembered as retired.
    pub fn contains(&self, id: SessionId) -> bool {
        self.ids.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_when_full_or_old() {
        let ids: Vec<_> = (0..4)
            .map(|number| SessionId::issue(number, [0; 10]))
            .collect();
        let mut tombstones = Tombstones::new(2);
        tombstones.insert(ids[0], 0);
        tombstones.insert(ids[1], 1);
        tombstones.insert(ids[2], 2);
        assert_eq!(
            ids.iter()
                .map(|id| tombstones.contains(*id))
                .collect::<Vec<_>>(),
            [false, true, true, false]
        );
        tombstones.insert(ids[3], 2 + TOMBSTONE_TTL_MS);
        assert_eq!(
            ids.iter()
                .map(|id| tombstones.contains(*id))
                .collect::<Vec<_>>(),
            [false, false, false, true]
        );
    }
}
