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
    /// End a session's throttling window. A session has at most one for each device and way of delivery.
    ThrottlingWindow(SessionId, Delivery),
}

/// Timers by due time. They are never cancelled: whoever is called looks whether there is still something to do.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_due_ms: BinaryHeap<Reverse<(u64, DeviceId, Timer)>>,
}

impl Timers {
    pub(super) fn add(&mut self, due_ms: u64, device: DeviceId, timer: Timer) {
        self.by_due_ms.push(Reverse((due_ms, device, timer)));
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
