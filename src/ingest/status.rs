//! How the source is, for `GET /status` and the health endpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A source that confirmed nothing for this long counts as lost, whatever the thread that should say so is doing.
const CONFIRMATION_MAX: Duration = Duration::from_secs(15);

/// How far start-up got. It never goes back: losing the source later is told by [`Status::source_lost_since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The source was not reached yet.
    Initializing,
    /// The source was reached at least once.
    Running,
    /// A connection string cannot be understood; nothing will be read.
    Malformed(Malformed),
}

/// Which connection string cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// That of the event hub.
    EventHub,
    /// That of the IoT hub's service API.
    IotHub,
}

/// The state of the source. Clones share it.
#[derive(Clone, Debug)]
pub struct Status {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    lost_since: Option<Instant>,
    confirmed: Instant,
}

impl Status {
    /// The state at start-up.
    pub fn new() -> Self {
        let inner = Inner {
            state: State::Initializing,
            lost_since: None,
            confirmed: Instant::now(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// How far start-up got.
    pub fn state(&self) -> State {
        self.inner.lock().state
    }

    /// Since when the source cannot be read; `None` while it can. Before the first contact this counts from start-up.
    pub fn source_lost_since(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        inner.lost_since.or_else(|| {
            let silent = inner.confirmed.elapsed() > CONFIRMATION_MAX;
            silent.then_some(inner.confirmed)
        })
    }

    /// A connection string cannot be understood.
    pub fn malformed(&self, which: Malformed) {
        self.inner.lock().state = State::Malformed(which);
    }

    /// The source is being read.
    pub fn confirm(&self) {
        let mut inner = self.inner.lock();
        if inner.state == State::Initializing {
            inner.state = State::Running;
        }
        inner.lost_since = None;
        inner.confirmed = Instant::now();
    }

    /// The source cannot be read, wholly or in part.
    pub fn lose(&self) {
        self.inner
            .lock()
            .lost_since
            .get_or_insert_with(Instant::now);
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_once_reached_keeps_the_service_running() {
        let status = Status::new();
        assert_eq!(status.state(), State::Initializing);
        status.lose();
        assert_eq!(status.state(), State::Initializing);
        status.confirm();
        assert_eq!(status.state(), State::Running);
        status.lose();
        assert_eq!(status.state(), State::Running);
    }

    #[test]
    fn a_loss_counts_from_its_beginning_until_the_source_is_back() {
        let status = Status::new();
        assert_eq!(status.source_lost_since(), None);
        status.lose();
        let since = status.source_lost_since();
        assert!(since.is_some());
        status.lose();
        assert_eq!(status.source_lost_since(), since);
        status.confirm();
        assert_eq!(status.source_lost_since(), None);
    }

    #[test]
    fn an_iot_hub_string_that_is_malformed_stays_so_while_events_flow() {
        let status = Status::new();
        status.malformed(Malformed::IotHub);
        status.confirm();
        assert_eq!(status.state(), State::Malformed(Malformed::IotHub));
    }
}
