//! How long to wait before trying again.

use std::time::Duration;

const FIRST_MAX: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(30);

/// Exponential backoff with full jitter: each wait is drawn from zero up to a bound that doubles from 0.2 s to 30 s, so
/// that many relays do not come back in step after an outage.
#[derive(Debug)]
pub(super) struct Backoff {
    bound: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { bound: FIRST_MAX }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(MAX);
        bound.mul_f64(rand::random())
    }

    /// Starts over, after things went well for a while.
    pub(super) fn reset(&mut self) {
        self.bound = FIRST_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_under_a_bound_that_doubles_up_to_half_a_minute() {
        let mut backoff = Backoff::new();
        for bound_ms in [
            200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ] {
            assert!(backoff.next() < Duration::from_millis(bound_ms));
        }
        backoff.reset();
        assert!(backoff.next() < FIRST_MAX);
    }
}
