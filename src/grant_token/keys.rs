//! The key set in use, and the task that keeps it fresh.
//!
//! The task fetches at start, then at a fixed interval, so that a key that was taken out of the set stops being
//! accepted, and when a token names a key that is not there, so that a new key is accepted at once. Of the last kind
//! there is at most one within [`Timing::on_demand_interval`], whatever arrives. A fetch that fails changes nothing:
//! the keys from before hold, and it is tried again soon.

mod fetch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::fetch::FetchError;
use super::error::TokenError;
use super::jws::{Algorithm, Jws};
use super::key_set::KeySet;
use crate::config::KeySetLocation;
use crate::lifecycle::Lifecycle;
use crate::telemetry::metrics::{GrantTokenMetrics, KeyFetch};

/// Tokens that may wait for a fetch at once; one more is refused without waiting.
const ASKS_MAX: usize = 1024;

/// How patient the task is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// How long one fetch may take.
    pub(super) fetch_timeout: Duration,
    /// How long after a fetch that failed the next one is made.
    pub(super) retry_interval: Duration,
    /// Least time between two fetches that unknown keys cause.
    pub(super) on_demand_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            fetch_timeout: Duration::from_secs(5),
            retry_interval: Duration::from_secs(10),
            on_demand_interval: Duration::from_secs(10),
        }
    }
}

/// The key set in use.
pub(super) struct Keys {
    published: watch::Receiver<Published>,
    asks: mpsc::Sender<Ask>,
}

/// What the task has fetched.
#[derive(Clone, Debug, Default)]
struct Published {
    /// The newest key set; `None` before the first one.
    set: Option<Arc<KeySet>>,
    /// How many fetches have ended, well or not.
    fetches: u64,
}

/// Somebody needs keys that are not there.
struct Ask {
    /// After how many fetches they were not there.
    seen_fetches: u64,
    /// Dropped when it makes sense to look again.
    _done: oneshot::Sender<Infallible>,
}

impl Keys {
    /// Starts the task, which ends when `lifecycle` stops.
    pub(super) fn start(
        location: KeySetLocation,
        refresh_interval: Duration,
        timing: Timing,
        metrics: Arc<GrantTokenMetrics>,
        lifecycle: &Lifecycle,
    ) -> Self {
        let (publish, published) = watch::channel(Published::default());
        let (ask, asks) = mpsc::channel(ASKS_MAX);
        let keeper = Keeper {
            location,
            refresh_interval,
            timing,
            metrics,
            publish,
            asks,
            is_failing: false,
        };
        let stop = lifecycle.stop.clone();
        lifecycle.spawn("grant token keys", async move {
            keeper.run(stop).await;
            Ok::<_, Infallible>(())
        });
        Self {
            published,
            asks: ask,
        }
    }

    /// Whether a token is signed with the key of this set that it names.
    pub(super) async fn verify(
        &self,
        algorithm: Algorithm,
        jws: &Jws<'_>,
    ) -> Result<(), TokenError> {
        let published = self.published.borrow().clone();
        match published.verify(algorithm, jws) {
            Err(
                TokenError::KeyUnknown { .. }
                | TokenError::KeyNotNamed { .. }
                | TokenError::KeysUnavailable,
            ) => {
                self.fetched_after(published.fetches).await;
                let published = self.published.borrow().clone();
                published.verify(algorithm, jws)
            }
            verified => verified,
        }
    }

    /// Waits until there was another fetch than those that were seen, or none is to be expected.
    async fn fetched_after(&self, seen_fetches: u64) {
        let (done, is_done) = oneshot::channel();
        let ask = Ask {
            seen_fetches,
            _done: done,
        };
        if self.asks.try_send(ask).is_ok() {
            // Nothing is ever sent: the task drops its end.
            let _ = is_done.await;
        }
    }
}

impl Published {
    fn verify(&self, algorithm: Algorithm, jws: &Jws<'_>) -> Result<(), TokenError> {
        let set = self.set.as_ref().ok_or(TokenError::KeysUnavailable)?;
        let key = set.find(algorithm, jws.key_id.as_deref())?;
        key.verify(jws.signed, &jws.signature)
    }
}

/// The task.
struct Keeper {
    location: KeySetLocation,
    refresh_interval: Duration,
    timing: Timing,
    metrics: Arc<GrantTokenMetrics>,
    publish: watch::Sender<Published>,
    asks: mpsc::Receiver<Ask>,
    is_failing: bool,
}

impl Keeper {
    async fn run(mut self, stop: CancellationToken) {
        let mut next_fetch = Instant::now();
        let mut on_demand_from = Instant::now();
        loop {
            // Held until the fetch that it caused has ended.
            let _ask = tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(next_fetch) => None,
                ask = self.asks.recv() => match ask {
                    None => return,
                    Some(ask) if ask.seen_fetches < self.publish.borrow().fetches => continue,
                    Some(_) if Instant::now() < on_demand_from => continue,
                    Some(ask) => {
                        on_demand_from = Instant::now() + self.timing.on_demand_interval;
                        Some(ask)
                    }
                },
            };
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = fetch::key_set(&self.location, self.timing.fetch_timeout) => fetched,
            };
            let pause = if fetched.is_ok() {
                self.refresh_interval
            } else {
                self.timing.retry_interval.min(self.refresh_interval)
            };
            self.take(fetched);
            next_fetch = Instant::now() + pause;
        }
    }

    fn take(&mut self, fetched: Result<KeySet, FetchError>) {
        match fetched {
            Ok(set) => {
                self.metrics.key_fetches.inc(KeyFetch::Succeeded);
                self.metrics
                    .keys
                    .set(i64::try_from(set.len()).unwrap_or(i64::MAX));
                self.report(&set);
                self.is_failing = false;
                self.publish.send_modify(|published| {
                    published.set = Some(Arc::new(set));
                    published.fetches += 1;
                });
            }
            Err(error) => {
                self.metrics.key_fetches.inc(KeyFetch::Failed);
                // Said once, and then again when it works.
                if !self.is_failing {
                    warn!(error.message = %error, "the keys of grant tokens cannot be fetched; those from before stay in use");
                }
                self.is_failing = true;
                self.publish.send_modify(|published| published.fetches += 1);
            }
        }
    }

    /// Says what is in a key set that is new, or that comes after a failure.
    fn report(&self, set: &KeySet) {
        let is_news = match &self.publish.borrow().set {
            Some(before) => self.is_failing || !set.looks_like(before),
            None => true,
        };
        if !is_news {
            return;
        }
        info!(
            keys.count = set.len(),
            "the keys of grant tokens were fetched"
        );
        for (unfit, count) in &set.left_out {
            warn!(keys.count = count, keys.reason = %unfit, "keys of grant tokens cannot be used");
        }
    }
}
