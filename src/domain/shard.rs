//! A shard owns a share of the devices and everything that is known about them; it turns device messages into updates
//! for the sessions that want them.
//!
//! It is a single-writer state machine: one owner feeds it messages and commands in one order, so what a command says
//! holds from the next message on, without locks. A recipient `R` is whatever the owner uses to name an outbox.
//!
//! Guarantees: for one device, recipients get updates in the order of its messages; each message gives a session at
//! most one telemetry update with exactly the keys it selected (one for each way of delivery, if it asked for several);
//! sessions that select the same keys share one update; last values, connection state and twin are current before any
//! recipient hears of them.

mod audience;
mod device;
mod throttle;
mod timers;
mod twin_sight;
mod views;

use std::sync::Arc;
use std::vec;

use arrayvec::ArrayVec;
use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;
use indexmap::map::Entry;

use self::device::Device;
use self::timers::{Timer, Timers};
use super::device_message::DeviceMessage;
use super::hub_twin::HubTwin;
use super::id::{DeviceId, SessionId, TelemetryKey};
use super::last_value::LastValue;
use super::limits::ShardLimits;
use super::raw_json::RawJson;
use super::snapshot::DeviceSnapshot;
use super::subscription::DeviceSubscriptions;
use super::time::{Now, Stamp, Stamped, Timestamp};
use super::twin::{NotATwin, Twin};
use super::update::Update;

/// For how many messages what they need is prefetched together.
const PREFETCHED_TOGETHER: usize = 16;

/// How a shard behaves.
#[derive(Clone, Copy, Debug)]
pub struct ShardSettings {
    /// What it may remember.
    pub limits: ShardLimits,
    /// Shortest time between two telemetry updates of one device to one session; `None` for no throttling.
    pub throttling_interval_ms: Option<u64>,
    /// How long a device counts as connected after it last said so; `None` for ever.
    pub connection_state_ttl_ms: Option<u64>,
    /// How long a twin is good for a read.
    pub twin_cache: TwinCache,
    /// Whether the hub can be asked for twins.
    pub reads_twins: bool,
    /// Whether the hub can be asked if a device is connected.
    pub reads_connection_states: bool,
}

/// How long a twin is good for a read. Twin events are merged into the last known twin in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinCache {
    /// Not at all: reads go to the hub.
    Off,
    /// For this long after its last change.
    ForMs(u64),
    /// Until the next change.
    Forever,
}

/// What a shard did and holds, for metrics. The first four only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Updates handed to recipients, one for each recipient.
    pub deliveries: u64,
    /// Telemetry updates that were merged into a later one by throttling.
    pub throttled: u64,
    /// Messages dropped because the shard has as many devices as it may have, or because their twin is none.
    pub messages_dropped: u64,
    /// Values not remembered because their device has as many keys as it may have.
    pub values_dropped: u64,
    /// Devices known now.
    pub devices: usize,
    /// Last values held now.
    pub last_values: usize,
}

/// Owns a share of the devices.
#[derive(Debug)]
pub struct Shard<R> {
    devices: IndexMap<DeviceId, Device<R>, DefaultHashBuilder>,
    shared: Shared,
}

/// What the devices of a shard share.
#[derive(Debug)]
struct Shared {
    settings: ShardSettings,
    timers: Timers,
    stats: ShardStats,
    /// The devices that the hub is to be asked about.
    reads: Vec<DeviceId>,
}

/// Sessions that get the same thing, with their recipients. Taking one out costs the same however many there are.
type Recipients<R> = IndexMap<SessionId, R, DefaultHashBuilder>;

/// What a device needs of its shard while it handles something.
struct Context<'a, F> {
    settings: &'a ShardSettings,
    timers: &'a mut Timers,
    stats: &'a mut ShardStats,
    reads: &'a mut Vec<DeviceId>,
    now: Now,
    deliver: F,
}

impl Shared {
    fn context<F>(&mut self, now: Now, deliver: F) -> Context<'_, F> {
        Context {
            settings: &self.settings,
            timers: &mut self.timers,
            stats: &mut self.stats,
            reads: &mut self.reads,
            now,
            deliver,
        }
    }
}

impl<F> Context<'_, F> {
    fn deliver<R>(&mut self, recipient: &R, update: Arc<Update>)
    where
        F: FnMut(&R, Arc<Update>),
    {
        self.stats.deliveries += 1;
        (self.deliver)(recipient, update);
    }
}

impl<R: Clone> Shard<R> {
    /// A shard that knows no device.
    pub fn new(settings: ShardSettings) -> Self {
        Self {
            devices: IndexMap::default(),
            shared: Shared {
                settings,
                timers: Timers::default(),
                stats: ShardStats::default(),
                reads: Vec::new(),
            },
        }
    }

    /// Takes in the next few of some messages, and hands out the updates that follow from them.
    ///
    /// With many devices most of what a message needs is not in a cache. A little of it is read for all of these before any
    /// is taken in, so that their waits for memory fall together.
    ///
    /// `prefetch` reads a little of a recipient, if that is somewhere else. Returns how many messages it took in.
    pub fn apply_next(
        &mut self,
        messages: &mut vec::IntoIter<DeviceMessage>,
        now: Now,
        prefetch: impl Fn(&R),
        mut deliver: impl FnMut(&R, Arc<Update>),
    ) -> usize {
        let next = messages.as_slice().iter().take(PREFETCHED_TOGETHER);
        let places = next.map(|message| {
            message.content.prefetch();
            self.devices.get_index_of(&message.device_id)
        });
        let places: ArrayVec<_, PREFETCHED_TOGETHER> = places.collect();
        for place in places.iter().flatten() {
            self.devices[*place].prefetch(&prefetch);
        }
        for (place, message) in places.iter().zip(messages) {
            // No device is forgotten in between.
            let device = place.and_then(|place| self.devices.get_index_mut(place));
            if let Some((_, device)) = device {
                device.apply(message, now, &mut self.shared.context(now, &mut deliver));
            } else {
                self.apply(message, now, &mut deliver);
            }
        }
        places.len()
    }

    /// Takes in a device message and hands out the updates that follow from it.
    pub fn apply(
        &mut self,
        message: DeviceMessage,
        now: Now,
        deliver: impl FnMut(&R, Arc<Update>),
    ) {
        let full = self.devices.len() >= self.shared.settings.limits.devices_max;
        let device = match self.devices.entry(message.device_id.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => {
                self.shared.stats.messages_dropped += 1;
                return;
            }
            Entry::Vacant(new) => {
                let device = Device::new(new.key().clone());
                new.insert(device)
            }
        };
        device.apply(message, now, &mut self.shared.context(now, deliver));
    }

    /// Replaces all that a session wants to see of a device; nothing to see ends it. The next message of the device
    /// is the first that goes by it.
    pub fn set_subscriptions(
        &mut self,
        device: &DeviceId,
        session: SessionId,
        recipient: &R,
        subscriptions: &DeviceSubscriptions,
        now: Now,
    ) {
        let known = if subscriptions.is_empty() {
            self.devices.get_mut(device)
        } else {
            let new = || Device::new(device.clone());
            Some(self.devices.entry(device.clone()).or_insert_with(new))
        };
        if let Some(known) = known {
            known.set_subscriptions(
                session,
                recipient,
                subscriptions,
                &mut self.shared.timers,
                now,
            );
            self.forget_if_empty(device);
            let devices = &self.devices;
            self.shared.timers.tidy(|due_ms, device, timer| {
                let device = devices.get(device);
                device.is_some_and(|device| device.expects(due_ms, timer))
            });
        }
    }

    /// As [`set_subscriptions`](Self::set_subscriptions), and tells what is known of the part that `fresh` covers. The
    /// updates after it are exactly those that are not in the snapshot, once its recipient has dropped what waits for
    /// it of that part.
    pub fn subscribe(
        &mut self,
        device: &DeviceId,
        session: SessionId,
        recipient: &R,
        subscriptions: &DeviceSubscriptions,
        fresh: &DeviceSubscriptions,
        now: Now,
    ) -> Option<DeviceSnapshot> {
        self.set_subscriptions(device, session, recipient, subscriptions, now);
        let known = self.devices.get_mut(device)?;
        known.forget_pending(session, fresh);
        if fresh.device_twin.is_some() {
            let mut context = self.shared.context(now, |_: &R, _: Arc<Update>| {});
            known.want_twin(&mut context);
        }
        Some(known.snapshot(fresh)).filter(|snapshot| !snapshot.is_empty())
    }

    /// What is known of the part of a device that `of` covers; `None` when nothing is.
    pub fn snapshot(&self, device: &DeviceId, of: &DeviceSubscriptions) -> Option<DeviceSnapshot> {
        Some(self.devices.get(device)?.snapshot(of)).filter(|snapshot| !snapshot.is_empty())
    }

    /// About how many bytes that snapshot takes, patterns counted as every key.
    pub fn snapshot_bytes(&self, device: &DeviceId, of: &DeviceSubscriptions) -> usize {
        let known = self.devices.get(device);
        known.map_or(0, |known| known.snapshot_bytes(of))
    }

    /// When [`expire`](Self::expire) has something to do, on the monotonic clock.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.shared.timers.next_due_ms()
    }

    /// Does what is due: ends throttling windows, turns connection states that ran out into `false`, asks again for twins.
    pub fn expire(&mut self, now: Now, mut deliver: impl FnMut(&R, Arc<Update>)) {
        while let Some((device, timer)) = self.shared.timers.pop_due(now.monotonic_ms) {
            let Some(device) = self.devices.get_mut(&device) else {
                continue;
            };
            let mut context = self.shared.context(now, &mut deliver);
            match timer {
                Timer::ConnectionState => device.expire_connection_state(&mut context),
                Timer::TwinRead => device.retry_twin_read(&mut context),
                Timer::ThrottlingWindow(session, delivery) => {
                    device.end_throttling_window(session, delivery, &mut context);
                }
            }
        }
    }

    /// The last value of one telemetry key of a device.
    pub fn last_value(&self, device: &DeviceId, key: &TelemetryKey) -> Option<LastValue> {
        self.devices.get(device)?.keys.last_value(key.as_str())
    }

    /// All last values of a device.
    pub fn last_values(&self, device: &DeviceId) -> Vec<LastValue> {
        self.devices
            .get(device)
            .map(|device| device.keys.last_values())
            .unwrap_or_default()
    }

    /// Forgets the last value of one telemetry key of a device, or of all of them. Returns what was forgotten.
    pub fn remove_last_values(
        &mut self,
        device: &DeviceId,
        key: Option<&TelemetryKey>,
    ) -> Vec<LastValue> {
        let Some(known) = self.devices.get_mut(device) else {
            return Vec::new();
        };
        let removed = known.keys.remove(key);
        self.shared.stats.last_values -= removed.len();
        self.forget_if_empty(device);
        removed
    }

    /// Whether a device is connected, and since which message this is known; not when that is so old that the hub knows
    /// better.
    pub fn connection_state(&self, device: &DeviceId, now: Now) -> Option<Stamped<bool>> {
        let known = &self.devices.get(device)?.connection_state;
        let ask = self.shared.settings.reads_connection_states && known.is_stale(now);
        known.get().filter(|_| !ask)
    }

    /// The whole twin of a device and its time, if it is known and still good for a read.
    pub fn device_twin(&self, device: &DeviceId, now: Now) -> Option<Stamped<RawJson>> {
        let twin = self.devices.get(device)?.whole_twin()?;
        let good = match self.shared.settings.twin_cache {
            TwinCache::Off => false,
            TwinCache::ForMs(ttl_ms) => {
                now.monotonic_ms.saturating_sub(twin.changed_at_ms) < ttl_ms
            }
            TwinCache::Forever => true,
        };
        good.then(|| twin.to_stamped())
    }

    /// The devices that the hub is to be asked about since the last call. Each question must be answered, by
    /// [`was_read`](Self::was_read) or [`was_not_read`](Self::was_not_read); until then none about the same thing follows.
    pub fn take_reads(&mut self) -> Vec<DeviceId> {
        std::mem::take(&mut self.shared.reads)
    }

    /// Takes in what the hub says of a device, whoever asked for it, and hands out the updates that follow from it. Returns
    /// the newest whole twin that is known then, and its time. A device that is not known, and cannot be for want of room,
    /// is answered for all the same.
    pub fn was_read(
        &mut self,
        device: &DeviceId,
        read: &HubTwin,
        now: Now,
        deliver: impl FnMut(&R, Arc<Update>),
    ) -> Result<Stamped<RawJson>, NotATwin> {
        let stamp = Stamp {
            timestamp: Timestamp::UnixMs(now.unix_ms),
            received_unix_ms: now.unix_ms,
        };
        let full = self.devices.len() >= self.shared.settings.limits.devices_max;
        let known = match self.devices.entry(device.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if full => {
                return Ok(Twin::whole(&read.twin, stamp, now.monotonic_ms)?.to_stamped());
            }
            Entry::Vacant(new) => new.insert(Device::new(device.clone())),
        };
        let mut context = self.shared.context(now, deliver);
        let twin = known.was_read(read, stamp, &mut context);
        self.forget_if_empty(device);
        twin
    }

    /// The hub gave no answer about a device: subscribers get what is known.
    pub fn was_not_read(
        &mut self,
        device: &DeviceId,
        now: Now,
        deliver: impl FnMut(&R, Arc<Update>),
    ) {
        let Some(known) = self.devices.get_mut(device) else {
            return;
        };
        let mut context = self.shared.context(now, deliver);
        known.was_not_read(&mut context);
        self.forget_if_empty(device);
    }

    /// What the shard did and holds.
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            devices: self.devices.len(),
            ..self.shared.stats
        }
    }

    fn forget_if_empty(&mut self, device: &DeviceId) {
        if self.devices.get(device).is_some_and(Device::is_empty) {
            self.devices.swap_remove(device);
        }
    }
}

#[cfg(test)]
mod tests;
