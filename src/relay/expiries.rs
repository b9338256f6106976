//! When something of a session runs out, so that it ends at its moment and not when somebody next looks.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Relay;
use super::sessions::SessionEntry;
use crate::domain::id::SessionId;

/// Longest sleep. The wall clock may be set while it lasts, and with it what is due.
const SLEEP_MAX_MS: i64 = 10_000;

/// The first moment of each session at which something of it runs out.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    by_unix_ms: Mutex<BTreeSet<(i64, SessionId)>>,
    changed: Notify,
}

impl Expiries {
    /// Says when something of a session next runs out; the answer before is forgotten.
    pub(super) fn arm(&self, entry: &SessionEntry, expires_at_unix_ms: Option<i64>) {
        let mut armed = entry.expires_at_unix_ms.lock();
        if *armed == expires_at_unix_ms {
            return;
        }
        let mut by_unix_ms = self.by_unix_ms.lock();
        if let Some(before) = std::mem::replace(&mut *armed, expires_at_unix_ms) {
            by_unix_ms.remove(&(before, entry.id));
        }
        if let Some(now) = expires_at_unix_ms {
            by_unix_ms.insert((now, entry.id));
        }
        drop(by_unix_ms);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<i64> {
        self.by_unix_ms.lock().first().map(|(unix_ms, _)| *unix_ms)
    }

    fn take_due(&self, now_unix_ms: i64) -> Vec<SessionId> {
        let mut by_unix_ms = self.by_unix_ms.lock();
        let mut due = Vec::new();
        while let Some(first) = by_unix_ms.first().copied() {
            if first.0 > now_unix_ms {
                break;
            }
            by_unix_ms.remove(&first);
            due.push(first.1);
        }
        due
    }
}

impl Relay {
    /// Ends what runs out, at its moment.
    pub(super) async fn expire_in_time(&self) {
        let expiries = &self.inner.expiries;
        loop {
            let now_unix_ms = self.inner.clock.unix_ms();
            for session in expiries.take_due(now_unix_ms) {
                let Ok(entry) = self.inner.sessions.get(session) else {
                    continue;
                };
                *entry.expires_at_unix_ms.lock() = None;
                let relay = self.clone();
                // Side by side: a stuck connection of one session must not keep another's grants alive.
                self.inner.tasks.spawn(async move {
                    // Taking the turn is what ends it, unless the wall clock was set back since.
                    if let Ok(session) = relay.lock(&entry).await {
                        let next = session.next_expiry_unix_ms();
                        relay.inner.expiries.arm(&entry, next);
                    }
                });
            }
            let sleep_ms = expiries
                .next()
                .map(|next| next.saturating_sub(now_unix_ms).clamp(1, SLEEP_MAX_MS));
            let sleep_ms = u64::try_from(sleep_ms.unwrap_or(SLEEP_MAX_MS)).unwrap_or_default();
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = expiries.changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(sleep_ms)) => {}
            }
        }
    }
}
