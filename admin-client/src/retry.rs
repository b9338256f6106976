//! When a failed call is made again, and after which pause.

use std::time::Duration;

use crate::Error;

/// How often and how fast a call is made again, where that is safe.
///
/// | call | made again after |
/// |---|---|
/// | reads; `PUT` and `DELETE` of grants, subscriptions and sessions; the log level | no connection, a lost connection, 502, 503, 504 |
/// | deleting last values, whose answer tells what was deleted | no connection |
/// | creating a session, changes of a twin | no connection |
/// | direct methods; version, status, health, readiness, metrics, which ask how things are now | nothing |
///
/// "No connection" means that the request cannot have been received. A call that ran into its time-out is never made
/// again: its time is used up. A `Retry-After` lengthens the pause; one longer than `pause_max` ends the call.
///
/// A call and its repetitions are one call that ends when it returns: a revocation is certain to win over a grant
/// only when it begins after the grant has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is made at most, the first time included. One means never again; zero counts as one.
    pub attempts_max: u32,
    /// Longest pause before the second attempt. The pause doubles for each further one, and half of it is random, so
    /// that many clients do not come back at once.
    pub pause_min: Duration,
    /// Longest pause of all.
    pub pause_max: Duration,
}

impl RetryPolicy {
    /// Calls are made once.
    pub const NEVER: Self = Self {
        attempts_max: 1,
        pause_min: Duration::ZERO,
        pause_max: Duration::ZERO,
    };

    /// The pause after the failure of attempt number `attempt`, counted from one; `None` when it was the last.
    pub(crate) fn pause(&self, attempt: u32, error: &Error) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let longest = self
            .pause_min
            .saturating_mul(1 << doublings)
            .min(self.pause_max);
        let pause = longest.mul_f64(rand::random_range(0.5..=1.0));
        match error {
            Error::Status {
                retry_after: Some(wanted),
                ..
            } => (*wanted <= self.pause_max).then(|| pause.max(*wanted)),
            _ => Some(pause),
        }
    }
}

/// Three attempts, with pauses of at most 200 ms and 400 ms.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            pause_min: Duration::from_millis(200),
            pause_max: Duration::from_secs(2),
        }
    }
}

/// After which failures a call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The second time does what the first did, and is answered alike.
    Safe,
    /// Only when the relay has not seen the call.
    IfUnseen,
    /// The caller wants to know how things are now, or to say itself what happens twice.
    Never,
}

impl Repeat {
    pub(crate) fn allowed_after(self, error: &Error) -> bool {
        match error {
            Error::Unreachable(_) => self != Self::Never,
            Error::Interrupted(_)
            | Error::Status {
                status: 502..=504, ..
            } => self == Self::Safe,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<Duration>) -> Error {
        Error::Status {
            status,
            message: String::new(),
            retry_after,
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_half_of_each_is_random() {
        let policy = RetryPolicy {
            attempts_max: 40,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_millis(350),
        };
        for (attempt, longest_ms) in [(1, 100), (2, 200), (3, 350), (39, 350)] {
            let longest = Duration::from_millis(longest_ms);
            for _ in 0..100 {
                let pause = policy.pause(attempt, &Error::TimedOut).unwrap();
                assert!(pause >= longest / 2 && pause <= longest, "{pause:?}");
            }
        }
        assert_eq!(policy.pause(40, &Error::TimedOut), None);
        assert_eq!(RetryPolicy::NEVER.pause(1, &Error::TimedOut), None);
    }

    #[test]
    fn retry_after_lengthens_the_pause_and_one_that_is_too_long_ends_the_call() {
        let policy = RetryPolicy::default();
        let second = Duration::from_secs(1);
        let pause = |wanted| policy.pause(1, &status(503, Some(wanted)));
        assert_eq!(pause(second), Some(second));
        assert_eq!(pause(60 * second), None);
    }

    #[test]
    fn only_what_may_have_been_lost_is_repeated() {
        for (code, safe) in [
            (400, false),
            (401, false),
            (404, false),
            (408, false),
            (429, false),
            (500, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            let error = status(code, None);
            assert_eq!(Repeat::Safe.allowed_after(&error), safe, "{code}");
            assert!(!Repeat::IfUnseen.allowed_after(&error), "{code}");
            assert!(!Repeat::Never.allowed_after(&error), "{code}");
        }
        assert!(!Repeat::Safe.allowed_after(&Error::TimedOut));
    }
}
