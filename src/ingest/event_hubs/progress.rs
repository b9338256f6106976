//! How far each partition was read. Outlives connections, so that the next one goes on where the last one ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::config::EventHubStart;

/// The position before the first event of a partition.
pub(super) const BEGINNING: i64 = -1;

/// How far one partition was read.
#[derive(Debug)]
pub(super) struct PartitionProgress {
    /// Sequence number of the last event that was handed over.
    position: AtomicI64,
    attached: AtomicBool,
    /// Since when its reader has been waiting for the hub; `None` while it works on a batch.
    waiting_since: Mutex<Option<Instant>>,
}

impl PartitionProgress {
    fn at(position: i64) -> Self {
        Self {
            position: AtomicI64::new(position),
            attached: AtomicBool::new(false),
            waiting_since: Mutex::new(None),
        }
    }

    pub(super) fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self, position: i64) {
        self.position.store(position, Ordering::Relaxed);
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    pub(super) fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Ordering::Relaxed);
        *self.waiting_since.lock() = None;
    }

    pub(super) fn wait_begins(&self) {
        *self.waiting_since.lock() = Some(Instant::now());
    }

    pub(super) fn wait_ends(&self) {
        *self.waiting_since.lock() = None;
    }

    /// Whether the hub has had newer events for longer than `limit` without sending any, although the reader was
    /// waiting for them.
    pub(super) fn is_silent(&self, last_enqueued: i64, limit: Duration) -> bool {
        let waited_long = self
            .waiting_since
            .lock()
            .is_some_and(|since| since.elapsed() >= limit);
        waited_long && last_enqueued > self.position()
    }
}

/// How far a whole event hub was read.
#[derive(Debug)]
pub(super) struct Progress {
    start: EventHubStart,
    created_at_unix_ms: Option<i64>,
    partitions: BTreeMap<String, Arc<PartitionProgress>>,
}

impl Progress {
    pub(super) fn new(start: EventHubStart) -> Self {
        Self {
            start,
            created_at_unix_ms: None,
            partitions: BTreeMap::new(),
        }
    }

    /// Where to go on, for each partition of the hub as it is now, given the number of its last event.
    ///
    /// A start at the latest event is pinned to its number at the first look, so nothing is missed if the connection is
    /// lost before an event came. A hub that was created anew, or whose numbers went back, has nothing to go on from:
    /// it is read from its beginning. So is a partition that was added later.
    pub(super) fn resume(
        &mut self,
        created_at_unix_ms: i64,
        last_enqueued: &[(String, i64)],
    ) -> Vec<(String, Arc<PartitionProgress>)> {
        let known_hub = self.created_at_unix_ms.is_some();
        let recreated = self
            .created_at_unix_ms
            .is_some_and(|known| known != created_at_unix_ms);
        self.created_at_unix_ms = Some(created_at_unix_ms);
        if recreated {
            warn!("the event hub was created anew: reading it from its beginning");
        }
        self.partitions
            .retain(|id, _| last_enqueued.iter().any(|(current, _)| current == id));
        for (id, last_enqueued) in last_enqueued {
            match self.partitions.get(id) {
                Some(progress) if recreated => progress.advance(BEGINNING),
                Some(progress) if *last_enqueued < progress.position() => {
                    warn!(
                        partition.id = %id,
                        partition.position = progress.position(),
                        partition.last_enqueued = last_enqueued,
                        "the partition's numbers went back: the event hub started over, reading the partition from its beginning"
                    );
                    progress.advance(BEGINNING);
                }
                Some(_) => {}
                None => {
                    let position = match self.start {
                        EventHubStart::Latest if !known_hub => *last_enqueued,
                        EventHubStart::Latest | EventHubStart::Earliest => BEGINNING,
                    };
                    info!(partition.id = %id, partition.position = position, "reading the partition from here");
                    let progress = Arc::new(PartitionProgress::at(position));
                    self.partitions.insert(id.clone(), progress);
                }
            }
        }
        self.partitions
            .iter()
            .map(|(id, progress)| (id.clone(), Arc::clone(progress)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(
        progress: &mut Progress,
        created: i64,
        last: &[(&str, i64)],
    ) -> Vec<(String, i64)> {
        let last: Vec<_> = last
            .iter()
            .map(|(id, last)| ((*id).to_owned(), *last))
            .collect();
        let partitions = progress.resume(created, &last);
        partitions
            .iter()
            .map(|(id, partition)| (id.clone(), partition.position()))
            .collect()
    }

    fn expected(positions: &[(&str, i64)]) -> Vec<(String, i64)> {
        positions
            .iter()
            .map(|(id, position)| ((*id).to_owned(), *position))
            .collect()
    }

    #[test]
    fn the_first_look_pins_the_start_and_later_ones_go_on_from_there() {
        let mut progress = Progress::new(EventHubStart::Latest);
        assert_eq!(
            positions(&mut progress, 1, &[("0", 41), ("1", -1)]),
            expected(&[("0", 41), ("1", -1)])
        );
        assert_eq!(
            positions(&mut progress, 1, &[("0", 99), ("1", 7)]),
            expected(&[("0", 41), ("1", -1)])
        );
        let mut progress = Progress::new(EventHubStart::Earliest);
        assert_eq!(
            positions(&mut progress, 1, &[("0", 41)]),
            expected(&[("0", -1)])
        );
    }

    #[test]
    fn a_hub_that_started_over_is_read_from_its_beginning() {
        let mut progress = Progress::new(EventHubStart::Latest);
        positions(&mut progress, 1, &[("0", 41), ("1", 41)]);
        assert_eq!(
            positions(&mut progress, 1, &[("0", 3), ("1", 41)]),
            expected(&[("0", -1), ("1", 41)])
        );
        assert_eq!(
            positions(&mut progress, 2, &[("0", 90), ("1", 90)]),
            expected(&[("0", -1), ("1", -1)]),
            "even when its numbers passed ours already"
        );
    }

    #[test]
    fn a_partition_that_was_added_is_read_from_its_beginning_and_one_that_is_gone_is_forgotten() {
        let mut progress = Progress::new(EventHubStart::Latest);
        positions(&mut progress, 1, &[("0", 41)]);
        assert_eq!(
            positions(&mut progress, 1, &[("1", 5)]),
            expected(&[("1", -1)])
        );
    }

    #[test]
    fn a_partition_is_silent_only_while_its_reader_waits_for_newer_events() {
        let partition = PartitionProgress::at(10);
        assert!(
            !partition.is_silent(11, Duration::ZERO),
            "busy with a batch"
        );
        partition.wait_begins();
        assert!(partition.is_silent(11, Duration::ZERO));
        assert!(!partition.is_silent(10, Duration::ZERO), "nothing newer");
        assert!(!partition.is_silent(11, Duration::from_mins(1)), "not yet");
        partition.wait_ends();
        assert!(!partition.is_silent(11, Duration::ZERO));
    }
}
