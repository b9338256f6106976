//! Which failed calls are made again, and when.
//!
//! A read may be repeated whatever became of it. A direct method or a patch only when the hub certainly did not get it:
//! a device may have run the method although no answer came, and a patch may by now be older than another.

use std::time::Duration;

use super::service::Failure;

/// Times that a read is made at most.
const READ_ATTEMPTS_MAX: u32 = 3;

/// Times that anything else is made at most.
const OTHER_ATTEMPTS_MAX: u32 = 2;

/// Pause before the first repetition; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest wait that the hub may ask for and get, rather than the caller being told.
const ASKED_PAUSE_MAX_S: u64 = 2;

/// Whether a call may be repeated once the hub may have got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It reads.
    Always,
    /// It changes or calls something.
    IfNotSent,
}

impl Repeat {
    /// How long to wait before the next attempt, after `attempts` of them; `None` when there is none. `jitter` is from 0
    /// to 1.
    pub(super) fn pause(self, failure: &Failure, attempts: u32, jitter: f64) -> Option<Duration> {
        let attempts_max = match self {
            Self::Always => READ_ATTEMPTS_MAX,
            Self::IfNotSent => OTHER_ATTEMPTS_MAX,
        };
        if attempts >= attempts_max {
            return None;
        }
        // Half to one and a half times, so that those who failed together do not come back together.
        let doubled = PAUSE * 2_u32.saturating_pow(attempts.saturating_sub(1));
        let pause = doubled.mul_f64(0.5 + jitter);
        match (self, failure) {
            (_, Failure::NotSent(_)) | (Self::Always, Failure::NoAnswer(_)) => Some(pause),
            (Self::Always, Failure::Refused(refusal)) => {
                match (refusal.status, refusal.retry_after_s) {
                    (429 | 503, Some(asked_s)) if asked_s <= ASKED_PAUSE_MAX_S => {
                        Some(pause.max(Duration::from_secs(asked_s)))
                    }
                    (429 | 503, Some(_)) => None,
                    (429 | 500..=599, _) => Some(pause),
                    _ => None,
                }
            }
            (Self::IfNotSent, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::refusal::Refusal;
    use super::*;

    fn refused(status: u16, retry_after_s: Option<u64>) -> Failure {
        Failure::Refused(Refusal::read(status, None, retry_after_s, b"", &[]))
    }

    #[test]
    fn a_read_is_repeated_unless_the_answer_is_final() {
        let repeated = |failure: &Failure| Repeat::Always.pause(failure, 1, 0.5);
        assert_eq!(repeated(&Failure::NotSent(String::new())), Some(PAUSE));
        assert_eq!(repeated(&Failure::NoAnswer(String::new())), Some(PAUSE));
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(repeated(&refused(status, None)), Some(PAUSE), "{status}");
        }
        for status in [302, 400, 401, 403, 404, 412] {
            assert_eq!(repeated(&refused(status, None)), None, "{status}");
        }
    }

    #[test]
    fn the_hub_may_ask_for_a_short_pause_and_not_for_a_long_one() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(Repeat::Always.pause(&refused(429, Some(1)), 1, 0.5), second);
        assert_eq!(Repeat::Always.pause(&refused(429, Some(60)), 1, 0.5), None);
    }

    #[test]
    fn a_change_is_repeated_only_when_it_was_not_sent() {
        let repeated = |failure: &Failure| Repeat::IfNotSent.pause(failure, 1, 0.5);
        assert_eq!(repeated(&Failure::NotSent(String::new())), Some(PAUSE));
        assert_eq!(repeated(&Failure::NoAnswer(String::new())), None);
        for status in [429, 500, 503, 504] {
            assert_eq!(repeated(&refused(status, Some(0))), None, "{status}");
        }
    }

    #[test]
    fn attempts_end_and_pauses_grow_and_scatter() {
        let failure = Failure::NotSent(String::new());
        assert_eq!(Repeat::Always.pause(&failure, 2, 0.5), Some(PAUSE * 2));
        assert_eq!(Repeat::Always.pause(&failure, 3, 0.5), None);
        assert_eq!(Repeat::IfNotSent.pause(&failure, 2, 0.5), None);
        assert_eq!(Repeat::Always.pause(&failure, 1, 0.0), Some(PAUSE / 2));
        assert_eq!(Repeat::Always.pause(&failure, 1, 1.0), Some(PAUSE * 3 / 2));
    }
}
