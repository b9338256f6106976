//! What left an outbox lately, by number, so that a client that comes back can be sent what it missed.
//!
//! Guarantees: what is sent again is all that left after the client's number, in order, but for what the client must not
//! see any more; when some of it has been forgotten, nothing is.

mod record;

use std::collections::VecDeque;
use std::sync::Arc;

use super::Skipped;
use crate::domain::limits::OutboxLimits;
use crate::domain::raw_json::offset;
use crate::domain::update::{Update, UpdateBody};

/// For so many clients, records take about as much memory as the update that they would share.
const FEW: usize = 4;

/// Records that are forgotten together are at most one in so many.
const RUNS_MIN: usize = 16;

/// A ring of so many bytes is never too large.
const RING_BYTES_MIN: usize = 4 * 1024;

/// How many times that the client was told of something missed are kept apart.
const TOLD_MAX: usize = 64;

/// What left an outbox lately.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The number of the last update that left.
    sequence: u64,
    /// All that left after this number is remembered.
    remembers_after: u64,
    /// In the order of their numbers; each with the last of them.
    kept: VecDeque<(u64, Kept)>,
    /// All records, one behind the other.
    records: VecDeque<u8>,
    /// What the client was told to have missed, each with the number of the last update that left with it.
    told: VecDeque<(u64, Skipped)>,
    /// How many updates are remembered.
    updates: usize,
    /// What the bound is held against.
    bytes: usize,
}

/// Updates that left.
///
/// One that hardly anybody else has is written down and let go of. There are hundreds for each client, all over the memory by the
/// time that they are forgotten: to go back to each of them then costs more than everything else that is done for an
/// update, and a record is never looked at again unless its client comes back.
#[derive(Debug)]
enum Kept {
    Shared(Arc<Update>),
    Records(Run),
}

/// Updates whose numbers follow each other and that are kept as records.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    updates: u32,
    bytes: u32,
}

impl Kept {
    fn updates(&self) -> usize {
        match self {
            Self::Shared(_) => 1,
            Self::Records(run) => run.updates as usize,
        }
    }

    /// About how many bytes of memory they take.
    fn bytes(&self) -> usize {
        match self {
            Self::Shared(update) => update.bytes(),
            Self::Records(run) => run.bytes as usize,
        }
    }

    /// How many of them are among the records.
    fn record_bytes(&self) -> usize {
        match self {
            Self::Shared(_) => 0,
            Self::Records(run) => run.bytes as usize,
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
        let updates_max = limits.replay_frames_max;
        let (over, updates) = updates.split_at(updates.len().saturating_sub(updates_max));
        if !over.is_empty() {
            let sequence = self.sequence + over.len() as u64;
            *self = Self {
                sequence,
                remembers_after: sequence,
                ..Self::default()
            };
        }
        self.forget(|replay| replay.updates + updates.len() > updates_max);
        let copied = updates
            .iter()
            .filter(|update| Arc::strong_count(update) <= FEW);
        // This also reads a little of each, so that memory is waited for once.
        let mut records = Vec::with_capacity(copied.map(|update| update.bytes()).sum());
        for update in updates {
            self.sequence += 1;
            self.remember(self.sequence, update, limits, &mut records);
        }
        self.records.extend(&records);
        self.forget(|replay| replay.bytes > limits.replay_bytes_max);
        // Whoever comes back saw what left with these.
        let seen = (self.told).partition_point(|(number, _)| *number <= self.remembers_after);
        self.told.drain(..seen);
    }

    /// What left last told the client that it missed so much.
    pub(super) fn told(&mut self, skipped: Skipped) {
        self.told.push_back((self.sequence, skipped));
        // Rather told twice than not at all.
        if self.told.len() > TOLD_MAX
            && let Some((_, oldest)) = self.told.pop_front()
            && let Some((_, next)) = self.told.front_mut()
        {
            *next += oldest;
        }
    }

    /// The caller adds what is appended to `records`.
    fn remember(
        &mut self,
        number: u64,
        update: &Arc<Update>,
        limits: &OutboxLimits,
        records: &mut Vec<u8>,
    ) {
        self.updates += 1;
        let telemetry = match &update.body {
            UpdateBody::Telemetry(telemetry) if Arc::strong_count(update) <= FEW => telemetry,
            _ => {
                self.bytes += update.bytes();
                return self.kept.push_back((number, Kept::Shared(update.clone())));
            }
        };
        let start = records.len();
        record::write(update, telemetry, records);
        let bytes = records.len() - start;
        self.bytes += bytes;
        match self.kept.back_mut() {
            Some((last, Kept::Records(run)))
                if *last + 1 == number && run.has_room(bytes, limits) =>
            {
                *last = number;
                run.updates += 1;
                run.bytes += offset(bytes);
            }
            _ => {
                let run = Run {
                    updates: 1,
                    bytes: offset(bytes),
                };
                self.kept.push_back((number, Kept::Records(run)));
            }
        }
    }

    /// Forgets the oldest updates, for as long as there are too many.
    fn forget(&mut self, too_many: impl Fn(&Self) -> bool) {
        let mut record_bytes = 0;
        while too_many(self)
            && let Some((last, oldest)) = self.kept.pop_front()
        {
            self.updates -= oldest.updates();
            self.bytes -= oldest.bytes();
            record_bytes += oldest.record_bytes();
            self.remembers_after = last;
        }
        self.records.drain(..record_bytes);
        // Small updates should not keep the memory that large ones needed.
        if self.records.capacity() > 4 * self.records.len().max(RING_BYTES_MIN) {
            self.records.shrink_to(2 * self.records.len());
        }
    }

    /// Goes back to the moment when the update with this number had left. Returns those that left after it, and what the
    /// client was told with them; `None` when they are not all remembered, or when there is no such number yet.
    pub(super) fn rewind(
        &mut self,
        sequence: u64,
        limits: &OutboxLimits,
    ) -> Option<(Vec<Arc<Update>>, Skipped)> {
        if sequence < self.remembers_after || sequence > self.sequence {
            return None;
        }
        self.sequence = sequence;
        let mut missed = Vec::new();
        let place = self.kept.partition_point(|(last, _)| *last <= sequence);
        self.rewrite(place, limits, |number, update| {
            if number <= sequence {
                return Some(update);
            }
            missed.push(update);
            None
        });
        let place = self.told.partition_point(|(number, _)| *number <= sequence);
        let mut skipped = Skipped::default();
        for (_, told) in self.told.drain(place..) {
            skipped += told;
        }
        Some((missed, skipped))
    }

    /// Replaces each update by what `cut` leaves of it.
    pub(super) fn cut(
        &mut self,
        limits: &OutboxLimits,
        cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>,
    ) {
        self.rewrite(0, limits, |_, update| cut(&update));
    }

    /// Replaces each update by what `change` makes of it and its number, but for what is kept before `place`.
    fn rewrite(
        &mut self,
        place: usize,
        limits: &OutboxLimits,
        mut change: impl FnMut(u64, Arc<Update>) -> Option<Arc<Update>>,
    ) {
        let before = self.kept.range(..place);
        let before = before.map(|(_, kept)| kept.record_bytes()).sum();
        let records = Vec::from(self.records.split_off(before));
        let kept = self.kept.split_off(place);
        let mut unread = records.as_slice();
        let mut rewritten = Vec::new();
        for (last, kept) in kept {
            self.updates -= kept.updates();
            self.bytes -= kept.bytes();
            let first = last + 1 - kept.updates() as u64;
            for number in first..=last {
                let update = match &kept {
                    Kept::Shared(update) => update.clone(),
                    Kept::Records(_) => Arc::new(record::read(&mut unread)),
                };
                if let Some(update) = change(number, update) {
                    self.remember(number, &update, limits, &mut rewritten);
                }
            }
        }
        self.records.extend(rewritten);
    }
}

impl Run {
    /// Whether one more record may be forgotten together with these.
    fn has_room(self, bytes: usize, limits: &OutboxLimits) -> bool {
        self.updates as usize * RUNS_MIN < limits.replay_frames_max
            && (self.bytes as usize + bytes) * RUNS_MIN <= limits.replay_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::DeviceId;
    use crate::domain::telemetry::tests::telemetry;
    use crate::domain::time::{Stamp, Timestamp};

    /// What happens to a replay, and to a model of it that is a list.
    #[derive(Clone, Debug)]
    enum Step {
        /// So many updates leave together; every how manyth is one that many have, and every how manyth a connection state.
        Left {
            updates: usize,
            shared: usize,
            states: usize,
        },
        /// The client comes back, having missed so many.
        Rewind(u64),
        /// Every how manyth update is not to be seen any more.
        Cut(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let left = (0..120_usize, 1..9_usize, 1..9_usize);
        let step = prop_oneof![
            4 => left.prop_map(|(updates, shared, states)| Step::Left { updates, shared, states }),
            1 => (0..150_u64).prop_map(Step::Rewind),
            1 => (1..6_usize).prop_map(Step::Cut),
        ];
        prop::collection::vec(step, 1..20)
    }

    fn update(number: usize, is_state: bool) -> Arc<Update> {
        let value = number.to_string();
        let body = if is_state {
            UpdateBody::ConnectionState(number.is_multiple_of(2))
        } else {
            UpdateBody::Telemetry(telemetry(&[("t", &value), ("number", &value)]))
        };
        update_of(number, body)
    }

    fn update_of(number: usize, body: UpdateBody) -> Arc<Update> {
        let stamp = Stamp {
            timestamp: Timestamp::UnixMs(1),
            received_unix_ms: i64::try_from(number).unwrap(),
        };
        Arc::new(Update::new(DeviceId::new("d").unwrap(), stamp, body))
    }

    fn text(update: &Update) -> String {
        format!("{:?} {:?}", update.stamp, update.body)
    }

    #[test]
    fn long_updates_are_forgotten_a_few_at_a_time() {
        let limits = OutboxLimits {
            frames_max: 1000,
            bytes_max: 1_000_000,
            replay_frames_max: 256,
            replay_bytes_max: 10_000,
        };
        let long = format!("\"{}\"", "x".repeat(300));
        let mut replay = Replay::default();
        for number in 0..100 {
            let body = UpdateBody::Telemetry(telemetry(&[("t", &long)]));
            replay.left(&[update_of(number, body)], &limits);
            assert!(number < 30 || (9_000..=10_000).contains(&replay.bytes));
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_again_is_what_left(steps in steps(), updates_max in prop_oneof![0..8_usize, 40..100_usize]) {
            let limits = OutboxLimits {
                frames_max: 1000,
                bytes_max: 1_000_000,
                replay_frames_max: updates_max,
                replay_bytes_max: 100_000,
            };
            let mut replay = Replay::default();
            let mut model: Vec<(u64, String)> = Vec::new();
            let mut others = Vec::new();
            let (mut made, mut newest) = (0, 0);
            for step in steps {
                match step {
                    Step::Left { updates, shared, states } => {
                        let updates: Vec<_> = (made..made + updates).map(|number| update(number, number % states == 0)).collect();
                        made += updates.len();
                        for update in updates.iter().step_by(shared) {
                            others.extend(std::iter::repeat_n(update.clone(), FEW));
                        }
                        let numbers = replay.sequence() + 1..;
                        model.extend(numbers.zip(updates.iter().map(|update| text(update))));
                        replay.left(&updates, &limits);
                        newest = newest.max(replay.sequence());
                        prop_assert!(replay.updates <= updates_max);
                        // Records that follow each other are forgotten together, up to a sixteenth of all.
                        let sure = updates_max - updates_max.div_ceil(RUNS_MIN);
                        prop_assert!(replay.remembers_after() <= newest.saturating_sub(sure as u64));
                    }
                    Step::Rewind(missed) => {
                        let sequence = replay.sequence().saturating_sub(missed);
                        let is_remembered = sequence >= replay.remembers_after();
                        let again = replay.rewind(sequence, &limits);
                        prop_assert_eq!(again.is_some(), is_remembered);
                        let Some((again, _)) = again else { continue };
                        let place = model.partition_point(|(number, _)| *number <= sequence);
                        let expected = model.split_off(place).into_iter().map(|(_, text)| text);
                        prop_assert_eq!(again.iter().map(|update| text(update)).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                        prop_assert_eq!(replay.sequence(), sequence);
                    }
                    Step::Cut(every) => {
                        let gone = |text: &str| text.len() % 6 < every - 1;
                        replay.cut(&limits, |update| (!gone(&text(update))).then(|| update.clone()));
                        model.retain(|(number, text)| *number <= replay.remembers_after() || !gone(text));
                    }
                }
                let remembered = replay.kept.iter().map(|(_, kept)| kept.updates()).sum::<usize>();
                prop_assert_eq!(replay.updates, remembered);
                let bytes = replay.kept.iter().map(|(_, kept)| kept.record_bytes()).sum::<usize>();
                prop_assert_eq!(replay.records.len(), bytes);
                let bytes = replay.kept.iter().map(|(_, kept)| kept.bytes()).sum::<usize>();
                prop_assert_eq!(replay.bytes, bytes);
            }
        }
    }
}
