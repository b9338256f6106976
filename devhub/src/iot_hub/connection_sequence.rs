//! Sequence numbers of connection-state events.
//!
//! IoT Hub writes them as 64 hexadecimal digits that increase strictly with each change of one
//! device's connection, so that a consumer can compare two as text and ignore the older, in whatever
//! order they arrive. Built here from the time and a count, they also increase over a restart.

use std::fmt;

/// 100-nanosecond ticks between 1601-01-01, where the numbers start to count, and the Unix epoch.
const TICKS_BEFORE_UNIX_EPOCH: i64 = 116_444_736_000_000_000;
const TICKS_PER_MS: i64 = 10_000;

/// Numbers one device's connection changes.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSequence {
    ticks: u64,
    count: u64,
}

impl ConnectionSequence {
    /// The number of a change at `at_ms` (milliseconds since the Unix epoch): above all that came
    /// before it, even if the clock went back.
    pub fn next(&mut self, at_ms: i64) -> ConnectionSequenceNumber {
        let ticks = at_ms
            .saturating_mul(TICKS_PER_MS)
            .saturating_add(TICKS_BEFORE_UNIX_EPOCH);
        self.ticks = self.ticks.max(u64::try_from(ticks).unwrap_or(0));
        self.count += 1;
        ConnectionSequenceNumber {
            ticks: self.ticks,
            count: self.count,
        }
    }
}

/// Compares like its text: 64 upper-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionSequenceNumber {
    ticks: u64,
    count: u64,
}

impl fmt::Display for ConnectionSequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}{:016X}{:032X}", 0, self.ticks, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_64_digits_and_increase_strictly_as_text() {
        let mut sequence = ConnectionSequence::default();
        let clock_ms = [
            1_642_351_013_814,
            1_642_351_013_814,
            1_642_351_000_000,
            -5,
            0,
        ];
        let numbers = clock_ms.map(|at_ms| sequence.next(at_ms).to_string());
        for number in &numbers {
            assert_eq!(number.len(), 64, "{number}");
            assert!(
                number
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
            );
        }
        assert!(
            numbers.is_sorted_by(|before, after| before < after),
            "{numbers:?}"
        );
    }

    #[test]
    fn a_restart_goes_on_above_what_came_before() {
        let before = ConnectionSequence::default().next(1_642_351_013_814);
        let after = ConnectionSequence::default().next(1_642_351_013_815);
        assert!(before.to_string() < after.to_string());
    }
}
