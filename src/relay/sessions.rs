//! All sessions of the relay, by id, and the ids of those that are over.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::OwnedMutexGuard;

use super::outbox::SharedOutbox;
use super::{NoSuchSession, Settings, TooManySessions, change};
use crate::clock::SharedClock;
use crate::domain::id::SessionId;
use crate::domain::limits::OutboxLimits;
use crate::domain::session::{ConnectionNumber, Session};
use crate::domain::tombstones::Tombstones;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{RelayMetrics, SessionMetrics, SessionRefusal};

/// How many retired ids are remembered.
const TOMBSTONES_MAX: usize = 200_000;

/// A session that has just been created is given this long to be connected to or granted something.
const EVICTION_AGE_MS: u64 = 10_000;

/// How many unused sessions go at once when there are too many; so many that looking for them is rare.
const EVICTED_AT_ONCE: usize = 1_000;

/// One session, with the lock that makes its changes take turns.
#[derive(Debug)]
pub(super) struct SessionEntry {
    pub(super) id: SessionId,
    pub(super) session: Arc<tokio::sync::Mutex<Session>>,
    pub(super) outbox: Arc<SharedOutbox>,
    /// The moment at which it is looked for what has run out of it.
    pub(super) expires_at_unix_ms: Mutex<Option<i64>>,
}

/// A session whose turn has been waited for. Its end brings the metrics up to date.
#[derive(Debug)]
pub(super) struct SessionTurn {
    session: OwnedMutexGuard<Session>,
    grants_before: usize,
    subscriptions_before: usize,
    metrics: Arc<SessionMetrics>,
}

impl Deref for SessionTurn {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for SessionTurn {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Drop for SessionTurn {
    fn drop(&mut self) {
        let grants = change(self.grants_before, self.session.grant_count());
        self.metrics.grants.inc_by(grants);
        let subscriptions = change(self.subscriptions_before, self.session.subscription_count());
        self.metrics.subscriptions.inc_by(subscriptions);
    }
}

/// All sessions of the relay.
#[derive(Debug)]
pub(super) struct Sessions {
    entries: RwLock<HashMap<SessionId, Arc<SessionEntry>>>,
    tombstones: Mutex<Tombstones>,
    bound: AtomicUsize,
    connections: AtomicU64,
    entries_max: usize,
    unbound_entries_max: usize,
    outbox_limits: Arc<OutboxLimits>,
    metrics: Arc<SessionMetrics>,
    relay_metrics: Arc<RelayMetrics>,
    clock: SharedClock,
    started_at: Instant,
}

impl Sessions {
    pub(super) fn new(settings: &Settings, clock: SharedClock, metrics: &Metrics) -> Self {
        Self {
            entries: RwLock::new(HashMap::new()),
            tombstones: Mutex::new(Tombstones::new(TOMBSTONES_MAX)),
            bound: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            entries_max: settings.sessions_max,
            unbound_entries_max: settings.unbound_sessions_max,
            outbox_limits: Arc::new(settings.outbox_limits),
            metrics: metrics.sessions.clone(),
            relay_metrics: metrics.relay.clone(),
            started_at: clock.monotonic(),
            clock,
        }
    }

    pub(super) fn create(&self) -> Result<SessionId, TooManySessions> {
        let id = SessionId::issue(self.clock.unix_ms(), rand::random());
        let entry = Arc::new(SessionEntry {
            id,
            session: Arc::new(tokio::sync::Mutex::new(Session::new(self.now_ms()))),
            outbox: Arc::new(SharedOutbox::new(
                self.outbox_limits.clone(),
                self.relay_metrics.clone(),
            )),
            expires_at_unix_ms: Mutex::new(None),
        });
        if self.unbound(self.entries.read().len()) >= self.unbound_entries_max {
            self.evict_unused();
        }
        let mut entries = self.entries.write();
        let unbound = self.unbound(entries.len());
        let refusal = if entries.len() >= self.entries_max {
            Some(SessionRefusal::SessionsFull)
        } else if unbound >= self.unbound_entries_max {
            Some(SessionRefusal::UnboundSessionsFull)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.refuse(refusal);
            return Err(TooManySessions);
        }
        entries.insert(id, entry);
        self.metrics.created.inc();
        self.metrics.active.inc();
        Ok(id)
    }

    fn unbound(&self, entries: usize) -> usize {
        entries.saturating_sub(self.bound.load(Ordering::Relaxed))
    }

    /// Makes room by ending the oldest sessions that nobody ever connected to or granted anything, so that whoever only
    /// creates sessions locks nobody out.
    fn evict_unused(&self) {
        let now_ms = self.now_ms();
        let mut unused: Vec<_> = self
            .all()
            .into_iter()
            .filter_map(|entry| Some((entry.id, self.try_turn(&entry)?)))
            .filter(|(_, session)| session.is_unused_for(EVICTION_AGE_MS, now_ms))
            .collect();
        unused.sort_unstable_by_key(|(id, _)| *id);
        unused.truncate(EVICTED_AT_ONCE);
        for (id, mut session) in unused {
            session.retire();
            self.forget(id, false);
        }
    }

    pub(super) fn get(&self, id: SessionId) -> Result<Arc<SessionEntry>, NoSuchSession> {
        self.entries.read().get(&id).cloned().ok_or(NoSuchSession)
    }

    /// Waits for a session's turn.
    pub(super) async fn turn(&self, entry: &SessionEntry) -> SessionTurn {
        self.begin_turn(entry.session.clone().lock_owned().await)
    }

    /// Takes a session's turn unless something else has it.
    pub(super) fn try_turn(&self, entry: &SessionEntry) -> Option<SessionTurn> {
        Some(self.begin_turn(entry.session.clone().try_lock_owned().ok()?))
    }

    fn begin_turn(&self, session: OwnedMutexGuard<Session>) -> SessionTurn {
        SessionTurn {
            grants_before: session.grant_count(),
            subscriptions_before: session.subscription_count(),
            session,
            metrics: self.metrics.clone(),
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<SessionEntry>> {
        self.entries.read().values().cloned().collect()
    }

    /// Forgets a session that was retired, all but its id.
    pub(super) fn forget(&self, id: SessionId, was_bound: bool) {
        // The tombstone first: at no time is the id unknown.
        self.tombstones.lock().insert(id, self.now_ms());
        self.entries.write().remove(&id);
        self.metrics.retired.inc();
        self.metrics.active.dec();
        if was_bound {
            self.count_unbound();
        }
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, refusal: SessionRefusal) {
        self.metrics.refused.inc(refusal);
    }

    pub(super) fn was_retired(&self, id: SessionId) -> bool {
        self.tombstones.lock().contains(id)
    }

    pub(super) fn next_connection(&self) -> ConnectionNumber {
        ConnectionNumber(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn count_bound(&self, newly: bool) {
        if newly {
            self.bound.fetch_add(1, Ordering::Relaxed);
            self.metrics.bound.inc();
        }
    }

    pub(super) fn count_unbound(&self) {
        self.bound.fetch_sub(1, Ordering::Relaxed);
        self.metrics.bound.dec();
    }

    /// Milliseconds since the relay started.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.ms_since(self.started_at)
    }
}
