//! When messages are sent: on a schedule that nothing can delay, or as fast as they go through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Time between two points of the schedule.
pub(crate) const TICK: Duration = Duration::from_millis(1);

const TICKS_PER_S: u64 = 1000;

/// How fast messages are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many a second, whatever becomes of them. A message that is sent late counts from when it was due, so a stall
    /// of the relay shows in full (no coordinated omission).
    Rate(u32),
    /// As long as no more than so many messages are on their way.
    InFlight(u64),
}

impl Pace {
    /// How many messages are due `tick` ticks after the start.
    pub(crate) fn due(rate: u32, tick: u64) -> u64 {
        tick * u64::from(rate) / TICKS_PER_S
    }
}

/// Messages sent and deliveries accounted for, across threads.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: AtomicU64,
    pub(crate) accounted: AtomicU64,
}

impl Traffic {
    /// Messages on their way, of which each has `recipients` deliveries.
    pub(crate) fn in_flight(&self, recipients: u64) -> u64 {
        let accounted = self.accounted.load(Ordering::Relaxed);
        self.sent
            .load(Ordering::Relaxed)
            .saturating_sub(accounted / recipients)
    }
}

/// Counts the ticks since `start` on a thread of its own, whose sleep is finer than a runtime's. Ends when nobody
/// watches any more.
pub(crate) fn ticks(start: Instant) -> anyhow::Result<watch::Receiver<u64>> {
    let (ticks, watching) = watch::channel(0);
    std::thread::Builder::new()
        .name("ticks".to_owned())
        .spawn(move || {
            for tick in 1.. {
                let at = start + TICK * tick;
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                if ticks.send(u64::from(tick)).is_err() {
                    return;
                }
            }
        })?;
    Ok(watching)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_adds_up_to_the_rate() {
        assert_eq!(Pace::due(10_000, 1), 10);
        assert_eq!(Pace::due(333, 1000), 333);
        assert_eq!(Pace::due(1, 999), 0);
    }
}
