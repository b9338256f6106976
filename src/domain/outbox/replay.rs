//! What left an outbox lately, by number, so that a client that comes back can be sent what it missed.
//!
//! Guarantees: what is sent again is all that left after the client's number, in order, but for what the client must not
//! see any more; when some of it has been forgotten, nothing is.

mod record;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::limits::OutboxLimits;
use crate::domain::raw_json::offset;
use crate::domain::update::{Update, UpdateBody};

/// What left an outbox lately.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The number of the last update that left.
    sequence: u64,
    /// All that left after this number is remembered.
    remembers_after: u64,
    /// In the order of their numbers.
    updates: VecDeque<(u64, Kept)>,
    /// The records of those that are kept as such, one behind the other.
    records: VecDeque<u8>,
    /// What the bound is held against.
    bytes: usize,
}

/// For so many clients, records take about as much memory as the update that they would share.
const FEW: usize = 4;

/// An update that left.
///
/// One that hardly anybody else has is written down and let go of. There are hundreds for each client, all over the memory by the
/// time that they are forgotten: to go back to each of them then costs more than everything else that is done for an
/// update, and a record is never looked at again unless its client comes back.
#[derive(Debug)]
enum Kept {
    Shared(Arc<Update>),
    Record {
        record_bytes: u32,
        /// Those of the update.
        bytes: u32,
    },
}

impl Kept {
    /// Appends to `records` if the update becomes one.
    fn new(update: &Arc<Update>, records: &mut Vec<u8>) -> Self {
        match &update.body {
            UpdateBody::Telemetry(telemetry) if Arc::strong_count(update) <= FEW => {
                let start = records.len();
                record::write(update, telemetry, records);
                Self::Record {
                    record_bytes: offset(records.len() - start),
                    bytes: offset(update.bytes()),
                }
            }
            _ => Self::Shared(update.clone()),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Shared(update) => update.bytes(),
            Self::Record { bytes, .. } => *bytes as usize,
        }
    }

    fn record_bytes(&self) -> usize {
        match self {
            Self::Shared(_) => 0,
            Self::Record { record_bytes, .. } => *record_bytes as usize,
        }
    }
}

impl Replay {
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn remembers_after(&self) -> u64 {
        self.remembers_after
    }

    /// Numbers updates that leave, and forgets the oldest ones that are over the bound.
    pub(super) fn left(&mut self, updates: &[Arc<Update>], limits: &OutboxLimits) {
        let over = updates.len().saturating_sub(limits.replay_frames_max);
        let (over, updates) = updates.split_at(over);
        if !over.is_empty() {
            *self = Self {
                sequence: self.sequence + over.len() as u64,
                remembers_after: self.sequence + over.len() as u64,
                ..Self::default()
            };
        }
        self.forget(|replay| replay.updates.len() + updates.len() > limits.replay_frames_max);
        let mut records = Vec::with_capacity(Update::bytes_of_all(updates));
        for update in updates {
            self.sequence += 1;
            self.remember(self.sequence, update, &mut records);
        }
        self.records.extend(&records);
        self.forget(|replay| replay.bytes > limits.replay_bytes_max);
    }

    /// The caller adds what is appended to `records`.
    fn remember(&mut self, number: u64, update: &Arc<Update>, records: &mut Vec<u8>) {
        let kept = Kept::new(update, records);
        self.bytes += kept.bytes();
        self.updates.push_back((number, kept));
    }

    /// Forgets the oldest updates, for as long as there are too many.
    fn forget(&mut self, too_many: impl Fn(&Self) -> bool) {
        let mut record_bytes = 0;
        while too_many(self)
            && let Some((number, oldest)) = self.updates.pop_front()
        {
            self.bytes -= oldest.bytes();
            record_bytes += oldest.record_bytes();
            self.remembers_after = number;
        }
        self.records.drain(..record_bytes);
    }

    /// Goes back to the moment when the update with this number had left. Returns those that left after it; `None` when
    /// they are not all remembered, or when there is no such number yet.
    pub(super) fn rewind(&mut self, sequence: u64) -> Option<Vec<Arc<Update>>> {
        if sequence < self.remembers_after || sequence > self.sequence {
            return None;
        }
        let updates = &self.updates;
        let place = updates.partition_point(|(number, _)| *number <= sequence);
        let before = updates.range(..place).map(|(_, kept)| kept.record_bytes());
        let before = before.sum();
        let missed = self.updates.split_off(place);
        let records = self.records.split_off(before);
        self.sequence = sequence;
        self.bytes -= missed.iter().map(|(_, kept)| kept.bytes()).sum::<usize>();
        Some(restore(missed, records).map(|(_, update)| update).collect())
    }

    /// Replaces each update by what `cut` leaves of it.
    pub(super) fn cut(&mut self, cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>) {
        let updates = std::mem::take(&mut self.updates);
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        let mut left = Vec::new();
        for (number, update) in restore(updates, records) {
            if let Some(update) = cut(&update) {
                self.remember(number, &update, &mut left);
            }
        }
        self.records = left.into();
    }
}

/// The updates as they were.
fn restore(
    updates: VecDeque<(u64, Kept)>,
    records: VecDeque<u8>,
) -> impl Iterator<Item = (u64, Arc<Update>)> {
    let records = Vec::from(records);
    let mut start = 0;
    updates.into_iter().map(move |(number, kept)| {
        let end = start + kept.record_bytes();
        let update = match kept {
            Kept::Shared(update) => update,
            Kept::Record { .. } => Arc::new(record::read(&records[start..end])),
        };
        start = end;
        (number, update)
    })
}
