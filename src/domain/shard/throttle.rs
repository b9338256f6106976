//! Throttling: at most one telemetry update of a device to a session within an interval, and nothing lost for good.
//!
//! The first update goes out at once and opens a window. What comes within the window is merged by key; at its end the
//! merged newest values go out and open the next one.

use std::sync::Arc;

use super::super::id::DeviceId;
use super::super::id::TelemetryKey;
use super::super::subscription::Selection;
use super::super::telemetry::{MergedTelemetry, Telemetry};
use super::super::time::Timestamp;
use super::super::update::{Update, UpdateBody};

/// A session's throttling window for one device.
#[derive(Debug)]
pub(super) struct Window {
    ends_at_ms: u64,
    pending: Option<(MergedTelemetry, Timestamp)>,
}

impl Window {
    pub(super) fn open(ends_at_ms: u64) -> Self {
        Self {
            ends_at_ms,
            pending: None,
        }
    }

    pub(super) fn ends_at_ms(&self) -> u64 {
        self.ends_at_ms
    }

    /// Keeps newer telemetry for the end of the window.
    pub(super) fn merge(&mut self, telemetry: &Telemetry, timestamp: &Timestamp) {
        let (merged, newest) = self
            .pending
            .get_or_insert_with(|| (MergedTelemetry::default(), timestamp.clone()));
        merged.merge(telemetry);
        newest.clone_from(timestamp);
    }

    /// Drops what the session no longer selects.
    pub(super) fn retain(&mut self, selection: &Selection<TelemetryKey>) {
        if let Some((merged, _)) = &mut self.pending {
            merged.retain(|key| selection.covers(Some(key)));
        }
        self.pending.take_if(|(merged, _)| merged.is_empty());
    }

    /// The update with what was kept, if there is any.
    pub(super) fn close(self, device: &DeviceId) -> Option<Arc<Update>> {
        let (merged, timestamp) = self.pending?;
        let body = UpdateBody::Telemetry(merged.into_telemetry());
        Some(Arc::new(Update::new(device.clone(), timestamp, body)))
    }
}
