//! How many calls are passed on to the IoT hub, so that it need not throttle, and who gets them when they run short.
//!
//! There is one token bucket for each kind of call that the hub throttles apart. It guarantees that
//! - never more is taken than the bucket held at first plus what has flowed in since;
//! - while there is plenty, anyone may take. The lower part of the bucket is for those who have not used their share: the
//!   more sessions are active, the more of it. Whoever calls no more often than its share is not refused on account of
//!   others who do;
//! - nothing waits: a call passes or is refused at once, with the time after which it is worth another try;
//! - memory is bounded: sessions that have not called for a while are forgotten, and while there are too many to be told
//!   apart, those that came last share one account.
//!
//! Pure: it reads no clock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use super::tier::CallsPerSecond;
use crate::domain::id::SessionId;

/// Who asks for a call; `None` is the relay itself, or an administrator.
pub(super) type Asker = Option<SessionId>;

/// Seconds of the rate that a bucket holds.
const BURST_S: f64 = 2.0;

/// Least that a bucket holds, so that the largest call fits into it.
const BURST_MIN: f64 = 64.0;

/// Sessions that are told apart.
const SESSIONS_MAX: usize = 16_384;

/// How long a session counts as active after it has called.
const ACTIVE: Duration = Duration::from_secs(10);

/// Shortest time between two sweeps for sessions that are no longer active.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What the hub throttles apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    DirectMethod,
    TwinRead,
    TwinUpdate,
}

/// The buckets of all kinds.
#[derive(Debug)]
pub(super) struct Budget {
    direct_methods: Bucket,
    twin_reads: Bucket,
    twin_updates: Bucket,
}

/// The call is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Whole seconds after which it is worth another try; at least one.
    pub(super) retry_after_s: u64,
}

impl Budget {
    /// Buckets that fill at these rates.
    pub(super) fn new(rates: CallsPerSecond, now: Instant) -> Self {
        Self {
            direct_methods: Bucket::new(rates.direct_methods, now),
            twin_reads: Bucket::new(rates.twin_reads, now),
            twin_updates: Bucket::new(rates.twin_updates, now),
        }
    }

    /// Takes what a call costs, or nothing.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        asker: Asker,
        cost: u32,
        now: Instant,
    ) -> Result<(), Refused> {
        let bucket = match kind {
            Kind::DirectMethod => &mut self.direct_methods,
            Kind::TwinRead => &mut self.twin_reads,
            Kind::TwinUpdate => &mut self.twin_updates,
        };
        bucket.take(asker, cost, now)
    }
}

/// A token bucket with an account for each active session.
#[derive(Debug)]
struct Bucket {
    per_s: f64,
    capacity: f64,
    level: f64,
    filled_at: Instant,
    accounts: HashMap<Asker, Account>,
    /// Of those that came when no further ones could be told apart.
    shared_account: Option<Account>,
    swept_at: Instant,
}

/// What one session has used: grows by what it takes, and shrinks at the rate of its share.
#[derive(Clone, Copy, Debug)]
struct Account {
    used: f64,
    seen_at: Instant,
}

impl Bucket {
    fn new(per_s: u32, now: Instant) -> Self {
        let per_s = f64::from(per_s);
        let capacity = (per_s * BURST_S).max(BURST_MIN);
        Self {
            per_s,
            capacity,
            level: capacity,
            filled_at: now,
            accounts: HashMap::new(),
            shared_account: None,
            swept_at: now,
        }
    }

    fn take(&mut self, asker: Asker, cost: u32, now: Instant) -> Result<(), Refused> {
        let cost = f64::from(cost.max(1)).min(self.capacity);
        self.fill(now);
        self.sweep(now);

        let (per_s, capacity, level) = (self.per_s, self.capacity, self.level);
        let fresh = Account {
            used: 0.0,
            seen_at: now,
        };
        let has_place = self.accounts.len() < SESSIONS_MAX || self.accounts.contains_key(&asker);
        let known = self.accounts.len() + usize::from(self.shared_account.is_some());
        let (account, active) = if has_place {
            match self.accounts.entry(asker) {
                Entry::Occupied(entry) => (entry.into_mut(), known),
                Entry::Vacant(entry) => (entry.insert(fresh), known + 1),
            }
        } else {
            let active = self.accounts.len() + 1;
            (self.shared_account.get_or_insert(fresh), active)
        };
        let share = Share::of(active, per_s, capacity);
        account.shrink(share.per_s, now);

        let wait_s = if level < cost {
            (cost - level) / per_s
        } else if account.used <= share.burst || level - cost >= share.reserve {
            account.used = (account.used + cost).min(capacity);
            self.level -= cost;
            return Ok(());
        } else {
            let until_within_share = (account.used - share.burst) / share.per_s;
            let until_plenty = (share.reserve + cost - level) / per_s;
            until_within_share.min(until_plenty)
        };
        Err(Refused {
            retry_after_s: whole_s(wait_s),
        })
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        self.level = (self.level + elapsed.as_secs_f64() * self.per_s).min(self.capacity);
        self.filled_at = self.filled_at.max(now);
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept_at) < SWEEP_INTERVAL {
            return;
        }
        self.swept_at = now;
        let is_active = |account: &Account| now.saturating_duration_since(account.seen_at) < ACTIVE;
        self.accounts.retain(|_, account| is_active(account));
        self.shared_account = self.shared_account.filter(is_active);
    }
}

impl Account {
    fn shrink(&mut self, per_s: f64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.seen_at);
        self.used = (self.used - elapsed.as_secs_f64() * per_s).max(0.0);
        self.seen_at = self.seen_at.max(now);
    }
}

/// What is due to each of some active sessions.
///
/// The shares of all together are half of the bucket at once and all of the rate, so while the rest of the bucket is
/// held in reserve for them, none of them finds it empty. A session that is alone leaves a quarter, for one that comes.
struct Share {
    per_s: f64,
    burst: f64,
    reserve: f64,
}

impl Share {
    fn of(active: usize, per_s: f64, capacity: f64) -> Self {
        let active = f64::from(u32::try_from(active.max(1)).unwrap_or(u32::MAX));
        let half = capacity / 2.0;
        Self {
            per_s: per_s / active,
            burst: half / active,
            reserve: half * active / (active + 1.0),
        }
    }
}

fn whole_s(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(1, |wait| wait.as_secs() + 1)
}

#[cfg(test)]
mod tests;
