//! The tasks that own the shards, and the ways to reach them.
//!
//! Each shard is driven by one task. Messages wait in a bounded queue of batches: when it is full, ingest waits, and
//! with it the source. Commands wait in another one and go first, so a flood of messages does not delay a revocation.
//! What the messages at hand produced is in the outboxes before their readers are woken, so bursts leave in one write, and a
//! lone message waits for nothing. When there is enough for one write, its reader comes first.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::ready;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::outbox::{Pushed, SharedOutbox};
use super::{Settings, change};
use crate::clock::SharedClock;
use crate::domain::device_message::DeviceMessage;
use crate::domain::hub_twin::HubTwin;
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::raw_json::RawJson;
use crate::domain::shard::ShardStats;
use crate::domain::snapshot::DeviceSnapshot;
use crate::domain::subscription::DeviceSubscriptions;
use crate::domain::time::{Now, Stamped};
use crate::domain::twin::NotATwin;
use crate::domain::update::Update;
use crate::lifecycle::Lifecycle;
use crate::telemetry::metrics::RelayMetrics;

/// A shard whose recipients are the outboxes of sessions.
pub(super) type Shard = crate::domain::shard::Shard<Arc<SharedOutbox>>;

/// Batches of messages that may wait for one shard.
const BATCHES_MAX: usize = 16;

/// Messages that are taken in before the readers of their updates come.
const GATHERED_MAX: usize = 16_384;

/// Commands that may wait for one shard.
const COMMANDS_MAX: usize = 1024;

/// What a session now wants to see of a device.
#[derive(Debug)]
pub(super) struct SubscriptionChange {
    pub(super) device: DeviceId,
    pub(super) subscriptions: DeviceSubscriptions,
    /// The part of it that what is known is asked for.
    pub(super) fresh: Option<Fresh>,
}

/// What becomes of what is known about something that a session just subscribed to.
#[derive(Debug)]
pub(super) enum Fresh {
    /// It is the answer. What waits in the outbox of it is dropped: it is older, or the same.
    Answer(DeviceSubscriptions),
    /// It goes out as updates, before those that follow.
    Publish(DeviceSubscriptions),
}

/// What is asked for of some devices, to be shared by the shards.
pub(super) type Wishes = Arc<BTreeMap<DeviceId, DeviceSubscriptions>>;

/// The shards, by the devices they own.
#[derive(Debug)]
pub(super) struct Shards {
    shards: Vec<ShardHandle>,
}

#[derive(Debug)]
struct ShardHandle {
    messages: mpsc::Sender<Vec<DeviceMessage>>,
    commands: mpsc::Sender<Command>,
}

/// A read of a shard; it answers by itself.
type Question = Box<dyn FnOnce(&mut Shard, Now) + Send>;

enum Command {
    SetSubscriptions {
        session: SessionId,
        recipient: Arc<SharedOutbox>,
        changes: Vec<SubscriptionChange>,
        done: oneshot::Sender<Vec<DeviceSnapshot>>,
    },
    Ask(Question),
    /// What the hub said of a device; `None` when it gave no answer.
    WasRead {
        device: DeviceId,
        read: Option<HubTwin>,
        done: oneshot::Sender<Option<NewestTwin>>,
    },
}

/// The newest whole twin that is known after a read.
pub(super) type NewestTwin = Result<Stamped<RawJson>, NotATwin>;

impl Shards {
    pub(super) fn start(
        settings: &Settings,
        clock: &SharedClock,
        metrics: &Arc<RelayMetrics>,
        lifecycle: &Lifecycle,
        stop: &CancellationToken,
        reads: &mpsc::Sender<DeviceId>,
    ) -> Self {
        let started_at = clock.monotonic();
        let shards = (0..settings.shards.max(1))
            .map(|_| {
                let (messages, messages_in) = mpsc::channel(BATCHES_MAX);
                let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
                let task = ShardTask {
                    shard: Shard::new(settings.shard),
                    messages: messages_in,
                    batch: Vec::new().into_iter(),
                    commands: commands_in,
                    counted: ShardStats::default(),
                    metrics: metrics.clone(),
                    clock: clock.clone(),
                    started_at,
                    to_wake: Vec::new(),
                    reads: reads.clone(),
                    to_read: VecDeque::new(),
                };
                let stop = stop.clone();
                lifecycle.spawn("shard", async move {
                    task.run(stop).await;
                    Ok::<_, Infallible>(())
                });
                ShardHandle { messages, commands }
            })
            .collect();
        Self { shards }
    }

    /// Gives each shard its part of the messages, in order.
    pub(super) async fn ingest(&self, messages: Vec<DeviceMessage>) {
        if let [only] = self.shards.as_slice() {
            only.ingest(messages).await;
            return;
        }
        let mut parts: Vec<Vec<DeviceMessage>> = self.shards.iter().map(|_| Vec::new()).collect();
        for message in messages {
            parts[self.place(&message.device_id)].push(message);
        }
        for (shard, part) in self.shards.iter().zip(parts) {
            if !part.is_empty() {
                shard.ingest(part).await;
            }
        }
    }

    /// Returns when every shard concerned goes by the changes, with what the fresh ones that ask for an answer get.
    pub(super) async fn set_subscriptions(
        &self,
        session: SessionId,
        recipient: &Arc<SharedOutbox>,
        changes: Vec<SubscriptionChange>,
    ) -> Vec<DeviceSnapshot> {
        let mut parts: Vec<Vec<SubscriptionChange>> =
            self.shards.iter().map(|_| Vec::new()).collect();
        for change in changes {
            parts[self.place(&change.device)].push(change);
        }
        let mut answers = Vec::new();
        for (shard, changes) in self.shards.iter().zip(parts) {
            if changes.is_empty() {
                continue;
            }
            let (done, answer) = oneshot::channel();
            let command = Command::SetSubscriptions {
                session,
                recipient: recipient.clone(),
                changes,
                done,
            };
            // A shard that has stopped sends nothing any more, so there is nothing to wait for.
            if shard.commands.send(command).await.is_ok() {
                answers.push(answer);
            }
        }
        let mut snapshots = Vec::new();
        for answer in answers {
            snapshots.append(&mut answer.await.unwrap_or_default());
        }
        snapshots
    }

    /// What is known of some devices, as far as is asked for. The answers come in no order.
    pub(super) async fn snapshot(&self, of: &Wishes) -> Vec<DeviceSnapshot> {
        let snapshots = self.ask_each(of, Shard::snapshot);
        snapshots.await.into_iter().flatten().collect()
    }

    /// About how many bytes the snapshot of what is asked for takes.
    pub(super) async fn snapshot_bytes(&self, of: &Wishes) -> usize {
        let bytes = self.ask_each(of, Shard::snapshot_bytes);
        bytes.await.into_iter().sum()
    }

    /// Asks the shards the same about each device. The answers come in no order.
    async fn ask_each<A: Send + 'static>(
        &self,
        of: &Wishes,
        question: impl Fn(&Shard, &DeviceId, &DeviceSubscriptions) -> A + Copy + Send + 'static,
    ) -> Vec<A> {
        let mut parts: Vec<Vec<DeviceId>> = self.shards.iter().map(|_| Vec::new()).collect();
        for device in of.keys() {
            parts[self.place(device)].push(device.clone());
        }
        let parts = self.shards.iter().zip(parts);
        let answers = parts
            .filter(|(_, part)| !part.is_empty())
            .map(|(shard, part)| {
                let of = of.clone();
                shard.ask(move |shard, _| {
                    let answers = part
                        .iter()
                        .map(|device| question(shard, device, &of[device]));
                    answers.collect::<Vec<_>>()
                })
            });
        let answers = futures_util::future::join_all(answers).await;
        answers.into_iter().flatten().flatten().collect()
    }

    /// Asks the shard that owns a device; `None` when it has stopped.
    pub(super) async fn ask<A, Q>(&self, device: &DeviceId, question: Q) -> Option<A>
    where
        A: Send + 'static,
        Q: FnOnce(&mut Shard, &DeviceId, Now) -> A + Send + 'static,
    {
        let shard = &self.shards[self.place(device)];
        let device = device.clone();
        shard
            .ask(move |shard, now| question(shard, &device, now))
            .await
    }

    /// Hands a shard what the hub said of a device; `None` when the shard has stopped.
    pub(super) async fn was_read(&self, device: &DeviceId, read: HubTwin) -> Option<NewestTwin> {
        self.answer_read(device, Some(read)).await
    }

    /// Tells a shard that the hub gave no answer about a device.
    pub(super) async fn was_not_read(&self, device: &DeviceId) {
        self.answer_read(device, None).await;
    }

    async fn answer_read(&self, device: &DeviceId, read: Option<HubTwin>) -> Option<NewestTwin> {
        let (done, answer) = oneshot::channel();
        let command = Command::WasRead {
            device: device.clone(),
            read,
            done,
        };
        let shard = &self.shards[self.place(device)];
        shard.commands.send(command).await.ok()?;
        answer.await.ok()?
    }

    /// A device and its modules have one place.
    fn place(&self, device: &DeviceId) -> usize {
        if self.shards.len() == 1 {
            return 0;
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(device.as_str());
        usize::try_from(hash % self.shards.len() as u64).expect("less than the number of shards")
    }
}

impl ShardHandle {
    /// `None` when the shard has stopped.
    async fn ask<A: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Shard, Now) -> A + Send + 'static,
    ) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        let ask = Box::new(move |shard: &mut Shard, now| {
            // Whoever asked may have gone.
            let _gone = reply.send(question(shard, now));
        });
        self.commands.send(Command::Ask(ask)).await.ok()?;
        answer.await.ok()
    }

    async fn ingest(&self, messages: Vec<DeviceMessage>) {
        if self.messages.send(messages).await.is_err() {
            tracing::debug!("the shards have stopped; messages are left to the next start");
        }
    }
}

struct ShardTask {
    shard: Shard,
    messages: mpsc::Receiver<Vec<DeviceMessage>>,
    /// What is left of the batch that was begun.
    batch: vec::IntoIter<DeviceMessage>,
    commands: mpsc::Receiver<Command>,
    /// What the metrics know of already.
    counted: ShardStats,
    metrics: Arc<RelayMetrics>,
    clock: SharedClock,
    started_at: Instant,
    to_wake: Vec<Arc<SharedOutbox>>,
    reads: mpsc::Sender<DeviceId>,
    /// The devices that the hub is to be asked about, each at most twice: for its twin and for its connection.
    to_read: VecDeque<DeviceId>,
}

impl ShardTask {
    async fn run(mut self, stop: CancellationToken) {
        let reads = self.reads.clone();
        loop {
            let expiry_in_ms = self
                .shard
                .next_expiry_ms()
                .map(|due_ms| due_ms.saturating_sub(self.now().monotonic_ms));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(command) = self.commands.recv() => self.command(command),
                () = sleep(expiry_in_ms), if expiry_in_ms.is_some() => self.expire(),
                Ok(permit) = reads.reserve(), if !self.to_read.is_empty() => {
                    if let Some(device) = self.to_read.pop_front() {
                        permit.send(device);
                    }
                }
                // The rest of a batch that was begun goes before the next one.
                () = ready(()), if self.batch.len() > 0 => self.apply(),
                Some(batch) = self.messages.recv() => {
                    self.batch = batch.into_iter();
                    self.apply();
                }
            }
            self.to_read.extend(self.shard.take_reads());
            self.count();
            if self.batch.len() > 0 || !self.messages.is_empty() {
                // Those who were woken come first.
                tokio::task::yield_now().await;
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::SetSubscriptions {
                session,
                recipient,
                changes,
                done,
            } => {
                let snapshots = self.set_subscriptions(session, &recipient, changes);
                // Whoever asked may have gone.
                let _gone = done.send(snapshots);
            }
            Command::Ask(ask) => {
                let now = self.now();
                ask(&mut self.shard, now);
            }
            Command::WasRead { device, read, done } => {
                let newest = self.was_read(&device, read.as_ref());
                // Whoever asked may have gone.
                let _gone = done.send(newest);
            }
        }
    }

    fn was_read(&mut self, device: &DeviceId, read: Option<&HubTwin>) -> Option<NewestTwin> {
        let now = self.now();
        let to_wake = &mut self.to_wake;
        let deliver = |outbox: &Arc<SharedOutbox>, update: Arc<Update>| {
            push(outbox, update, to_wake);
        };
        let newest = if let Some(read) = read {
            Some(self.shard.was_read(device, read, now, deliver))
        } else {
            self.shard.was_not_read(device, now, deliver);
            None
        };
        self.wake();
        newest
    }

    fn set_subscriptions(
        &mut self,
        session: SessionId,
        recipient: &Arc<SharedOutbox>,
        changes: Vec<SubscriptionChange>,
    ) -> Vec<DeviceSnapshot> {
        let now = self.now();
        let mut answered = BTreeMap::new();
        let mut snapshots = Vec::new();
        for change in changes {
            let SubscriptionChange {
                device,
                subscriptions,
                fresh,
            } = change;
            let shard = &mut self.shard;
            match fresh {
                None => {
                    shard.set_subscriptions(&device, session, recipient, &subscriptions, now);
                }
                Some(Fresh::Answer(fresh)) => {
                    snapshots.extend(shard.subscribe(
                        &device,
                        session,
                        recipient,
                        &subscriptions,
                        &fresh,
                        now,
                    ));
                    answered.insert(device, fresh);
                }
                Some(Fresh::Publish(fresh)) => {
                    let known =
                        shard.subscribe(&device, session, recipient, &subscriptions, &fresh, now);
                    for update in known.into_iter().flat_map(DeviceSnapshot::into_updates) {
                        push(recipient, Arc::new(update), &mut self.to_wake);
                    }
                }
            }
        }
        if !answered.is_empty() {
            recipient.supersede(&answered);
        }
        self.wake();
        snapshots
    }

    /// Takes in what is at hand, until a reader has enough for one write.
    fn apply(&mut self) {
        let now = self.now();
        let (mut gathered, mut is_enough) = (0, false);
        while !is_enough && gathered < GATHERED_MAX {
            if self.batch.len() == 0 {
                let Ok(next) = self.messages.try_recv() else {
                    break;
                };
                self.batch = next.into_iter();
            }
            let (batch, to_wake) = (&mut self.batch, &mut self.to_wake);
            let deliver =
                |outbox: &Arc<SharedOutbox>, update: Arc<Update>| match outbox.push(update) {
                    Pushed::Stored => {}
                    Pushed::ReaderWaits => to_wake.push(outbox.clone()),
                    Pushed::ReaderHasBurst => is_enough = true,
                };
            let prefetch = |outbox: &Arc<SharedOutbox>| outbox.prefetch();
            gathered += self.shard.apply_next(batch, now, prefetch, deliver);
        }
        self.wake();
    }

    fn expire(&mut self) {
        let now = self.now();
        self.shard.expire(now, |outbox, update| {
            push(outbox, update, &mut self.to_wake);
        });
        self.wake();
    }

    fn wake(&mut self) {
        for outbox in self.to_wake.drain(..) {
            outbox.wake();
        }
    }

    fn count(&mut self) {
        let stats = self.shard.stats();
        let before = std::mem::replace(&mut self.counted, stats);
        self.metrics
            .delivered
            .inc_by(stats.deliveries - before.deliveries);
        self.metrics
            .throttled
            .inc_by(stats.throttled - before.throttled);
        self.metrics
            .dropped_messages
            .inc_by(stats.messages_dropped - before.messages_dropped);
        self.metrics
            .dropped_values
            .inc_by(stats.values_dropped - before.values_dropped);
        // Other shards add their part to the same gauges.
        self.metrics
            .devices
            .inc_by(change(before.devices, stats.devices));
        self.metrics
            .last_values
            .inc_by(change(before.last_values, stats.last_values));
    }

    fn now(&self) -> Now {
        Now {
            monotonic_ms: self.clock.ms_since(self.started_at),
            unix_ms: self.clock.unix_ms(),
        }
    }
}

fn push(outbox: &Arc<SharedOutbox>, update: Arc<Update>, to_wake: &mut Vec<Arc<SharedOutbox>>) {
    if outbox.push(update) == Pushed::ReaderWaits {
        to_wake.push(outbox.clone());
    }
}

async fn sleep(ms: Option<u64>) {
    tokio::time::sleep(Duration::from_millis(ms.unwrap_or_default())).await;
}
