//! What can go wrong with a service API, on demand.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

/// Which faults meet requests from now on. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceFault {
    /// Answer with this status, from 400 to 599, without doing what was asked.
    pub status: Option<u16>,
    /// With `status`: the value of `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// Close the connection without an answer, and without doing what was asked.
    pub drop_connection: bool,
    /// Wait so long before anything else, in milliseconds.
    pub delay_ms: u32,
    /// How many requests are met; all until the next change when it is missing.
    pub requests: Option<u32>,
}

/// The switches as requests read them.
#[derive(Debug, Default)]
pub(crate) struct ServiceFaults(Mutex<ServiceFault>);

/// What meets one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) delay: Duration,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Handle,
    Answer {
        status: u16,
        retry_after_s: Option<u32>,
    },
    Drop,
}

impl ServiceFaults {
    pub(crate) fn set(&self, fault: ServiceFault) {
        *self.0.lock() = fault;
    }

    /// Counts one request, and says what it meets.
    pub(super) fn meet(&self) -> Met {
        let mut fault = self.0.lock();
        match &mut fault.requests {
            Some(0) => *fault = ServiceFault::default(),
            Some(left) => *left -= 1,
            None => {}
        }
        let outcome = match fault.status {
            _ if fault.drop_connection => Outcome::Drop,
            Some(status) => Outcome::Answer {
                status,
                retry_after_s: fault.retry_after_s,
            },
            None => Outcome::Handle,
        };
        Met {
            delay: Duration::from_millis(fault.delay_ms.into()),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLED: Met = Met {
        delay: Duration::ZERO,
        outcome: Outcome::Handle,
    };

    #[test]
    fn a_fault_meets_as_many_requests_as_it_says() {
        let faults = ServiceFaults::default();
        assert_eq!(faults.meet(), HANDLED);
        faults.set(ServiceFault {
            status: Some(429),
            retry_after_s: Some(3),
            delay_ms: 5,
            requests: Some(2),
            ..ServiceFault::default()
        });
        let met = Met {
            delay: Duration::from_millis(5),
            outcome: Outcome::Answer {
                status: 429,
                retry_after_s: Some(3),
            },
        };
        assert_eq!([faults.meet(), faults.meet()], [met, met]);
        assert_eq!(faults.meet(), HANDLED);
    }

    #[test]
    fn a_fault_without_number_lasts_until_it_is_switched_off() {
        let faults = ServiceFaults::default();
        faults.set(ServiceFault {
            drop_connection: true,
            ..ServiceFault::default()
        });
        for _ in 0..3 {
            assert_eq!(faults.meet().outcome, Outcome::Drop);
        }
        faults.set(ServiceFault::default());
        assert_eq!(faults.meet(), HANDLED);
    }
}
