//! Simulated devices against the hub, over sockets.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::*;
use crate::LogBounds;
use crate::clock::SystemClock;
use crate::event_hub::{ConsumerGroups, EventHub};
use crate::iot_hub::{ErrorCode, IfMatch, IotHubSettings, MethodAnswer, MethodCall, Routes};
use crate::mqtt::server::Server;
use crate::sas::SharedAccessKey;

const PATIENCE: Duration = Duration::from_secs(30);

/// A hub with a listener for devices.
struct Bed {
    clock: Arc<dyn Clock>,
    event_hub: EventHub,
    hub: IotHub,
    mqtt: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Bed {
    async fn start() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let event_hub = EventHub::new(
            "hub",
            2,
            ConsumerGroups::Any,
            LogBounds::default(),
            Arc::clone(&clock),
        );
        let settings = IotHubSettings {
            name: "factory".to_owned(),
            key: SharedAccessKey::generate(),
            routes: Routes::default(),
        };
        let hub = IotHub::new(settings, event_hub.clone(), Arc::clone(&clock));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mqtt = listener.local_addr().unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let server = Server::new(hub.clone(), Arc::clone(&clock), 1_000);
        tasks.spawn(server.accept(listener, None, tasks.clone(), stop.clone()));
        Self {
            clock,
            event_hub,
            hub,
            mqtt,
            tasks,
            stop,
        }
    }

    fn simulate(&self, device_count: usize, rate: u32) -> Simulation {
        let config = SimulationConfig {
            mqtt: self.mqtt,
            device_count,
            rate: NonZeroU32::new(rate),
            seed: 1,
        };
        Simulation::start(&config, &self.hub, Arc::clone(&self.clock)).unwrap()
    }

    /// How many events there are on the built-in endpoint.
    fn published(&self) -> i64 {
        (0..self.event_hub.partition_count())
            .filter_map(|partition| self.event_hub.partition_properties(partition))
            .map(|properties| properties.last_enqueued_sequence_number + 1)
            .sum()
    }

    fn reported(&self, device: &IdentityId) -> Value {
        self.hub.twin(device).unwrap()["properties"]["reported"].clone()
    }

    fn is_connected(&self, device: &IdentityId) -> bool {
        self.hub.twin(device).unwrap()["connectionState"] == "Connected"
    }

    async fn call(
        &self,
        device: &IdentityId,
        name: &str,
        payload: Value,
    ) -> Result<MethodAnswer, HubError> {
        let payload = payload.to_string().into();
        let call = MethodCall::new(name, payload, PATIENCE, Duration::ZERO)?;
        self.hub.invoke_method(device, call).await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Lets everybody else work until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what} never happens"));
}

#[tokio::test]
async fn devices_connect_send_at_a_set_rate_and_are_gone_when_stopped() {
    let bed = Bed::start().await;
    let simulation = bed.simulate(10, 2_000);
    let devices: Vec<IdentityId> = device_ids(10)
        .map(|id| IdentityId::device(&id).unwrap())
        .collect();
    until("all devices introduce themselves", || {
        devices
            .iter()
            .all(|device| bed.reported(device)["firmware"].is_string())
    })
    .await;
    assert!(devices.iter().all(|device| bed.is_connected(device)));
    until("a thousand events", || bed.published() > 1_000).await;

    let holders = Arc::strong_count(&bed.clock);
    simulation.stop().await;
    assert!(Arc::strong_count(&bed.clock) < holders, "the task is gone");
    until("the hub misses them", || {
        devices.iter().all(|device| !bed.is_connected(device))
    })
    .await;
    bed.stop().await;
}

#[tokio::test]
async fn a_device_answers_methods_and_is_away_while_it_reboots() {
    let bed = Bed::start().await;
    let simulation = bed.simulate(1, 50);
    let device = IdentityId::device("press-01").unwrap();
    until("the device introduces itself", || {
        bed.reported(&device)["startCount"] == 1
    })
    .await;

    let echo = json!({ "a": [1, "ä"] });
    let answer = bed.call(&device, "echo", echo.clone()).await.unwrap();
    assert_eq!(answer.status, 200);
    let answered: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answered, echo);
    for (name, status) in [("selfTest", 500), ("explode", 404), ("reboot", 200)] {
        let answer = bed.call(&device, name, Value::Null).await.unwrap();
        assert_eq!(answer.status, status, "{name}");
    }

    until("the device goes offline", || !bed.is_connected(&device)).await;
    let refused = bed.call(&device, "echo", Value::Null).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::DeviceNotOnline);
    until("the device comes back", || {
        bed.reported(&device)["startCount"] == 2
    })
    .await;
    simulation.stop().await;
    bed.stop().await;
}

#[tokio::test]
async fn a_device_follows_what_is_desired_of_it() {
    let bed = Bed::start().await;
    let device = IdentityId::device("press-01").unwrap();
    let simulation = bed.simulate(1, 1);
    let desire = |interval: Value| {
        let patch = json!({ "properties": { "desired": { "telemetryInterval": interval } } });
        bed.hub.update_twin(&device, &patch, &IfMatch::Any).unwrap();
    };
    // Before it has connected for the first time.
    desire(json!(700));
    until("the device catches up", || {
        bed.reported(&device)["telemetryInterval"]["value"] == 700
    })
    .await;
    for (interval, value, code) in [(json!(200), 200, 200), (json!("soon"), 200, 400)] {
        desire(interval);
        until("the device says what holds", || {
            let reported = bed.reported(&device)["telemetryInterval"].clone();
            reported["ac"] == code && reported["value"] == value
        })
        .await;
    }
    simulation.stop().await;
    bed.stop().await;
}

#[tokio::test]
async fn a_device_whose_connection_the_hub_ends_comes_back() {
    let bed = Bed::start().await;
    let simulation = bed.simulate(1, 50);
    let device = IdentityId::device("press-01").unwrap();
    until("the device connects", || bed.is_connected(&device)).await;
    assert!(bed.hub.disconnect(&device).unwrap());
    until("the device is missed", || !bed.is_connected(&device)).await;
    until("the device comes back", || bed.is_connected(&device)).await;
    simulation.stop().await;
    bed.stop().await;
}
