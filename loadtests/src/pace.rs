//! When messages are sent: on a schedule that nothing can delay, or as fast as they go through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How fast messages are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many a second, whatever becomes of them. A message that is sent late counts from when it was due, so a stall
    /// of the server shows in full (no coordinated omission).
    Rate(u32),
    /// As long as no more than so many messages are on their way.
    InFlight(u64),
}

/// When each message is due, at a given rate. Devices take turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) start: Instant,
    pub(crate) rate: u32,
    pub(crate) devices: usize,
    /// Messages are due together at the end of each such interval; zero for each at its own time.
    pub(crate) tick: Duration,
}

impl Schedule {
    /// How many messages are due by then.
    pub(crate) fn due_by(&self, now: Instant) -> u64 {
        let mut elapsed_ns = now.saturating_duration_since(self.start).as_nanos();
        if let Some(part) = elapsed_ns.checked_rem(self.tick.as_nanos()) {
            elapsed_ns -= part;
        }
        let due = elapsed_ns * u128::from(self.rate) / NANOSECONDS_PER_S;
        u64::try_from(due).expect("fewer messages than fit")
    }

    /// When message number `sequence` of a device is due, counted from 1.
    pub(crate) fn due_at(&self, device: usize, sequence: u64) -> Instant {
        let place = (sequence - 1) * self.devices as u64 + device as u64 + 1;
        let mut due_ns = (u128::from(place) * NANOSECONDS_PER_S).div_ceil(self.rate.into());
        let tick_ns = self.tick.as_nanos();
        if tick_ns > 0 {
            due_ns = due_ns.next_multiple_of(tick_ns);
        }
        self.start + Duration::from_nanos(u64::try_from(due_ns).expect("centuries"))
    }
}

const NANOSECONDS_PER_S: u128 = 1_000_000_000;

/// Messages sent and deliveries accounted for, across threads.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: AtomicU64,
    pub(crate) accounted: AtomicU64,
}

impl Traffic {
    /// Messages on their way, of which each has `recipients` deliveries on average.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of one run are far below 2^53"
    )]
    pub(crate) fn in_flight(&self, recipients: f64) -> u64 {
        let accounted = self.accounted.load(Ordering::Relaxed) as f64;
        (self.sent.load(Ordering::Relaxed)).saturating_sub((accounted / recipients) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: u32, tick: Duration) -> Schedule {
        Schedule {
            start: Instant::now(),
            rate,
            devices: 4,
            tick,
        }
    }

    #[test]
    fn a_message_is_due_from_its_moment_on() {
        for rate in [3, 333, 10_000, 1_000_000] {
            for tick in [Duration::ZERO, Duration::from_millis(1)] {
                let schedule = schedule(rate, tick);
                for place in 0..50 {
                    let device = usize::try_from(place % 4).unwrap();
                    let due_at = schedule.due_at(device, place / 4 + 1);
                    let before = due_at.checked_sub(Duration::from_nanos(1)).unwrap();
                    assert!(schedule.due_by(due_at) > place);
                    assert!(schedule.due_by(before) <= place);
                }
            }
        }
    }

    #[test]
    fn messages_on_their_way_are_those_without_deliveries() {
        let traffic = Traffic::default();
        traffic.sent.store(1000, Ordering::Relaxed);
        traffic.accounted.store(5, Ordering::Relaxed);
        assert_eq!(traffic.in_flight(0.01), 500);
        assert_eq!(traffic.in_flight(2.0), 998);
    }
}
