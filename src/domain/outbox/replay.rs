//! What left an outbox lately, by number, so that a client that comes back can be sent what it missed.
//!
//! Guarantees: what is sent again is all that left after the client's number, in order, but for what the client must not
//! see any more; when some of it has been forgotten, nothing is.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cut_update;
use crate::domain::limits::OutboxLimits;
use crate::domain::update::Update;

/// What left an outbox lately.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The number of the last update that left.
    sequence: u64,
    /// All that left after this number is remembered.
    remembers_after: u64,
    /// In the order of their numbers.
    updates: VecDeque<(u64, Arc<Update>)>,
    bytes: usize,
}

impl Replay {
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn remembers_after(&self) -> u64 {
        self.remembers_after
    }

    /// Numbers an update that leaves, and forgets the oldest ones that are over the bound.
    pub(super) fn left(&mut self, update: &Arc<Update>, limits: &OutboxLimits) {
        self.sequence += 1;
        self.bytes += update.bytes();
        self.updates.push_back((self.sequence, update.clone()));
        while self.updates.len() > limits.replay_frames_max || self.bytes > limits.replay_bytes_max
        {
            let Some((number, oldest)) = self.updates.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes();
            self.remembers_after = number;
        }
    }

    /// Goes back to the moment when the update with this number had left. Returns those that left after it; `None` when
    /// they are not all remembered, or when there is no such number yet.
    pub(super) fn rewind(&mut self, sequence: u64) -> Option<Vec<Arc<Update>>> {
        if sequence < self.remembers_after || sequence > self.sequence {
            return None;
        }
        let place = self
            .updates
            .partition_point(|(number, _)| *number <= sequence);
        let missed: Vec<_> = self
            .updates
            .drain(place..)
            .map(|(_, update)| update)
            .collect();
        self.bytes -= missed.iter().map(|update| update.bytes()).sum::<usize>();
        self.sequence = sequence;
        Some(missed)
    }

    /// Replaces each update by what `cut` leaves of it.
    pub(super) fn cut(&mut self, cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>) {
        let bytes = &mut self.bytes;
        self.updates
            .retain_mut(|(_, update)| cut_update(update, bytes, &cut));
    }
}
