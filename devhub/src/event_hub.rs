//! The event hub: a name, consumer groups, and partitions that hold the events.
//!
//! Everything that enters, over AMQP or in process, goes through here, and everybody who reads is
//! woken from here: no reader polls.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::{
    amqp::message::Draft,
    clock::Clock,
    event::Event,
    partition_log::{LogBounds, PartitionLog, PartitionProperties},
    readers::Readers,
};

/// The consumer group that every event hub has.
pub const DEFAULT_CONSUMER_GROUP: &str = "$Default";

/// The longest name of a consumer group, as in Azure.
const CONSUMER_GROUP_LEN_MAX: usize = 50;

/// Which consumer groups exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerGroups {
    /// Any name that is asked for.
    Any,
    /// These, and `$Default`. Case does not matter.
    Named(BTreeSet<String>),
}

/// One event hub. Cloned handles mean the same hub.
#[derive(Clone, Debug)]
pub struct EventHub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    created_at_ms: i64,
    clock: Arc<dyn Clock>,
    consumer_groups: ConsumerGroups,
    partitions: Box<[Partition]>,
    next_partition: AtomicUsize,
    readers: Readers,
}

impl EventHub {
    /// An empty event hub with partitions `0` to `partition_count - 1`; at least one.
    pub fn new(
        name: &str,
        partition_count: u16,
        consumer_groups: ConsumerGroups,
        bounds: LogBounds,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                created_at_ms: clock.now_ms(),
                clock,
                consumer_groups,
                partitions: (0..partition_count.max(1))
                    .map(|_| Partition::new(bounds))
                    .collect(),
                next_partition: AtomicUsize::new(0),
                readers: Readers::default(),
            }),
        }
    }

    /// The hub's name, as in `EntityPath`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// When the hub was created, in milliseconds since the Unix epoch.
    pub fn created_at_ms(&self) -> i64 {
        self.inner.created_at_ms
    }

    /// How many partitions there are.
    pub fn partition_count(&self) -> u16 {
        u16::try_from(self.inner.partitions.len()).expect("built from a 16-bit count")
    }

    /// Publishes one event into the partition of its key. The key is not stamped on the event: IoT
    /// Hub, in whose name this is called, chooses partitions by device and does not say so.
    ///
    /// Never waits; when the partition is full its oldest events go. The size of the event is not
    /// limited here.
    pub fn publish(&self, partition_key: &str, event: &Event) {
        let draft = Draft::from_event(event);
        self.append(self.partition_of_key(partition_key), &[draft]);
    }

    /// What a management read of a partition would say now; `None` when there is no such partition.
    pub fn partition_properties(&self, partition: u16) -> Option<PartitionProperties> {
        Some(self.partition(partition)?.log.lock().properties())
    }

    /// Appends events to one partition, in order, with one enqueued time, and wakes its readers.
    pub(crate) fn append(&self, partition: u16, drafts: &[Draft<'_>]) {
        let now_ms = self.inner.clock.now_ms();
        if let Some(partition) = self.partition(partition) {
            partition.append(drafts, now_ms);
        }
    }

    /// The partition of a key: a stable hash, though not that of Azure.
    pub(crate) fn partition_of_key(&self, key: &str) -> u16 {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let count = u64::from(self.partition_count());
        u16::try_from(hasher.finish() % count).expect("less than a 16-bit count")
    }

    /// The partition for events without a key: each in turn.
    pub(crate) fn next_partition(&self) -> u16 {
        let turn = self.inner.next_partition.fetch_add(1, Ordering::Relaxed);
        u16::try_from(turn % self.inner.partitions.len()).expect("less than a 16-bit count")
    }

    pub(crate) fn partition(&self, partition: u16) -> Option<&Partition> {
        self.inner.partitions.get(usize::from(partition))
    }

    pub(crate) fn has_consumer_group(&self, group: &str) -> bool {
        if group.eq_ignore_ascii_case(DEFAULT_CONSUMER_GROUP) {
            return true;
        }
        match &self.inner.consumer_groups {
            ConsumerGroups::Any => !group.is_empty() && group.len() <= CONSUMER_GROUP_LEN_MAX,
            ConsumerGroups::Named(names) => {
                names.iter().any(|name| name.eq_ignore_ascii_case(group))
            }
        }
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.inner.readers
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }
}

/// One partition: its log, and who waits for more of it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) log: Mutex<PartitionLog>,
    /// The log's next sequence number, readable without its lock.
    next_sequence: AtomicI64,
    /// While set, readers get nothing: a fault to test with.
    stalled: AtomicBool,
    waiters: RwLock<Vec<Arc<Notify>>>,
}

impl Partition {
    fn new(bounds: LogBounds) -> Self {
        Self {
            log: Mutex::new(PartitionLog::new(bounds)),
            next_sequence: AtomicI64::new(0),
            stalled: AtomicBool::new(false),
            waiters: RwLock::default(),
        }
    }

    fn append(&self, drafts: &[Draft<'_>], now_ms: i64) {
        {
            let mut log = self.log.lock();
            for draft in drafts {
                log.append(draft, now_ms);
            }
            self.next_sequence
                .store(log.next_sequence(), Ordering::Release);
        }
        self.wake();
    }

    /// Whether a reader that has come to `sequence` would get anything.
    pub(crate) fn has(&self, sequence: i64) -> bool {
        self.next_sequence.load(Ordering::Acquire) > sequence && !self.is_stalled()
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Release);
        self.wake();
    }

    /// Has `waiter` notified of every append until [`Partition::unsubscribe`]; once for each call.
    pub(crate) fn subscribe(&self, waiter: &Arc<Notify>) {
        self.waiters.write().push(Arc::clone(waiter));
    }

    pub(crate) fn unsubscribe(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.waiters.write();
        if let Some(at) = waiters.iter().position(|w| Arc::ptr_eq(w, waiter)) {
            waiters.swap_remove(at);
        }
    }

    fn wake(&self) {
        for waiter in self.waiters.read().iter() {
            waiter.notify_one();
        }
    }
}
