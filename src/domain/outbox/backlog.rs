//! What came for a client after its queue was full.
//!
//! It exists only while the client is behind, which few ever are. For each device it keeps the newest value of each
//! telemetry key, the newest connection state and the newest twin; of device-to-cloud messages the latest.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::{Overflow, Skipped, cut_updates};
use crate::domain::id::DeviceId;
use crate::domain::limits::OutboxLimits;
use crate::domain::subscription::Part;
use crate::domain::telemetry::MergedTelemetry;
use crate::domain::time::Stamp;
use crate::domain::update::{Update, UpdateBody};

/// Bytes that a device costs in the map of conflated updates beside its values.
const CONFLATED_DEVICE_BYTES: usize = 256;

/// What came for a client after its queue was full.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// By device. Every device in it has something to hand out, and a turn.
    conflated: HashMap<DeviceId, Conflated>,
    /// The devices with something conflated, in the order in which they are handed out.
    turns: VecDeque<DeviceId>,
    conflated_bytes: usize,
    messages: VecDeque<Arc<Update>>,
    messages_bytes: usize,
}

/// The newest of one device.
#[derive(Debug, Default)]
pub(super) struct Conflated {
    telemetry: Option<(MergedTelemetry, Stamp)>,
    connection_state: Option<Arc<Update>>,
    pub(super) device_twin: Option<Arc<Update>>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.conflated.is_empty() && self.messages.is_empty()
    }

    /// What its bounds are held against.
    pub(super) fn bytes(&self) -> usize {
        self.conflated_bytes + self.messages_bytes
    }

    /// Adds an update, and counts what it replaces.
    pub(super) fn push(
        &mut self,
        update: &Arc<Update>,
        limits: &OutboxLimits,
        skipped: &mut Skipped,
    ) -> Result<(), Overflow> {
        if let UpdateBody::Message(_) = update.body {
            skipped.dropped += self.push_message(update.clone(), limits);
            return Ok(());
        }
        let conflated = match self.conflated.entry(update.device_id.clone()) {
            Entry::Occupied(waiting) => waiting.into_mut(),
            Entry::Vacant(new) => {
                self.turns.push_back(update.device_id.clone());
                new.insert(Conflated::default())
            }
        };
        let before = conflated.bytes();
        skipped.conflated += conflated.merge(update);
        self.conflated_bytes = self.conflated_bytes - before + conflated.bytes();
        if self.conflated_bytes > limits.bytes_max {
            Err(Overflow)
        } else {
            Ok(())
        }
    }

    /// Returns how many older ones were dropped.
    fn push_message(&mut self, update: Arc<Update>, limits: &OutboxLimits) -> u64 {
        self.messages_bytes += update.bytes();
        self.messages.push_back(update);
        let mut dropped = 0;
        while self.messages.len() > limits.frames_max || self.messages_bytes > limits.bytes_max {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.messages_bytes -= oldest.bytes();
            dropped += 1;
        }
        dropped
    }

    /// Takes out what is handed out next: what was conflated before messages.
    pub(super) fn pop(&mut self) -> Option<Arc<Update>> {
        if let Some(device) = self.turns.front() {
            let conflated = self
                .conflated
                .get_mut(device)
                .expect("a device with a turn has something conflated");
            let before = conflated.bytes();
            let update = conflated.pop(device);
            self.conflated_bytes = self.conflated_bytes - before + conflated.bytes();
            if conflated.is_empty() {
                self.conflated.remove(device);
                self.turns.pop_front();
            }
            return update;
        }
        let update = self.messages.pop_front()?;
        self.messages_bytes -= update.bytes();
        Some(update)
    }

    /// Lets `change` take something away from what is conflated of each device.
    pub(super) fn narrow(&mut self, change: impl Fn(&DeviceId, &mut Conflated)) {
        let conflated_bytes = &mut self.conflated_bytes;
        self.conflated.retain(|device, conflated| {
            *conflated_bytes -= conflated.bytes();
            change(device, conflated);
            *conflated_bytes += conflated.bytes();
            !conflated.is_empty()
        });
        self.turns
            .retain(|device| self.conflated.contains_key(device));
    }

    /// Replaces each message by what `cut` leaves of it.
    pub(super) fn cut_messages(&mut self, cut: impl Fn(&Arc<Update>) -> Option<Arc<Update>>) {
        cut_updates(&mut self.messages, &mut self.messages_bytes, cut);
    }
}

impl Conflated {
    /// Takes a newer update. Returns how many older ones it replaced.
    fn merge(&mut self, update: &Arc<Update>) -> u64 {
        match &update.body {
            UpdateBody::Telemetry(newer) => {
                let (merged, stamp) = self
                    .telemetry
                    .get_or_insert_with(|| (MergedTelemetry::default(), update.stamp.clone()));
                stamp.clone_from(&update.stamp);
                merged.merge(newer) as u64
            }
            UpdateBody::ConnectionState(_) => {
                u64::from(self.connection_state.replace(update.clone()).is_some())
            }
            UpdateBody::DeviceTwin(_) => {
                u64::from(self.device_twin.replace(update.clone()).is_some())
            }
            UpdateBody::Message(_) => unreachable!("messages are not conflated"),
        }
    }

    /// Drops what does not satisfy `keep`.
    pub(super) fn retain(&mut self, keep: impl Fn(Part<'_>) -> bool) {
        if let Some((merged, _)) = &mut self.telemetry {
            merged.retain(|key| keep(Part::Key(key)));
        }
        self.telemetry.take_if(|(merged, _)| merged.is_empty());
        self.connection_state
            .take_if(|_| !keep(Part::ConnectionState));
        self.device_twin.take_if(|_| !keep(Part::DeviceTwin));
    }

    fn pop(&mut self, device: &DeviceId) -> Option<Arc<Update>> {
        if let Some((merged, stamp)) = self.telemetry.take() {
            let body = UpdateBody::Telemetry(merged.into_telemetry());
            return Some(Arc::new(Update::new(device.clone(), stamp, body)));
        }
        self.connection_state
            .take()
            .or_else(|| self.device_twin.take())
    }

    fn is_empty(&self) -> bool {
        self.telemetry.is_none() && self.connection_state.is_none() && self.device_twin.is_none()
    }

    fn bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let updates = [&self.connection_state, &self.device_twin]
            .into_iter()
            .flatten();
        CONFLATED_DEVICE_BYTES
            + self
                .telemetry
                .as_ref()
                .map_or(0, |(merged, _)| merged.bytes())
            + updates.map(|update| update.bytes()).sum::<usize>()
    }
}
