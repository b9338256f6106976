//! Throttling: at most one telemetry update of a device to a session within an interval, and nothing lost for good.
//!
//! The first update goes out at once and opens a window. What comes within the window is merged by key; at its end the
//! merged newest values go out and open the next one.

use std::sync::Arc;

use super::super::id::DeviceId;
use super::super::telemetry::{MergedTelemetry, Telemetry};
use super::super::time::Stamp;
use super::super::update::{Update, UpdateBody};

/// A session's throttling window for the keys of a device that it gets in one way.
#[derive(Debug)]
pub(super) struct Window {
    ends_at_ms: u64,
    pending: Option<(MergedTelemetry, Stamp)>,
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
    pub(super) fn merge(&mut self, telemetry: &Telemetry, stamp: &Stamp) {
        let (merged, newest) = self
            .pending
            .get_or_insert_with(|| (MergedTelemetry::default(), stamp.clone()));
        merged.merge(telemetry);
        newest.clone_from(stamp);
    }

    /// Keeps only the keys that satisfy `keep`.
    pub(super) fn retain(&mut self, keep: impl FnMut(&str) -> bool) {
        if let Some((merged, _)) = &mut self.pending {
            merged.retain(keep);
        }
        self.pending.take_if(|(merged, _)| merged.is_empty());
    }

    /// Takes out what was kept.
    pub(super) fn take(&mut self) -> Option<(Telemetry, Stamp)> {
        let (merged, stamp) = self.pending.take()?;
        Some((merged.into_telemetry(), stamp))
    }

    /// The update with what was kept, if there is any.
    pub(super) fn close(mut self, device: &DeviceId) -> Option<Arc<Update>> {
        let (telemetry, stamp) = self.take()?;
        let body = UpdateBody::Telemetry(telemetry);
        Some(Arc::new(Update::new(device.clone(), stamp, body)))
    }
}
