//! What the source of device messages is doing, as ingest sees it and as the API reports it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

/// The state of the source. Clones share it.
#[derive(Clone, Debug)]
pub struct Status {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    lost_since: Option<Instant>,
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No device message can have been received yet.
    Initializing,
    /// Device messages are received; a connection lost later does not change this.
    Running,
    /// A connection string cannot be understood, so there is no point in trying.
    Misformed(ConnectionString),
}

/// The connection strings that an operator may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionString {
    /// That of the event hub.
    EventHub,
    /// That of the IoT hub's service API.
    IotHub,
}

impl Status {
    /// The state at start.
    pub fn new(phase: Phase) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                phase,
                lost_since: None,
            })),
        }
    }

    /// How far the start has come.
    pub fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Since when no device message can be received; `None` while the source is connected, or while nothing was tried yet.
    pub fn source_lost_since(&self) -> Option<Instant> {
        self.state.lock().lost_since
    }

    /// The source is connected. This also ends the start, unless a connection string is wrong.
    pub fn connected(&self) {
        let mut state = self.state.lock();
        state.lost_since = None;
        if state.phase == Phase::Initializing {
            state.phase = Phase::Running;
        }
    }

    /// The source is not connected. Saying so again does not move the time.
    pub fn lost(&self, now: Instant) {
        self.state.lock().lost_since.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_connection_lost_after_the_start_leaves_the_phase_alone() {
        let status = Status::new(Phase::Initializing);
        assert_eq!(status.phase(), Phase::Initializing);
        status.connected();
        let now = Instant::now();
        status.lost(now);
        status.lost(now + Duration::from_secs(1));
        assert_eq!(
            (status.phase(), status.source_lost_since()),
            (Phase::Running, Some(now))
        );
        status.connected();
        assert_eq!(status.source_lost_since(), None);
    }

    #[test]
    fn a_wrong_connection_string_stays_wrong() {
        let status = Status::new(Phase::Misformed(ConnectionString::IotHub));
        status.connected();
        assert_eq!(status.phase(), Phase::Misformed(ConnectionString::IotHub));
    }
}
