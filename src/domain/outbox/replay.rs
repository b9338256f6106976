//! What left an outbox lately, by number, so that a client that comes back can be sent what it missed.
//!
//! Guarantees: what is sent again is all that left after the client's number, in order, but for what the client must not
//! see any more; when some of it has been forgotten, nothing is.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::id::DeviceId;
use crate::domain::limits::OutboxLimits;
use crate::domain::time::Stamp;
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
    bytes: usize,
}

/// An update that left.
///
/// One that nobody else has would keep all of its message in memory, and there are hundreds for each client: going through
/// all that memory would cost more than everything else that is done for an update. So its part is copied.
#[derive(Debug)]
enum Kept {
    Shared(Arc<Update>),
    Own {
        device_id: DeviceId,
        stamp: Stamp,
        body: UpdateBody,
        bytes: usize,
    },
}

impl Kept {
    fn new(update: &Arc<Update>) -> Self {
        match &update.body {
            UpdateBody::Telemetry(telemetry) if Arc::strong_count(update) == 1 => Self::Own {
                device_id: update.device_id.clone(),
                stamp: update.stamp.clone(),
                body: UpdateBody::Telemetry(telemetry.compact()),
                bytes: update.bytes(),
            },
            _ => Self::Shared(update.clone()),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Shared(update) => update.bytes(),
            Self::Own { bytes, .. } => *bytes,
        }
    }

    fn to_update(&self) -> Arc<Update> {
        match self {
            Self::Shared(update) => update.clone(),
            Self::Own {
                device_id,
                stamp,
                body,
                ..
            } => {
                let (device_id, stamp, body) = (device_id.clone(), stamp.clone(), body.clone());
                Arc::new(Update::new(device_id, stamp, body))
            }
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

    /// Numbers an update that leaves, and forgets the oldest ones that are over the bound.
    pub(super) fn left(&mut self, update: &Arc<Update>, limits: &OutboxLimits) {
        self.sequence += 1;
        self.bytes += update.bytes();
        self.updates.push_back((self.sequence, Kept::new(update)));
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
            .map(|(_, kept)| kept.to_update())
            .collect();
        self.bytes -= missed.iter().map(|update| update.bytes()).sum::<usize>();
        self.sequence = sequence;
        Some(missed)
    }

    /// Replaces each update by what `cut` leaves of it.
    pub(super) fn cut(&mut self, cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>) {
        let bytes = &mut self.bytes;
        self.updates.retain_mut(|(_, kept)| {
            *bytes -= kept.bytes();
            let left = cut(&kept.to_update());
            if let Some(left) = &left {
                *kept = Kept::new(left);
                *bytes += kept.bytes();
            }
            left.is_some()
        });
    }
}
