//! All simulated devices as one state machine: time and what the hub says in, actions out. It has no
//! timers, reads no clock, does no I/O, and does the same again for the same seed and inputs.

use std::num::NonZeroU32;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::device::{Action, Device, Heard};

/// The devices connect one after another within this time.
const ALL_CONNECTED_MS: usize = 1_000;

/// The most messages a set rate gives in one step; what is beyond is never sent.
pub(super) const PACED_PER_STEP_MAX: u32 = 20_000;

/// What one device does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeviceAction {
    /// The device's index, from 0.
    pub(super) device: usize,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) struct Fleet {
    devices: Vec<Device>,
    pace: Pace,
    rng: StdRng,
    now_ms: i64,
}

/// What decides when telemetry is sent.
#[derive(Debug)]
enum Pace {
    /// Each device's own interval.
    Devices,
    /// A total rate, shared evenly among those online. A device that was told an interval keeps to that
    /// and takes no part.
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
            devices,
            pace,
            rng,
            now_ms: start_ms,
        }
    }

    /// Appends to `actions` what the devices do up to `now_ms`. A clock that goes back is taken to stand
    /// still.
    pub(super) fn step(&mut self, now_ms: i64, actions: &mut Vec<DeviceAction>) {
        let elapsed_ms = u64::try_from(now_ms - self.now_ms).unwrap_or(0);
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;

        for (index, device) in self.devices.iter_mut().enumerate() {
            device.live(now_ms, &mut self.rng, push(actions, index));
        }
        let paced_together = matches!(self.pace, Pace::Rate { .. });
        for (index, device) in self.devices.iter_mut().enumerate() {
            if paced_together && !device.keeps_told_interval() {
                continue;
            }
            if let Some(body) = device.telemetry_due(now_ms, &mut self.rng) {
                push(actions, index)(Action::Send(body));
            }
        }
        let Pace::Rate {
            per_second,
            owed_thousandths,
            next_device,
        } = &mut self.pace
        else {
            return;
        };
        *owed_thousandths = owed_thousandths
            .saturating_add(elapsed_ms.saturating_mul(u64::from(per_second.get())))
            .min(u64::from(PACED_PER_STEP_MAX) * 1_000);
        while *owed_thousandths >= 1_000 {
            let Some(index) = next_at_rate(&self.devices, next_device) else {
                break;
            };
            *owed_thousandths -= 1_000;
            let body = self.devices[index].telemetry(now_ms, &mut self.rng);
            push(actions, index)(Action::Send(body));
        }
    }

    /// Has a device hear something from the hub, and appends to `actions` what it does at once. What it
    /// does later comes with the steps.
    pub(super) fn hear(
        &mut self,
        device: usize,
        heard: Heard,
        now_ms: i64,
        actions: &mut Vec<DeviceAction>,
    ) {
        self.now_ms = self.now_ms.max(now_ms);
        self.devices[device].hear(heard, self.now_ms, &mut self.rng, push(actions, device));
    }
}

fn push(actions: &mut Vec<DeviceAction>, device: usize) -> impl FnMut(Action) {
    move |action| actions.push(DeviceAction { device, action })
}

/// The next device at or after the place of `cursor` that is online and takes part in the common rate;
/// the cursor moves past it.
fn next_at_rate(devices: &[Device], cursor: &mut usize) -> Option<usize> {
    for _ in devices {
        let index = *cursor % devices.len();
        *cursor = (*cursor + 1) % devices.len();
        if devices[index].is_online() && !devices[index].keeps_told_interval() {
            return Some(index);
        }
    }
    None
}

#[cfg(test)]
mod tests;
