//! Latencies: every sample is kept, in steps of 100 ns.

use std::time::Duration;

const STEP_NS: u128 = 100;
const STEPS_PER_MS: f64 = 1e4;

/// Samples of how long deliveries took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    steps: Vec<u32>,
}

impl Latencies {
    /// Adds a sample; seven minutes stand for anything longer.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.steps
            .push(u32::try_from(latency.as_nanos() / STEP_NS).unwrap_or(u32::MAX));
    }

    /// Forgets all samples, but keeps their room.
    pub(crate) fn clear(&mut self) {
        self.steps.clear();
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The smallest latency that at least `share` of the samples do not exceed, in milliseconds; `None` without samples.
    pub(crate) fn percentile_ms(&mut self, share: f64) -> Option<f64> {
        self.steps.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place among samples, of which there are far fewer than 2^53"
        )]
        let rank = (self.steps.len() as f64 * share).ceil() as usize;
        let steps = self.steps.get(rank.saturating_sub(1))?;
        Some(f64::from(*steps) / STEPS_PER_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile_ms(0.5), None);
        for ms in (1..=100).rev() {
            latencies.add(Duration::from_millis(ms));
        }
        for (share, ms) in [(0.5, 50.0), (0.99, 99.0), (0.999, 100.0), (1.0, 100.0)] {
            assert_eq!(latencies.percentile_ms(share), Some(ms));
        }
    }

    #[test]
    fn fractions_of_a_millisecond_and_minutes_have_room() {
        let mut latencies = Latencies::default();
        latencies.add(Duration::from_nanos(59_900));
        assert_eq!(latencies.percentile_ms(1.0), Some(0.0599));
        latencies.add(Duration::from_hours(1));
        assert!(latencies.percentile_ms(1.0).unwrap() > 420_000.0);
    }
}
