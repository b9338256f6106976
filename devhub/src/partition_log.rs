//! The log of one partition: encoded events in order, bounded in count and in bytes.
//!
//! When a bound is reached the oldest events go, as they do when a real partition's retention time
//! passes. Sequence numbers start at 0 and have no gaps; offsets grow with the bytes stored, and are
//! therefore never to be taken for sequence numbers.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::amqp::message::{Draft, RuntimeMetrics};

/// How much one partition keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Events kept at most.
    pub events_max: usize,
    /// Bytes of encoded events kept at most; one event is always kept, however large.
    pub bytes_max: usize,
}

impl Default for LogBounds {
    fn default() -> Self {
        Self {
            events_max: 1_000_000,
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// Where a receiver wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartPosition {
    Earliest,
    Latest,
    Sequence { number: i64, inclusive: bool },
    Offset { offset: i64, inclusive: bool },
    EnqueuedTime { ms: i64, inclusive: bool },
}

/// What a management read says about a partition. An empty partition has the last sequence number
/// -1, the last offset -1 and the time 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionProperties {
    /// The oldest sequence number still kept; the next one to come when nothing is kept.
    pub begin_sequence_number: i64,
    /// The newest sequence number.
    pub last_enqueued_sequence_number: i64,
    /// The newest offset.
    pub last_enqueued_offset: i64,
    /// When the newest event came in, in milliseconds since the Unix epoch.
    pub last_enqueued_time_ms: i64,
    /// Whether no event was ever enqueued.
    pub is_empty: bool,
}

#[derive(Debug)]
pub(crate) struct StoredEvent {
    offset: i64,
    enqueued_ms: i64,
    /// Where delivery annotations go.
    pub(crate) header_len: usize,
    pub(crate) encoded: Bytes,
}

#[derive(Debug)]
pub(crate) struct PartitionLog {
    bounds: LogBounds,
    events: VecDeque<StoredEvent>,
    bytes: usize,
    first_sequence: i64,
    next_offset: i64,
}

impl PartitionLog {
    pub(crate) fn new(bounds: LogBounds) -> Self {
        Self {
            bounds,
            events: VecDeque::new(),
            bytes: 0,
            first_sequence: 0,
            next_offset: 0,
        }
    }

    /// Appends an event and returns its sequence number. Enqueued times never go back, even when the
    /// clock does.
    pub(crate) fn append(&mut self, draft: &Draft<'_>, now_ms: i64) -> i64 {
        let sequence = self.next_sequence();
        let enqueued_ms = self
            .events
            .back()
            .map_or(now_ms, |last| now_ms.max(last.enqueued_ms));
        let (encoded, header_len) = draft.stamp(sequence, self.next_offset, enqueued_ms);
        self.bytes += encoded.len();
        let offset = self.next_offset;
        self.next_offset += i64::try_from(encoded.len()).expect("an event fits into memory");
        self.events.push_back(StoredEvent {
            offset,
            enqueued_ms,
            header_len,
            encoded,
        });
        while self.events.len() > 1
            && (self.events.len() > self.bounds.events_max || self.bytes > self.bounds.bytes_max)
        {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= oldest.encoded.len();
                self.first_sequence += 1;
            }
        }
        sequence
    }

    /// The sequence number that the next event will get.
    pub(crate) fn next_sequence(&self) -> i64 {
        self.first_sequence + i64::try_from(self.events.len()).expect("events fit into memory")
    }

    /// The events from `sequence` on, or from the oldest kept when that one is gone, with their
    /// sequence numbers.
    pub(crate) fn read_from(&self, sequence: i64) -> impl Iterator<Item = (i64, &StoredEvent)> {
        let first = sequence.max(self.first_sequence);
        let skip = usize::try_from(first - self.first_sequence)
            .unwrap_or(usize::MAX)
            .min(self.events.len());
        (first..).zip(self.events.range(skip..))
    }

    /// The sequence number at which a receiver with this start begins, or `None` when it asks for a
    /// place that the log has not reached.
    pub(crate) fn resolve(&self, start: StartPosition) -> Option<i64> {
        let next = self.next_sequence();
        let at = |index: usize| {
            self.first_sequence + i64::try_from(index).expect("events fit into memory")
        };
        match start {
            StartPosition::Earliest => Some(self.first_sequence),
            StartPosition::Latest => Some(next),
            StartPosition::Sequence { number, inclusive } => {
                let wanted = if inclusive {
                    number
                } else {
                    number.saturating_add(1)
                };
                (wanted <= next).then(|| wanted.max(self.first_sequence))
            }
            StartPosition::Offset { offset, inclusive } => {
                if offset >= self.next_offset && offset > 0 {
                    return None;
                }
                Some(at(self.events.partition_point(|event| {
                    event.offset < offset || (!inclusive && event.offset == offset)
                })))
            }
            StartPosition::EnqueuedTime { ms, inclusive } => {
                Some(at(self.events.partition_point(|event| {
                    event.enqueued_ms < ms || (!inclusive && event.enqueued_ms == ms)
                })))
            }
        }
    }

    pub(crate) fn properties(&self) -> PartitionProperties {
        let last = self.events.back();
        PartitionProperties {
            begin_sequence_number: self.first_sequence,
            last_enqueued_sequence_number: self.next_sequence() - 1,
            last_enqueued_offset: last.map_or(-1, |event| event.offset),
            last_enqueued_time_ms: last.map_or(0, |event| event.enqueued_ms),
            is_empty: last.is_none(),
        }
    }

    pub(crate) fn runtime_metrics(&self, now_ms: i64) -> RuntimeMetrics {
        let properties = self.properties();
        RuntimeMetrics {
            last_sequence_number: properties.last_enqueued_sequence_number,
            last_offset: properties.last_enqueued_offset,
            last_enqueued_ms: properties.last_enqueued_time_ms,
            retrieved_ms: now_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn log(events_max: usize, bytes_max: usize, times_ms: &[i64]) -> PartitionLog {
        let mut log = PartitionLog::new(LogBounds {
            events_max,
            bytes_max,
        });
        for &now_ms in times_ms {
            log.append(&Draft::from_event(&Event::default()), now_ms);
        }
        log
    }

    fn sequences(log: &PartitionLog, from: i64) -> Vec<i64> {
        log.read_from(from).map(|(sequence, _)| sequence).collect()
    }

    #[test]
    fn the_oldest_events_go_when_the_count_is_reached() {
        let log = log(3, usize::MAX, &[1, 2, 3, 4, 5]);
        assert_eq!(sequences(&log, 0), [2, 3, 4]);
        assert_eq!(log.properties().begin_sequence_number, 2);
        assert_eq!(log.properties().last_enqueued_sequence_number, 4);
        assert_eq!(log.resolve(StartPosition::Earliest), Some(2));
        assert_eq!(log.events.len(), 3);
    }

    #[test]
    fn the_oldest_events_go_when_the_bytes_are_reached_but_one_stays() {
        let one = log(9, usize::MAX, &[1]).bytes;
        let two_fit = log(9, 2 * one + 10, &[1, 2, 3]);
        assert_eq!(sequences(&two_fit, 0), [1, 2]);
        assert!(two_fit.bytes <= 2 * one + 10);
        let none_fits = log(9, 1, &[1, 2, 3]);
        assert_eq!(sequences(&none_fits, 0), [2]);
        assert_eq!(none_fits.bytes, none_fits.events[0].encoded.len());
    }

    #[test]
    fn start_positions_find_their_event() {
        let log = log(9, usize::MAX, &[10, 20, 20, 30]);
        let offset = log.events[2].offset;
        let at = |start| log.resolve(start);
        let sequence = |number, inclusive| at(StartPosition::Sequence { number, inclusive });
        assert_eq!(at(StartPosition::Latest), Some(4));
        assert_eq!(sequence(-1, false), Some(0));
        assert_eq!(sequence(1, false), Some(2));
        assert_eq!(sequence(1, true), Some(1));
        assert_eq!(sequence(3, false), Some(4));
        assert_eq!(sequence(4, false), None);
        let by_offset = |offset, inclusive| at(StartPosition::Offset { offset, inclusive });
        assert_eq!(by_offset(offset, false), Some(3));
        assert_eq!(by_offset(offset, true), Some(2));
        assert_eq!(by_offset(offset - 1, false), Some(2));
        assert_eq!(by_offset(1 << 40, false), None);
        let by_time = |ms, inclusive| at(StartPosition::EnqueuedTime { ms, inclusive });
        assert_eq!(by_time(20, false), Some(3));
        assert_eq!(by_time(20, true), Some(1));
        assert_eq!(by_time(99, false), Some(4));
    }

    #[test]
    fn enqueued_times_never_go_back() {
        let log = log(9, usize::MAX, &[100, 50]);
        assert_eq!(log.events[1].enqueued_ms, 100);
    }

    #[test]
    fn an_empty_log_says_so() {
        let log = log(9, 9, &[]);
        let properties = log.properties();
        assert!(properties.is_empty);
        assert_eq!(properties.last_enqueued_sequence_number, -1);
        assert_eq!(properties.last_enqueued_offset, -1);
        assert_eq!(
            log.resolve(StartPosition::Offset {
                offset: 0,
                inclusive: true
            }),
            Some(0)
        );
    }
}
