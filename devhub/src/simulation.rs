//! Simulated devices that publish into the event hub as if through an IoT hub: telemetry that moves
//! like physical measurements, devices that are lost and come back, twins that change now and then.
//!
//! The devices are one state machine without timers (`fleet`); the task here steps it and publishes
//! what it gives. A step that comes late is not made up for, so a busy machine gets fewer messages
//! instead of bursts.

mod device;
mod fleet;
mod machine;
mod signal;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::event_hub::EventHub;
use fleet::{DeviceEvent, Fleet};

const STEP: Duration = Duration::from_millis(10);

/// So many events are published before other tasks get their turn.
const PUBLISHED_AT_ONCE_MAX: usize = 64;

/// What to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulationConfig {
    /// The IoT hub's name that connection-state and twin events carry.
    pub hub_name: String,
    /// How many devices there are; 0 means none.
    pub device_count: usize,
    /// Telemetry messages a second over all devices that are online. `None` leaves it to each device,
    /// which sends every half second to every five seconds by its kind.
    pub rate: Option<NonZeroU32>,
    /// Two simulations of one seed differ only by their clocks.
    pub seed: u64,
}

/// The ids of the first `device_count` simulated devices: `press-01`, `tank-02`, `truck-03`, `room-04`,
/// `press-05` and so on.
pub fn device_ids(device_count: usize) -> impl Iterator<Item = String> {
    (0..device_count).map(device::device_id)
}

/// Running simulated devices. Dropped without [`Simulation::stop`], they end soon after.
#[derive(Debug)]
pub struct Simulation {
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Simulation {
    /// Starts the devices on the current Tokio runtime; within a second all are connected.
    pub fn start(config: &SimulationConfig, event_hub: EventHub, clock: Arc<dyn Clock>) -> Self {
        let fleet = Fleet::new(
            &config.hub_name,
            config.device_count,
            config.rate,
            config.seed,
            clock.now_ms(),
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(fleet, event_hub, clock, stop.clone()));
        Self {
            task,
            stop: stop.drop_guard(),
        }
    }

    /// Stops the devices where they are; nothing is published after it returns.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(error.message = %error, "the simulated devices have crashed");
        }
    }
}

async fn run(
    mut fleet: Fleet,
    event_hub: EventHub,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut steps = tokio::time::interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = Vec::new();
    while stop.run_until_cancelled(steps.tick()).await.is_some() {
        fleet.step(clock.now_ms(), &mut events);
        for some in events.chunks(PUBLISHED_AT_ONCE_MAX) {
            for DeviceEvent { device_id, event } in some {
                event_hub.publish(device_id, event);
            }
            tokio::task::yield_now().await;
        }
        events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogBounds;
    use crate::clock::SystemClock;
    use crate::event_hub::ConsumerGroups;

    fn published(event_hub: &EventHub) -> i64 {
        (0..event_hub.partition_count())
            .filter_map(|partition| event_hub.partition_properties(partition))
            .map(|properties| properties.last_enqueued_sequence_number + 1)
            .sum()
    }

    #[tokio::test]
    async fn devices_publish_until_they_are_stopped() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let event_hub = EventHub::new(
            "hub",
            2,
            ConsumerGroups::Any,
            LogBounds::default(),
            Arc::clone(&clock),
        );
        let config = SimulationConfig {
            hub_name: "factory".to_owned(),
            device_count: 10,
            rate: NonZeroU32::new(20_000),
            seed: 1,
        };
        let clock_holders = Arc::strong_count(&clock);
        let simulation = Simulation::start(&config, event_hub.clone(), Arc::clone(&clock));
        while published(&event_hub) < 1_000 {
            tokio::task::yield_now().await;
        }
        simulation.stop().await;
        assert_eq!(Arc::strong_count(&clock), clock_holders, "the task is gone");
    }
}
