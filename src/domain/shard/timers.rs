//! What a shard has to do later, by device.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::id::{DeviceId, SessionId};
use super::super::subscription::Delivery;

/// Something to do for a device when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Look whether the connection state has run out. A device has at most one such timer.
    ConnectionState,
    /// Ask the hub once more for a twin that it did not give. A device has at most one such timer.
    TwinRead,
    /// End a session's throttling window. A session has at most one for each device and way of delivery.
    ThrottlingWindow(SessionId, Delivery),
}

/// Timers that nobody waits for any more, below which it is not worth while to look for them.
const ABANDONED_MIN: usize = 1024;

/// Timers by due time. They are not taken out one by one: whoever is called looks whether there is still something to
/// do, and when most of them may be abandoned, all that are go at once.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_due_ms: BinaryHeap<Reverse<(u64, DeviceId, Timer)>>,
    /// How many were abandoned since it was last looked, at most.
    abandoned: usize,
}

impl Timers {
    pub(super) fn add(&mut self, due_ms: u64, device: DeviceId, timer: Timer) {
        self.by_due_ms.push(Reverse((due_ms, device, timer)));
    }

    /// Notes that nobody waits for some of the timers any more.
    pub(super) fn abandon(&mut self, timers: usize) {
        self.abandoned += timers;
    }

    /// Drops what nobody waits for, when that may be most of it.
    pub(super) fn tidy(&mut self, is_awaited: impl Fn(u64, &DeviceId, Timer) -> bool) {
        if self.abandoned < ABANDONED_MIN.max(self.by_due_ms.len() / 2) {
            return;
        }
        self.abandoned = 0;
        self.by_due_ms
            .retain(|Reverse((due_ms, device, timer))| is_awaited(*due_ms, device, *timer));
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_due_ms.len()
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.by_due_ms.peek().map(|Reverse((due_ms, _, _))| *due_ms)
    }

    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(DeviceId, Timer)> {
        if self.next_due_ms()? > now_ms {
            return None;
        }
        self.by_due_ms
            .pop()
            .map(|Reverse((_, device, timer))| (device, timer))
    }
}
