//! Reads of twins from the hub: on behalf of clients, and because the shards need one to tell their subscribers the truth.
//!
//! Guarantees: reads of one device at the same time are one request, and what it brings is in the shard before anybody has
//! the answer; a read ends even when whoever asked for it goes away; whatever the hub does, a shard gets an answer to
//! each of its questions, and never one that it has had already.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Relay;
use crate::domain::hub_twin::HubTwin;
use crate::domain::id::{DeviceId, SessionId};

/// Reads for the shards that are under way at one time. Others wait in line.
const SHARD_READS_AT_ONCE: usize = 16;

/// Reads that are under way at one time; one more is refused. The hub's budget and the sessions' grants keep them far below.
const READS_MAX: usize = 10_000;

/// Devices that may wait to be read for the shards; each shard keeps the rest itself.
pub(super) const SHARD_READS_QUEUE: usize = 256;

/// How often a read for a shard is put off because the hub's budget is used up.
const PUT_OFF_MAX: u32 = 5;

/// Longest time for which it is put off at once.
const PUT_OFF_WAIT_MAX: Duration = Duration::from_secs(10);

/// Reads twins from the hub. Implementations retry by themselves where that helps, and answer within a bounded time.
pub trait ReadTwin: Send + Sync + 'static {
    /// Reads the twin of a device, or of a module of one. `asker` is the session that it is for, if it is for one.
    fn read_twin<'a>(
        &'a self,
        device: &'a DeviceId,
        asker: Option<SessionId>,
    ) -> BoxFuture<'a, Result<HubTwin, TwinReadError>>;
}

/// Why there is no twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwinReadError {
    /// No hub is configured.
    #[error("there is no hub to ask")]
    Disabled,
    /// The hub knows no such device, or no such module of it.
    #[error("the hub knows no such device")]
    NoSuchDevice,
    /// The hub is asked too much.
    #[error("the hub is asked too much")]
    Throttled {
        /// When it may be tried again.
        retry_after_s: u64,
    },
    /// The hub gave no usable answer.
    #[error("the hub gave no usable answer")]
    Unavailable,
}

/// What a read brought.
type Answer = Result<HubTwin, TwinReadError>;

/// The hub, and the reads that are under way.
pub(super) struct TwinReads {
    hub: Option<Arc<dyn ReadTwin>>,
    under_way: Mutex<HashMap<DeviceId, Shared<BoxFuture<'static, Answer>>>>,
}

impl TwinReads {
    pub(super) fn new(hub: Option<Arc<dyn ReadTwin>>) -> Self {
        Self {
            hub,
            under_way: Mutex::default(),
        }
    }
}

/// A read that others may join, until it is dropped.
struct UnderWay<'a> {
    reads: &'a TwinReads,
    device: &'a DeviceId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.reads.under_way.lock().remove(self.device);
    }
}

impl std::fmt::Debug for TwinReads {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TwinReads")
            .field("enabled", &self.hub.is_some())
            .field("under_way", &self.under_way.lock().len())
            .finish()
    }
}

impl Relay {
    /// Reads a device from the hub. The twin in the answer is in the form that clients get, and the newest that is known
    /// then. Subscribers hear of it if they do not have it yet.
    pub async fn read_twin(
        &self,
        device: &DeviceId,
        asker: Option<SessionId>,
    ) -> Result<HubTwin, TwinReadError> {
        let reads = &self.inner.twin_reads;
        let Some(hub) = &reads.hub else {
            return Err(TwinReadError::Disabled);
        };
        let read = {
            let mut under_way = reads.under_way.lock();
            let full = under_way.len() >= READS_MAX;
            match under_way.entry(device.clone()) {
                Entry::Occupied(read) => read.get().clone(),
                Entry::Vacant(_) if full => {
                    return Err(TwinReadError::Throttled { retry_after_s: 1 });
                }
                Entry::Vacant(new) => {
                    let (relay, hub, device) = (self.clone(), hub.clone(), device.clone());
                    let read = self.inner.tasks.spawn(async move {
                        let read = relay.read_from(&*hub, &device, asker).await?;
                        relay.learn_twin(&device, read).await
                    });
                    let read = read.map(|ended| ended.unwrap_or(Err(TwinReadError::Unavailable)));
                    new.insert(read.boxed().shared()).clone()
                }
            }
        };
        read.await
    }

    async fn read_from(
        &self,
        hub: &dyn ReadTwin,
        device: &DeviceId,
        asker: Option<SessionId>,
    ) -> Result<HubTwin, TwinReadError> {
        // Nobody joins a read that the shard has heard of: it may ask anew because of it, and would wait for ever.
        let _under_way = UnderWay {
            reads: &self.inner.twin_reads,
            device,
        };
        tokio::select! {
            read = hub.read_twin(device, asker) => read,
            () = self.inner.stop.cancelled() => Err(TwinReadError::Unavailable),
        }
    }

    /// Takes in what the hub says of a device, be it the answer to a change, and tells subscribers what they do not have yet.
    /// Returns the same with the twin in the form that clients get, the newest that is known then.
    pub async fn learn_twin(
        &self,
        device: &DeviceId,
        read: HubTwin,
    ) -> Result<HubTwin, TwinReadError> {
        let (connected, last_activity) = (read.connected, read.last_activity.clone());
        let newest = self.inner.shards.was_read(device, read).await;
        let newest = newest.ok_or(TwinReadError::Unavailable)?.map_err(|_| {
            tracing::warn!(device.id = %device, "the hub's answer is not a twin");
            TwinReadError::Unavailable
        })?;
        Ok(HubTwin {
            twin: newest.value,
            connected,
            last_activity,
        })
    }

    /// Reads what the shards ask for, until the relay stops.
    pub(super) async fn read_for_shards(self, devices: mpsc::Receiver<DeviceId>) {
        let devices = stream::unfold(devices, |mut devices| async move {
            Some((devices.recv().await?, devices))
        });
        let reading = devices.for_each_concurrent(SHARD_READS_AT_ONCE, |device| {
            let relay = self.clone();
            async move { relay.read_for_shard(&device).await }
        });
        self.inner.stop.run_until_cancelled(reading).await;
    }

    async fn read_for_shard(&self, device: &DeviceId) {
        for _ in 0..PUT_OFF_MAX {
            match self.read_twin(device, None).await {
                Ok(_) => return,
                Err(TwinReadError::Throttled { retry_after_s }) => {
                    let wait = Duration::from_secs(retry_after_s).min(PUT_OFF_WAIT_MAX);
                    tokio::time::sleep(wait).await;
                }
                Err(error) => {
                    tracing::debug!(device.id = %device, error.message = %error, "a twin could not be read");
                    break;
                }
            }
        }
        self.inner.shards.was_not_read(device).await;
    }
}
