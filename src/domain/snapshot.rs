//! What is known of a device at one moment, as far as somebody asked for it.

use super::id::DeviceId;
use super::last_value::LastValue;
use super::raw_json::RawJson;
use super::telemetry::Telemetry;
use super::time::Stamped;
use super::update::{Update, UpdateBody};

/// What is known of a device at one moment, as far as somebody asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSnapshot {
    /// The device.
    pub device_id: DeviceId,
    /// Last values.
    pub telemetry: Vec<LastValue>,
    /// Whether it is connected.
    pub connection_state: Option<Stamped<bool>>,
    /// Its twin, as far as it is known.
    pub device_twin: Option<Stamped<RawJson>>,
}

impl DeviceSnapshot {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.telemetry.is_empty() && self.connection_state.is_none() && self.device_twin.is_none()
    }

    /// The same as updates: one for each telemetry key, since each has a time of its own.
    pub fn into_updates(self) -> impl Iterator<Item = Update> {
        let telemetry = self.telemetry.into_iter().map(|last| {
            let telemetry = Telemetry::one(&last.key, &last.value);
            (last.stamp, UpdateBody::Telemetry(telemetry))
        });
        let state = self.connection_state.map(|state| {
            let body = UpdateBody::ConnectionState(state.value);
            (state.stamp, body)
        });
        let twin = self
            .device_twin
            .map(|twin| (twin.stamp, UpdateBody::DeviceTwin(twin.value)));
        let device_id = self.device_id;
        telemetry
            .chain(state)
            .chain(twin)
            .map(move |(stamp, body)| Update::new(device_id.clone(), stamp, body))
    }
}
