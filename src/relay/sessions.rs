//! All sessions of the relay, by id, and the ids of those that are over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::outbox::{SharedOutbox, SkippedTotals};
use super::{NoSuchSession, Settings, TooManySessions};
use crate::clock::SharedClock;
use crate::domain::id::SessionId;
use crate::domain::limits::OutboxLimits;
use crate::domain::outbox::Skipped;
use crate::domain::session::{ConnectionNumber, Session};
use crate::domain::tombstones::Tombstones;

/// How many retired ids are remembered.
const TOMBSTONES_MAX: usize = 200_000;

/// One session, with the lock that makes its changes take turns.
#[derive(Debug)]
pub(super) struct SessionEntry {
    pub(super) id: SessionId,
    pub(super) session: Arc<tokio::sync::Mutex<Session>>,
    pub(super) outbox: Arc<SharedOutbox>,
}

/// How many sessions there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions created since the start.
    pub created: u64,
    /// Sessions retired since the start.
    pub retired: u64,
    /// Sessions that exist.
    pub active: usize,
    /// Those of them that have a connection.
    pub bound: usize,
}

/// All sessions of the relay.
#[derive(Debug)]
pub(super) struct Sessions {
    entries: RwLock<HashMap<SessionId, Arc<SessionEntry>>>,
    tombstones: Mutex<Tombstones>,
    bound: AtomicUsize,
    created: AtomicU64,
    connections: AtomicU64,
    sessions_max: usize,
    unbound_sessions_max: usize,
    outbox_limits: OutboxLimits,
    skipped: Arc<SkippedTotals>,
    clock: SharedClock,
    started_at: Instant,
}

impl Sessions {
    pub(super) fn new(settings: &Settings, clock: SharedClock) -> Self {
        Self {
            entries: RwLock::new(HashMap::new()),
            tombstones: Mutex::new(Tombstones::new(TOMBSTONES_MAX)),
            bound: AtomicUsize::new(0),
            created: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            sessions_max: settings.sessions_max,
            unbound_sessions_max: settings.unbound_sessions_max,
            outbox_limits: settings.outbox_limits,
            skipped: Arc::default(),
            started_at: clock.monotonic(),
            clock,
        }
    }

    pub(super) fn create(&self) -> Result<SessionId, TooManySessions> {
        let id = SessionId::issue(self.clock.unix_ms(), rand::random());
        let entry = Arc::new(SessionEntry {
            id,
            session: Arc::new(tokio::sync::Mutex::new(Session::new(self.now_ms()))),
            outbox: Arc::new(SharedOutbox::new(self.outbox_limits, self.skipped.clone())),
        });
        let mut entries = self.entries.write();
        let unbound = entries
            .len()
            .saturating_sub(self.bound.load(Ordering::Relaxed));
        if entries.len() >= self.sessions_max || unbound >= self.unbound_sessions_max {
            return Err(TooManySessions);
        }
        entries.insert(id, entry);
        self.created.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    pub(super) fn get(&self, id: SessionId) -> Result<Arc<SessionEntry>, NoSuchSession> {
        self.entries.read().get(&id).cloned().ok_or(NoSuchSession)
    }

    pub(super) fn all(&self) -> Vec<Arc<SessionEntry>> {
        self.entries.read().values().cloned().collect()
    }

    /// Forgets a session that was retired, all but its id.
    pub(super) fn forget(&self, id: SessionId, was_bound: bool) {
        // The tombstone first: at no time is the id unknown.
        self.tombstones.lock().insert(id, self.now_ms());
        self.entries.write().remove(&id);
        if was_bound {
            self.count_unbound();
        }
    }

    pub(super) fn was_retired(&self, id: SessionId) -> bool {
        self.tombstones.lock().contains(id)
    }

    pub(super) fn next_connection(&self) -> ConnectionNumber {
        ConnectionNumber(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn count_bound(&self, newly: bool) {
        self.bound.fetch_add(usize::from(newly), Ordering::Relaxed);
    }

    pub(super) fn count_unbound(&self) {
        self.bound.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> SessionCounts {
        let active = self.entries.read().len();
        let created = self.created.load(Ordering::Relaxed);
        SessionCounts {
            created,
            retired: created.saturating_sub(active as u64),
            active,
            bound: self.bound.load(Ordering::Relaxed),
        }
    }

    pub(super) fn skipped(&self) -> Skipped {
        self.skipped.get()
    }

    /// Milliseconds since the relay started.
    pub(super) fn now_ms(&self) -> u64 {
        let elapsed = self
            .clock
            .monotonic()
            .saturating_duration_since(self.started_at);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}
