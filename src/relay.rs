//! Joins sessions and shards: the one way in for `api`, `push` and `ingest`.
//!
//! Every change of what a session may see or wants to see goes through here, one after the other for each session, and
//! is finished even when whoever asked for it goes away. A call that takes something away (revocation, unsubscription,
//! deletion) returns only when nothing of it can leave any more: the shards have stopped producing it, the outbox has
//! dropped it, and a write that was under way has ended; a write that does not end in time is cut off.

mod connection;
mod expiries;
mod grants;
mod outbox;
mod sessions;
mod shards;
mod subscriptions;
mod twin_reads;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::connection::{
    Admission, Batch, Connection, EndReason, EndedSubscription, FirstTransport, Hold, Next, Opened,
    Recovery, Resume, Takes,
};
use self::expiries::Expiries;
pub use self::grants::{Authorization, TimedGrant};
use self::sessions::{SessionEntry, SessionTurn, Sessions};
use self::shards::{Shards, SubscriptionChange};
pub use self::subscriptions::{StartedAnew, Subscribed, SubscriptionRequest, Wanted};
pub use self::twin_reads::{ReadTwin, TwinReadError};
use self::twin_reads::{SHARD_READS_QUEUE, TwinReads};
use crate::clock::SharedClock;
use crate::domain::device_message::DeviceMessage;
use crate::domain::disconnect::Disconnect;
use crate::domain::grant::{Access, Denial};
use crate::domain::id::{DeviceId, SessionId, TelemetryKey};
use crate::domain::last_value::LastValue;
use crate::domain::limits::{OutboxLimits, SessionLimits};
use crate::domain::raw_json::RawJson;
use crate::domain::session::Session;
use crate::domain::shard::ShardSettings;
use crate::domain::subscription::Selection;
use crate::domain::time::Stamped;
use crate::domain::twin_view::TwinView;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;

/// How often sessions that nobody uses are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// How many sessions are ended side by side when all are: so many that stuck connections, each of which is waited for,
/// do not add up.
const ENDED_AT_ONCE: usize = 16_384;

/// How a relay behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number of shards, at least one.
    pub shards: usize,
    /// How each shard behaves; its limits are for one shard.
    pub shard: ShardSettings,
    /// What one session may ask for.
    pub session_limits: SessionLimits,
    /// What may wait for one client.
    pub outbox_limits: OutboxLimits,
    /// Sessions at one time; one more is refused.
    pub sessions_max: usize,
    /// Sessions without a connection at one time; one more is refused.
    pub unbound_sessions_max: usize,
    /// How long a revocation waits for a write that is under way before the connection is cut.
    pub write_wait: Duration,
    /// How long a native session outlives its connection with its subscriptions.
    pub resume_window_ms: u64,
    /// Most bytes, about, of the last values in one snapshot; a larger one is refused.
    pub snapshot_bytes_max: usize,
}

/// The session does not exist, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such session")]
pub struct NoSuchSession;

/// Why a grant was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The session does not exist, or no longer.
    #[error(transparent)]
    NoSuchSession(#[from] NoSuchSession),
    /// The session has as many grants as it may have.
    #[error("too many grants in one session")]
    TooMany,
}

/// Why a subscription was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The session does not exist, or no longer.
    #[error(transparent)]
    NoSuchSession(#[from] NoSuchSession),
    /// No grant covers the subscription.
    #[error("subscription is not granted")]
    NotGranted,
    /// The session would have more subscriptions than it may have.
    #[error("too many subscriptions in one session")]
    TooMany,
}

/// Why a native client gets no snapshot, and no subscriptions that come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The session does not exist, or no longer.
    #[error(transparent)]
    NoSuchSession(#[from] NoSuchSession),
    /// The session would have more subscriptions than it may have.
    #[error("too many subscriptions in one session")]
    TooManySubscriptions,
    /// The snapshot would be too large.
    #[error("snapshot would be too large")]
    TooLarge,
}

/// The relay has as many sessions as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many sessions")]
pub struct TooManySessions;

/// Sessions and shards, joined. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Relay {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    clock: SharedClock,
    sessions: Sessions,
    shards: Shards,
    expiries: Expiries,
    twin_reads: TwinReads,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Relay {
    /// Starts the shards on the current runtime; one that crashes stops the program. [`stop`](Self::stop) ends them. The
    /// `hub` is asked for twins and connection states.
    pub fn start(
        mut settings: Settings,
        clock: SharedClock,
        metrics: &Metrics,
        lifecycle: &Lifecycle,
        hub: Option<Arc<dyn ReadTwin>>,
    ) -> Self {
        settings.shard.reads_twins &= hub.is_some();
        settings.shard.reads_connection_states &= hub.is_some();
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let (reads, to_read) = mpsc::channel(SHARD_READS_QUEUE);
        let shards = Shards::start(&settings, &clock, &metrics.relay, lifecycle, &stop, &reads);
        let sessions = Sessions::new(&settings, clock.clone(), metrics);
        let relay = Self {
            inner: Arc::new(Inner {
                settings,
                clock,
                sessions,
                shards,
                expiries: Expiries::default(),
                twin_reads: TwinReads::new(hub),
                tasks,
                stop,
            }),
        };
        let expiring = relay.clone();
        lifecycle.spawn("session expiry", async move {
            tokio::join!(
                expiring.retire_expired_sessions(),
                expiring.expire_in_time()
            );
            Ok::<_, Infallible>(())
        });
        let reading = relay.clone();
        lifecycle.spawn("twin reads", async move {
            reading.read_for_shards(to_read).await;
            Ok::<_, Infallible>(())
        });
        relay
    }

    /// Ends all tasks and waits for them. Connections should have been ended before.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Takes in device messages, in order. Waits while the shards are behind.
    pub async fn ingest(&self, messages: Vec<DeviceMessage>) {
        self.inner.shards.ingest(messages).await;
    }

    /// Creates a session.
    pub fn create_session(&self) -> Result<SessionId, TooManySessions> {
        self.inner.sessions.create()
    }

    /// Ends a session; its connection is told. An id that names no session has no effect.
    pub async fn delete_session(&self, id: SessionId) {
        let Ok(entry) = self.inner.sessions.get(id) else {
            return;
        };
        self.to_the_end(move |relay| async move {
            relay.end_session(&entry, Disconnect::SessionDeleted).await;
        })
        .await;
    }

    /// Ends every session; their connections are told.
    pub async fn delete_all_sessions(&self) {
        self.to_the_end(|relay| async move {
            stream::iter(relay.inner.sessions.all())
                .for_each_concurrent(ENDED_AT_ONCE, |entry| {
                    let relay = &relay;
                    async move { relay.end_session(&entry, Disconnect::SessionDeleted).await }
                })
                .await;
        })
        .await;
    }

    /// Whether a session exists.
    pub fn has_session(&self, id: SessionId) -> bool {
        self.inner.sessions.get(id).is_ok()
    }

    /// Whether a session may see or do something of or with a device.
    pub async fn is_granted(
        &self,
        id: SessionId,
        device: &DeviceId,
        access: &Access<'_>,
    ) -> Result<bool, NoSuchSession> {
        let entry = self.inner.sessions.get(id)?;
        let session = self.lock(&entry).await?;
        Ok(session.is_granted(device, access))
    }

    /// Why a session must not see or do something of or with a device; `None` when it may.
    pub async fn deny(
        &self,
        id: SessionId,
        device: &DeviceId,
        access: &Access<'_>,
    ) -> Result<Option<Denial>, NoSuchSession> {
        let entry = self.inner.sessions.get(id)?;
        let session = self.lock(&entry).await?;
        Ok(session.deny(device, access))
    }

    /// How much of a device's twin a session may see, if anything.
    pub async fn twin_view(
        &self,
        id: SessionId,
        device: &DeviceId,
    ) -> Result<Option<TwinView>, NoSuchSession> {
        let entry = self.inner.sessions.get(id)?;
        let session = self.lock(&entry).await?;
        Ok(session.twin_view(device))
    }

    /// How much a session may see of the twin that a change of it made, as the answer to the change.
    pub async fn twin_view_after(
        &self,
        id: SessionId,
        device: &DeviceId,
        change: &Access<'_>,
    ) -> Result<TwinView, NoSuchSession> {
        let entry = self.inner.sessions.get(id)?;
        let session = self.lock(&entry).await?;
        Ok(session.twin_view_after(device, change))
    }

    /// The telemetry keys of a device that a session may see.
    pub async fn telemetry_access(
        &self,
        id: SessionId,
        device: &DeviceId,
    ) -> Result<Selection<TelemetryKey>, NoSuchSession> {
        let entry = self.inner.sessions.get(id)?;
        let session = self.lock(&entry).await?;
        Ok(session.telemetry_access(device))
    }

    /// The last value of one telemetry key.
    pub async fn last_value(&self, device: &DeviceId, key: &TelemetryKey) -> Option<LastValue> {
        let key = key.clone();
        self.inner
            .shards
            .ask(device, move |shard, device, _| {
                shard.last_value(device, &key)
            })
            .await
            .flatten()
    }

    /// All last values of a device, in the order in which their keys first appeared.
    pub async fn last_values(&self, device: &DeviceId) -> Vec<LastValue> {
        self.inner
            .shards
            .ask(device, |shard, device, _| shard.last_values(device))
            .await
            .unwrap_or_default()
    }

    /// Forgets one last value of a device or all of them. Returns what was forgotten.
    pub async fn delete_last_values(
        &self,
        device: &DeviceId,
        key: Option<&TelemetryKey>,
    ) -> Vec<LastValue> {
        let key = key.cloned();
        let remove = move |shard: &mut shards::Shard, device: &DeviceId, _| {
            shard.remove_last_values(device, key.as_ref())
        };
        self.inner
            .shards
            .ask(device, remove)
            .await
            .unwrap_or_default()
    }

    /// Whether a device is connected, and since which message; as far as is known and not so old that the hub knows better.
    pub async fn connection_state(&self, device: &DeviceId) -> Option<Stamped<bool>> {
        self.inner
            .shards
            .ask(device, |shard, device, now| {
                shard.connection_state(device, now)
            })
            .await
            .flatten()
    }

    /// The whole twin of a device and its time, if it is known and the cache setting allows its use.
    pub async fn device_twin(&self, device: &DeviceId) -> Option<Stamped<RawJson>> {
        self.inner
            .shards
            .ask(device, |shard, device, now| shard.device_twin(device, now))
            .await
            .flatten()
    }

    /// The relay's wall clock, in milliseconds since the Unix epoch: the one that values are stamped with.
    pub fn unix_ms(&self) -> i64 {
        self.inner.clock.unix_ms()
    }

    /// Tells every connection that the relay shuts down, once what waits for it has been sent.
    pub fn shut_down(&self) {
        for entry in self.inner.sessions.all() {
            entry.outbox.disconnect(Disconnect::ShuttingDown);
        }
    }

    /// Tells every connection to drop its transport without another byte.
    pub fn cut_connections(&self) {
        for entry in self.inner.sessions.all() {
            entry.outbox.cut();
        }
    }

    /// Runs a change to its end, even when the caller goes away half-way, for example because its client hung up.
    async fn to_the_end<C, F>(&self, change: C) -> F::Output
    where
        C: FnOnce(Self) -> F,
        F: Future<Output: Send> + Send + 'static,
    {
        let change = self.inner.tasks.spawn(change(self.clone()));
        match change.await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Nobody aborts a change; the runtime is being torn down, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Waits for a session's turn; a session that was retired meanwhile does not exist.
    async fn lock(&self, entry: &Arc<SessionEntry>) -> Result<SessionTurn, NoSuchSession> {
        let mut session = self.inner.sessions.turn(entry).await;
        // What has run out must not count for one more call.
        if session
            .next_expiry_unix_ms()
            .is_some_and(|next| next <= self.inner.clock.unix_ms())
        {
            let entry = entry.clone();
            session = self
                .to_the_end(move |relay| async move {
                    relay.expire(&entry, &mut session).await;
                    session
                })
                .await;
        }
        if session.is_retired() {
            return Err(NoSuchSession);
        }
        session.touch(self.now_ms());
        Ok(session)
    }

    /// Tells the shards what a session now wants of some devices and waits until they go by it.
    async fn tell_shards(
        &self,
        entry: &Arc<SessionEntry>,
        session: &Session,
        devices: BTreeSet<DeviceId>,
    ) {
        let changes = devices
            .into_iter()
            .map(|device| SubscriptionChange {
                subscriptions: session.subscriptions(&device),
                device,
                fresh: None,
            })
            .collect();
        self.inner
            .shards
            .set_subscriptions(entry.id, &entry.outbox, changes)
            .await;
    }

    /// As [`tell_shards`](Self::tell_shards), for changes that take something away: also drops what already waits in
    /// the outbox, and waits until a write under way has ended.
    async fn narrow(
        &self,
        entry: &Arc<SessionEntry>,
        session: &Session,
        devices: BTreeSet<DeviceId>,
    ) {
        if devices.is_empty() {
            return;
        }
        let wanted = devices
            .iter()
            .map(|device| (device.clone(), session.subscriptions(device)))
            .collect();
        self.tell_shards(entry, session, devices).await;
        entry.outbox.retain(&wanted);
        entry.outbox.settle(self.inner.settings.write_wait).await;
    }

    /// Retires a session and lets its connection go, for the reason given.
    async fn end_session(&self, entry: &Arc<SessionEntry>, reason: Disconnect) {
        let mut session = self.inner.sessions.turn(entry).await;
        self.retire(entry, &mut session, reason).await;
    }

    async fn retire(
        &self,
        entry: &Arc<SessionEntry>,
        session: &mut SessionTurn,
        reason: Disconnect,
    ) {
        if session.is_retired() {
            return;
        }
        let was_bound = session.is_bound();
        let devices: BTreeSet<_> = session.retire().into_iter().collect();
        self.inner.sessions.forget(entry.id, was_bound);
        self.inner.expiries.arm(entry, None);
        self.tell_shards(entry, session, devices).await;
        entry.outbox.clear();
        entry.outbox.disconnect(reason);
        entry.outbox.settle(self.inner.settings.write_wait).await;
    }

    async fn retire_expired_sessions(&self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(EXPIRY_INTERVAL) => {}
            }
            for entry in self.inner.sessions.all() {
                // A session whose turn is taken is in use.
                let Some(mut session) = self.inner.sessions.try_turn(&entry) else {
                    continue;
                };
                if session.is_expired(self.now_ms()) {
                    self.retire(&entry, &mut session, Disconnect::Retired).await;
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.inner.sessions.now_ms()
    }
}

/// How a gauge changes with the number it counts.
fn change(before: usize, now: usize) -> i64 {
    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
    number(now) - number(before)
}

#[cfg(test)]
pub(crate) mod tests;
