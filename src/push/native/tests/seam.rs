//! Snapshots and the updates after them: no gap, nothing twice, never back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use relay_protocol::Update;
use relay_protocol::native::{ClientMessage, DeviceSnapshot, Hello, ServerMessage, Updates};
use tokio::task::JoinSet;

use super::harness::{Client, EVERY_KEY, Server, every_key, roomy};
use crate::domain::id::SessionId;
use crate::domain::limits::OutboxLimits;
use crate::push::Settings;
use crate::relay;

const DEVICES: [&str; 4] = ["d1", "d2", "d3", "d4"];

/// What a client knows of each device.
#[derive(Debug, Default)]
struct View {
    /// The number last seen; absent while the device is not subscribed.
    last: HashMap<String, Option<u64>>,
    /// Whether every number must come, rather than any newer one.
    is_exact: bool,
}

impl View {
    fn on_snapshot(&mut self, device: &str, snapshot: &[DeviceSnapshot]) {
        let known = snapshot
            .iter()
            .find(|known| known.device_id.as_str() == device);
        let number = known.map(|known| known.telemetry["n"].value.read().unwrap());
        self.last.insert(device.to_owned(), number);
    }

    fn on_updates(&mut self, updates: &Updates) {
        for update in &updates.updates {
            let device = update.device_id.as_str();
            let Update::Telemetry(values) = &update.update else {
                panic!("{update:?}");
            };
            let number: u64 = values["n"].read().unwrap();
            let last = self
                .last
                .get_mut(device)
                .unwrap_or_else(|| panic!("{device} is not subscribed: {number}"));
            match *last {
                Some(last) if self.is_exact => assert_eq!(number, last + 1, "{device}"),
                Some(last) => assert!(number > last, "{device}: {number} after {last}"),
                None => assert!(!self.is_exact || number == 1, "{device}: {number}"),
            }
            *last = Some(number);
        }
    }
}

/// Devices that count up.
struct Writers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    written: Arc<[AtomicU64; DEVICES.len()]>,
}

impl Writers {
    fn start(server: &Arc<Server>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new([const { AtomicU64::new(0) }; DEVICES.len()]);
        let mut tasks = JoinSet::new();
        for (place, device) in DEVICES.into_iter().enumerate() {
            let (server, stop, written) = (server.clone(), stop.clone(), written.clone());
            tasks.spawn(async move {
                // As fast as an unoptimized client keeps up with.
                let mut pace = tokio::time::interval(Duration::from_millis(1));
                while !stop.load(Ordering::Relaxed) {
                    let number = written[place].load(Ordering::Relaxed) + 1;
                    server
                        .send_telemetry(device, &[("n", &number.to_string())])
                        .await;
                    written[place].store(number, Ordering::Relaxed);
                    pace.tick().await;
                }
            });
        }
        Self {
            tasks,
            stop,
            written,
        }
    }

    /// The last numbers.
    async fn stop(mut self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let written = self.written.iter();
        written
            .map(|number| number.load(Ordering::Relaxed))
            .collect()
    }
}

async fn granted_everything(server: &Server) -> Client {
    let mut client = server.client().await;
    let hello = client.hello(Hello::default()).await;
    let session = SessionId::parse(hello.session_id.as_str()).unwrap();
    for device in DEVICES {
        server.grant(session, device, EVERY_KEY).await;
    }
    client
}

/// Subscribes to a device, taking in what comes meanwhile.
async fn subscribe(client: &mut Client, view: &mut View, device: &str) {
    client.ask_to_subscribe([every_key(device).into()]).await;
    loop {
        match client.message().await {
            ServerMessage::Updates(updates) => view.on_updates(&updates),
            ServerMessage::Subscribed(subscribed) => {
                return view.on_snapshot(device, &subscribed.snapshot);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn unsubscribe(client: &mut Client, view: &mut View, device: &str) {
    let id = client.next_id();
    let subscriptions = vec![every_key(device)];
    client
        .send(&ClientMessage::Unsubscribe { id, subscriptions })
        .await;
    loop {
        match client.message().await {
            ServerMessage::Updates(updates) => view.on_updates(&updates),
            ServerMessage::Unsubscribed { .. } => {
                view.last.remove(device);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Reads until the view shows these numbers.
async fn catch_up(client: &mut Client, view: &mut View, written: &[u64]) {
    let is_there = |view: &View| {
        DEVICES
            .iter()
            .zip(written)
            .all(|(device, number)| view.last[*device] == Some(*number))
    };
    while !is_there(view) {
        view.on_updates(&client.updates().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_and_the_updates_after_it_have_no_gap_and_nothing_twice() {
    let server = Arc::new(Server::start().await);
    let mut client = granted_everything(&server).await;
    let mut view = View {
        is_exact: true,
        ..View::default()
    };
    let writers = Writers::start(&server);
    for round in 0..60 {
        let device = DEVICES[round % DEVICES.len()];
        if view.last.contains_key(device) {
            // Before the updates that were on their way when it was asked for.
            subscribe(&mut client, &mut view, device).await;
        }
        unsubscribe(&mut client, &mut view, device).await;
        subscribe(&mut client, &mut view, device).await;
        for _ in 0..3 {
            view.on_updates(&client.updates().await);
        }
    }
    let written = writers.stop().await;
    catch_up(&mut client, &mut view, &written).await;
    assert!(written.iter().all(|number| *number > 60), "{written:?}");
    client.still_answers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_is_behind_never_goes_back_and_ends_with_the_newest() {
    let settings = relay::Settings {
        outbox_limits: OutboxLimits {
            frames_max: 3,
            ..roomy().outbox_limits
        },
        ..roomy()
    };
    let server = Arc::new(Server::with(Settings::default(), settings).await);
    let mut client = granted_everything(&server).await;
    let mut view = View::default();
    let writers = Writers::start(&server);
    for round in 0..60 {
        let device = DEVICES[round % DEVICES.len()];
        unsubscribe(&mut client, &mut view, device).await;
        subscribe(&mut client, &mut view, device).await;
        view.on_updates(&client.updates().await);
    }
    let written = writers.stop().await;
    catch_up(&mut client, &mut view, &written).await;
    client.still_answers().await;
}
