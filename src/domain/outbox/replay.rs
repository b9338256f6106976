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
    Record { bytes: u32 },
}

impl Kept {
    /// Appends to `records` if the update becomes one.
    fn new(update: &Arc<Update>, records: &mut Vec<u8>) -> Self {
        match &update.body {
            UpdateBody::Telemetry(telemetry) if Arc::strong_count(update) <= FEW => {
                let start = records.len();
                record::write(update, telemetry, records);
                let bytes = offset(records.len() - start);
                Self::Record { bytes }
            }
            _ => Self::Shared(update.clone()),
        }
    }

    /// About how many bytes of memory it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Shared(update) => update.bytes(),
            Self::Record { bytes } => *bytes as usize,
        }
    }

    /// How many of them are among the records.
    fn record_bytes(&self) -> usize {
        match self {
            Self::Shared(_) => 0,
            Self::Record { bytes } => *bytes as usize,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::DeviceId;
    use crate::domain::raw_json::RawJson;
    use crate::domain::telemetry::tests::telemetry;
    use crate::domain::time::{Stamp, Timestamp};

    const FRAMES_MAX: usize = 6;

    #[derive(Clone, Debug)]
    enum Step {
        /// Some updates leave together.
        Leave(Vec<Leaving>),
        /// What the client must not see any more: a device, or a key of all.
        CutDevice(u8),
        CutKey,
        /// The client comes back, and has not seen the last few.
        Rewind(u64),
    }

    #[derive(Clone, Debug)]
    struct Leaving {
        device: u8,
        is_message: bool,
        text_bytes: usize,
        /// How many others have it.
        others: usize,
    }

    fn leaving() -> impl Strategy<Value = Leaving> {
        (0..3_u8, prop::bool::weighted(0.2), 0..60_usize, 0..2 * FEW).prop_map(
            |(device, is_message, text_bytes, others)| Leaving {
                device,
                is_message,
                text_bytes,
                others,
            },
        )
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => prop::collection::vec(leaving(), 1..FRAMES_MAX + 3).prop_map(Step::Leave),
            1 => (0..3_u8).prop_map(Step::CutDevice),
            1 => Just(Step::CutKey),
            2 => (0..10_u64).prop_map(Step::Rewind),
        ]
    }

    fn device(number: u8) -> DeviceId {
        DeviceId::new(&format!("d{number}")).unwrap()
    }

    fn update(leaving: &Leaving, number: i64) -> Arc<Update> {
        let text = format!("\"{}\"", "x".repeat(leaving.text_bytes));
        let body = if leaving.is_message {
            UpdateBody::Message(RawJson::from_valid(text))
        } else {
            UpdateBody::Telemetry(telemetry(&[("a", &number.to_string()), ("b", &text)]))
        };
        let stamp = Stamp {
            timestamp: Timestamp::UnixMs(number),
            received_unix_ms: number,
        };
        Arc::new(Update::new(device(leaving.device), stamp, body))
    }

    fn shown(update: &Update) -> String {
        let Update {
            device_id,
            stamp,
            body,
            ..
        } = update;
        format!("{device_id} {stamp:?} {body:?} {}", update.bytes())
    }

    /// What is remembered, without a bound on its bytes.
    #[derive(Default)]
    struct Model {
        sequence: u64,
        remembers_after: u64,
        updates: VecDeque<(u64, Arc<Update>)>,
    }

    impl Model {
        fn left(&mut self, updates: &[Arc<Update>]) {
            for update in updates {
                self.sequence += 1;
                self.updates.push_back((self.sequence, Arc::clone(update)));
            }
            while self.updates.len() > FRAMES_MAX {
                self.remembers_after = self.updates.pop_front().unwrap().0;
            }
        }

        fn cut(&mut self, cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>) {
            let updates = std::mem::take(&mut self.updates).into_iter();
            let cut = updates.filter_map(|(number, update)| Some((number, cut(&update)?)));
            self.updates = cut.collect();
        }

        fn rewind(&mut self, sequence: u64) -> Vec<String> {
            self.sequence = sequence;
            let place = self
                .updates
                .partition_point(|(number, _)| *number <= sequence);
            let missed = self.updates.split_off(place);
            missed.iter().map(|(_, update)| shown(update)).collect()
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_again_is_what_left_but_for_what_was_taken_away(
            steps in prop::collection::vec(step(), 1..40),
            bytes_max in prop::sample::select(vec![0, 300, usize::MAX]),
        ) {
            let limits = OutboxLimits {
                frames_max: 100,
                bytes_max: 100_000,
                replay_frames_max: FRAMES_MAX,
                replay_bytes_max: bytes_max,
            };
            let (mut replay, mut model) = (Replay::default(), Model::default());
            for (time, step) in (0..).step_by(100).zip(steps) {
                match step {
                    Step::Leave(leaving) => {
                        let updates = (time..).zip(&leaving);
                        let updates: Vec<_> = updates.map(|(number, leaving)| update(leaving, number)).collect();
                        let others = updates.iter().zip(&leaving);
                        let others: Vec<_> = others.map(|(update, leaving)| vec![Arc::clone(update); leaving.others]).collect();
                        replay.left(&updates, &limits);
                        drop(others);
                        model.left(&updates);
                    }
                    Step::Rewind(missed) => {
                        let sequence = model.sequence.saturating_sub(missed);
                        let again = replay.rewind(sequence);
                        prop_assert_eq!(again.is_some(), sequence >= replay.remembers_after);
                        if let Some(again) = again {
                            let again: Vec<_> = again.iter().map(|update| shown(update)).collect();
                            prop_assert_eq!(again, model.rewind(sequence));
                        }
                        prop_assert!(replay.rewind(replay.sequence + 1).is_none());
                    }
                    Step::CutDevice(number) => {
                        let cut = |update: &Arc<Update>| (update.device_id != device(number)).then(|| Arc::clone(update));
                        replay.cut(cut);
                        model.cut(cut);
                    }
                    Step::CutKey => {
                        let cut = |update: &Arc<Update>| update.filter_keys(|key| key != "b");
                        replay.cut(cut);
                        model.cut(cut);
                    }
                }
                let kept = || replay.updates.iter().map(|(_, kept)| kept);
                prop_assert_eq!(replay.sequence, model.sequence);
                prop_assert_eq!(replay.bytes, kept().map(Kept::bytes).sum::<usize>());
                prop_assert_eq!(replay.records.len(), kept().map(Kept::record_bytes).sum::<usize>());
                prop_assert!(replay.bytes <= bytes_max && replay.updates.len() <= FRAMES_MAX);
                if bytes_max == usize::MAX {
                    prop_assert_eq!(replay.remembers_after, model.remembers_after);
                } else {
                    prop_assert!(replay.remembers_after >= model.remembers_after);
                }
            }
        }
    }
}
