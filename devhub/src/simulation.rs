//! Simulated devices that are real clients of the hub: they connect over MQTT with their own keys, send
//! telemetry that moves like physical measurements, answer direct methods, follow their desired
//! properties, and are lost and come back.
//!
//! The devices are one state machine without timers (`fleet`); the task here steps it, lets it hear what
//! the hub says, and has the connections do what it wants. A step that comes late is not made up for,
//! so a busy machine gets fewer messages instead of bursts.

mod connection;
mod connections;
mod device;
mod fleet;
mod interval;
mod machine;
mod method;
mod signal;
mod topic;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::iot_hub::{HubError, IdentityId, IotHub};
use connection::Hearing;
use connections::{Connections, Credentials};
use fleet::Fleet;

const STEP: Duration = Duration::from_millis(10);

/// So many actions are carried out before other tasks get their turn.
const CARRIED_OUT_AT_ONCE_MAX: usize = 64;

/// What to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulationConfig {
    /// Where the hub listens for MQTT without TLS.
    pub mqtt: SocketAddr,
    /// How many devices there are; 0 means none.
    pub device_count: usize,
    /// Telemetry messages a second over all devices that are online. `None` leaves it to each device,
    /// which sends every half second to every five seconds by its kind. A device that is told an interval
    /// keeps to it in either case.
    pub rate: Option<NonZeroU32>,
    /// Two simulations of one seed differ only by their clocks and by what they are told.
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
    /// Registers the devices and starts them on the current Tokio runtime; within a second all begin to
    /// connect.
    pub fn start(
        config: &SimulationConfig,
        hub: &IotHub,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HubError> {
        let credentials = device_ids(config.device_count)
            .map(|device_id| register(hub, device_id))
            .collect::<Result<_, _>>()?;
        let fleet = Fleet::new(
            config.device_count,
            config.rate,
            config.seed,
            clock.now_ms(),
        );
        let (connections, hearings) = Connections::new(reachable(config.mqtt), credentials);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(fleet, connections, hearings, clock, stop.clone()));
        Ok(Self {
            task,
            stop: stop.drop_guard(),
        })
    }

    /// Cuts the devices' connections where they are. They stay registered.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(error.message = %error, "the simulated devices have crashed");
        }
    }
}

/// Has the hub know a device. Its keys are those that the hub keeps for the name.
fn register(hub: &IotHub, device_id: String) -> Result<Credentials, HubError> {
    let id = IdentityId::device(&device_id)?;
    let key = hub.create_identity_with_kept_keys(&id)?.primary;
    Ok(Credentials { device_id, key })
}

/// How a client on this machine reaches a listener.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

async fn run(
    mut fleet: Fleet,
    mut connections: Connections,
    mut hearings: mpsc::Receiver<Hearing>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut steps = tokio::time::interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut actions = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(hearing) = hearings.recv() => {
                if connections.admit(&hearing) {
                    fleet.hear(hearing.device, hearing.heard, clock.now_ms(), &mut actions);
                }
            }
            () = connections.ended(), if connections.any() => {}
            _ = steps.tick() => fleet.step(clock.now_ms(), &mut actions),
        }
        for (count, action) in actions.drain(..).enumerate() {
            connections.carry_out(action, clock.now_ms());
            if count % CARRIED_OUT_AT_ONCE_MAX == CARRIED_OUT_AT_ONCE_MAX - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
    // Connections that wait to be heard must not wait for ever.
    drop(hearings);
    connections.cut().await;
}

#[cfg(test)]
mod tests;
