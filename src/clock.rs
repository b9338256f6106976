//! Where time comes from.
//!
//! Nothing below the edges reads a clock of its own: edges ask a [`Clock`] once for each batch or request and pass the
//! result on, so that every rule about time can be tested with [`ManualClock`].

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

/// A clock shared by the parts of the program.
pub type SharedClock = Arc<dyn Clock>;

/// A source of wall time and of monotonic time.
pub trait Clock: Debug + Send + Sync {
    /// The wall time in milliseconds since 1970-01-01T00:00:00Z. It may jump when the machine's clock is set.
    fn unix_ms(&self) -> i64;

    /// A time that never goes back, for durations and deadlines.
    fn monotonic(&self) -> Instant;

    /// Whole milliseconds since `start`, on the monotonic clock.
    fn ms_since(&self, start: Instant) -> u64 {
        whole_ms(self.monotonic().saturating_duration_since(start))
    }

    /// The wall time, cut to milliseconds.
    fn timestamp(&self) -> Timestamp {
        Timestamp::from_millisecond(self.unix_ms()).unwrap_or(Timestamp::MAX)
    }
}

/// The whole milliseconds of a duration.
pub fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock as a [`SharedClock`].
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn unix_ms(&self) -> i64 {
        Timestamp::now().as_millisecond()
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is told to move. Clones share one time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    time: Arc<Mutex<ManualTime>>,
}

#[derive(Clone, Copy, Debug)]
struct ManualTime {
    unix_ms: i64,
    monotonic: Instant,
}

impl ManualClock {
    /// A clock that shows `unix_ms` until it is moved.
    pub fn at(unix_ms: i64) -> Self {
        let time = ManualTime {
            unix_ms,
            monotonic: Instant::now(),
        };
        Self {
            time: Arc::new(Mutex::new(time)),
        }
    }

    /// Moves both times forward; the wall time by the whole milliseconds of `duration`.
    pub fn advance(&self, duration: Duration) {
        let mut time = self.time.lock();
        time.monotonic += duration;
        time.unix_ms = time.unix_ms.saturating_add_unsigned(whole_ms(duration));
    }

    /// Sets the wall time alone, as an administrator or a time server does. The monotonic time does not notice.
    pub fn set_unix_ms(&self, unix_ms: i64) {
        self.time.lock().unix_ms = unix_ms;
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> i64 {
        self.time.lock().unix_ms
    }

    fn monotonic(&self) -> Instant {
        self.time.lock().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(1_700_000_000_000);
        let start = clock.monotonic();
        assert_eq!(clock.unix_ms(), 1_700_000_000_000);
        assert_eq!(clock.monotonic(), start);

        let same_clock = clock.clone();
        same_clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.unix_ms(), 1_700_000_001_500);
        assert_eq!(clock.monotonic() - start, Duration::from_millis(1500));
    }

    #[test]
    fn setting_the_wall_time_leaves_the_monotonic_time_alone() {
        let clock = ManualClock::at(5_000);
        let start = clock.monotonic();
        clock.set_unix_ms(1_000);
        assert_eq!(clock.unix_ms(), 1_000);
        assert_eq!(clock.monotonic(), start);
    }

    #[test]
    fn timestamps_are_whole_milliseconds() {
        let clock = ManualClock::at(1_700_000_000_123);
        assert_eq!(clock.timestamp().to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(SystemClock.timestamp().subsec_nanosecond() % 1_000_000, 0);
    }
}
