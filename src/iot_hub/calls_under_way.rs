//! How many calls wait for the IoT hub's answer, in all and for each session, within bounds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::id::SessionId;
use crate::telemetry::metrics::Gauge;

/// The calls under way. Clones count the same ones.
#[derive(Clone, Debug)]
pub(super) struct CallsUnderWay {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    all_max: usize,
    per_session_max: usize,
    counts: Mutex<Counts>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_session: HashMap<SessionId, usize>,
}

/// The place of one call; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    inner: Arc<Inner>,
    session: SessionId,
}

impl CallsUnderWay {
    pub(super) fn new(all_max: usize, per_session_max: usize, gauge: Gauge) -> Self {
        Self {
            inner: Arc::new(Inner {
                all_max,
                per_session_max,
                counts: Mutex::default(),
                gauge,
            }),
        }
    }

    /// A place for one more call of a session; `None` when there are too many.
    pub(super) fn begin(&self, session: SessionId) -> Option<Place> {
        let inner = &self.inner;
        let mut counts = inner.counts.lock();
        let of_session = counts.by_session.get(&session).copied().unwrap_or(0);
        if counts.all >= inner.all_max || of_session >= inner.per_session_max {
            return None;
        }
        counts.all += 1;
        counts.by_session.insert(session, of_session + 1);
        inner.gauge.inc();
        Some(Place {
            inner: inner.clone(),
            session,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.inner.counts.lock();
        counts.all -= 1;
        if let Entry::Occupied(mut of_session) = counts.by_session.entry(self.session) {
            *of_session.get_mut() -= 1;
            if *of_session.get() == 0 {
                of_session.remove();
            }
        }
        self.inner.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8) -> SessionId {
        SessionId::issue(0, [number; 10])
    }

    #[test]
    fn a_session_has_so_many_places_and_all_together_have_so_many() {
        let calls = CallsUnderWay::new(3, 2, Gauge::default());
        let first = calls.begin(session(1)).unwrap();
        let _second = calls.begin(session(1)).unwrap();
        assert!(calls.begin(session(1)).is_none());
        let third = calls.begin(session(2)).unwrap();
        assert!(calls.begin(session(2)).is_none(), "three in all");
        assert_eq!(calls.inner.gauge.get(), 3);

        drop(third);
        assert!(calls.begin(session(1)).is_none(), "two of one session");
        drop(first);
        assert!(calls.begin(session(1)).is_some());
    }

    #[test]
    fn a_session_without_calls_is_forgotten() {
        let calls = CallsUnderWay::new(3, 2, Gauge::default());
        drop(calls.begin(session(1)));
        assert!(calls.inner.counts.lock().by_session.is_empty());
        assert_eq!(calls.inner.gauge.get(), 0);
    }
}
