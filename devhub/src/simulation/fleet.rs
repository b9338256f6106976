//! All simulated devices as one state machine: time in, events out. It has no timers, reads no clock,
//! and does the same again for the same seed and times.

use std::num::NonZeroU32;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::device::Device;
use crate::event::Event;

/// The devices connect one after another within this time.
const ALL_CONNECTED_MS: usize = 1_000;

/// The most messages a set rate gives in one step; what is beyond is never sent.
pub(super) const PACED_PER_STEP_MAX: u32 = 20_000;

/// An event of one device, which is also its partition key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeviceEvent {
    pub(super) device_id: String,
    pub(super) event: Event,
}

#[derive(Debug)]
pub(super) struct Fleet {
    hub_name: String,
    devices: Vec<Device>,
    pace: Pace,
    rng: StdRng,
    last_step_ms: i64,
}

/// What decides when telemetry is sent.
#[derive(Debug)]
enum Pace {
    /// Each device's own interval.
    Devices,
    /// A total rate, shared evenly among those online.
    Rate {
        per_second: NonZeroU32,
        /// Thousandths of a message that the time gone by has earned and that are not sent yet.
        owed_thousandths: u64,
        next_device: usize,
    },
}

impl Fleet {
    /// Devices that begin to connect at `start_ms` (milliseconds since the Unix epoch), each sending at
    /// its own interval or, with a `rate`, all together that many messages a second.
    pub(super) fn new(
        hub_name: &str,
        device_count: usize,
        rate: Option<NonZeroU32>,
        seed: u64,
        start_ms: i64,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let devices = (0..device_count)
            .map(|index| {
                let wait_ms = i64::try_from(index * ALL_CONNECTED_MS / device_count)
                    .expect("less than the time in which all connect");
                Device::new(index, start_ms + wait_ms, &mut rng)
            })
            .collect();
        let pace = rate.map_or(Pace::Devices, |per_second| Pace::Rate {
            per_second,
            owed_thousandths: 0,
            next_device: 0,
        });
        Self {
            hub_name: hub_name.to_owned(),
            devices,
            pace,
            rng,
            last_step_ms: start_ms,
        }
    }

    /// Appends to `events` what happens up to `now_ms`. A clock that goes back is taken to stand still.
    pub(super) fn step(&mut self, now_ms: i64, events: &mut Vec<DeviceEvent>) {
        let elapsed_ms = u64::try_from(now_ms - self.last_step_ms).unwrap_or(0);
        let now_ms = now_ms.max(self.last_step_ms);
        self.last_step_ms = now_ms;

        for device in &mut self.devices {
            let happened = device.live(&self.hub_name, now_ms, &mut self.rng);
            events.extend(happened.map(|event| device_event(device, event)));
        }
        match &mut self.pace {
            Pace::Devices => {
                for device in &mut self.devices {
                    if let Some(event) = device.telemetry_due(now_ms, &mut self.rng) {
                        events.push(device_event(device, event));
                    }
                }
            }
            Pace::Rate {
                per_second,
                owed_thousandths,
                next_device,
            } => {
                *owed_thousandths = owed_thousandths
                    .saturating_add(elapsed_ms.saturating_mul(u64::from(per_second.get())))
                    .min(u64::from(PACED_PER_STEP_MAX) * 1_000);
                while *owed_thousandths >= 1_000 {
                    let Some(device) = next_online(&self.devices, next_device) else {
                        break;
                    };
                    *owed_thousandths -= 1_000;
                    let event = device.telemetry(now_ms, &mut self.rng);
                    events.push(device_event(device, event));
                }
            }
        }
    }
}

fn device_event(device: &Device, event: Event) -> DeviceEvent {
    DeviceEvent {
        device_id: device.id().to_owned(),
        event,
    }
}

/// The next device online at or after the place of `cursor`, which moves past it.
fn next_online<'a>(devices: &'a [Device], cursor: &mut usize) -> Option<&'a Device> {
    for _ in devices {
        let device = &devices[*cursor % devices.len()];
        *cursor = (*cursor + 1) % devices.len();
        if device.is_online() {
            return Some(device);
        }
    }
    None
}

#[cfg(test)]
mod tests;
