//! The consumer against a devhub in the same process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use devhub::Devhub;
use devhub::event::{AnnotationValue, Event};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::clock::SystemClock;
use crate::domain::device_message::{Content, DeviceMessage};
use crate::ingest::State;
use crate::telemetry::Metrics;

/// Long enough for anything that happens at all, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sink that keeps everything, and can be shut.
#[derive(Clone)]
struct Inbox {
    messages: Arc<Mutex<Vec<DeviceMessage>>>,
    arrived: Arc<Notify>,
    gate: Arc<Semaphore>,
}

impl Inbox {
    fn new() -> Self {
        Self {
            messages: Arc::default(),
            arrived: Arc::default(),
            gate: Arc::new(Semaphore::new(1)),
        }
    }

    /// The numbers that arrived, in order, by device.
    fn numbers(&self) -> BTreeMap<String, Vec<u64>> {
        let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for message in self.messages.lock().iter() {
            let Content::Telemetry(telemetry) = &message.content else {
                continue;
            };
            let members = telemetry.telemetry.as_ref().unwrap();
            let (_, _, number) = members.iter().next().unwrap();
            let device = numbers.entry(message.device_id.to_string()).or_default();
            device.push(number.parse().unwrap());
        }
        numbers
    }

    fn count(&self) -> usize {
        self.messages.lock().len()
    }

    async fn wait_for(&self, count: usize) {
        let arrived = async {
            while self.count() < count {
                self.arrived.notified().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, arrived).await;
        assert!(
            waited.is_ok(),
            "{} of {count} messages arrived",
            self.count()
        );
    }
}

impl Sink for Inbox {
    async fn ingest(&self, messages: Vec<DeviceMessage>) {
        let _open = self.gate.acquire().await.unwrap();
        self.messages.lock().extend(messages);
        self.arrived.notify_one();
    }
}

/// A consumer at work.
struct Running {
    inbox: Inbox,
    status: Status,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    fn start(connection_string: &str, change: impl FnOnce(&mut Consumer<Inbox>)) -> Self {
        let (inbox, status, metrics) = (Inbox::new(), Status::new(), Metrics::new());
        let mut consumer = Consumer {
            hub: connection_string.parse().unwrap(),
            consumer_group: "$Default".to_owned(),
            transport: EventHubTransport::Amqp,
            start: EventHubStart::Latest,
            decoding: DecodingConfig::default(),
            timing: Timing {
                watch_interval: Duration::from_millis(200),
                ..Timing::default()
            },
            sink: inbox.clone(),
            status: status.clone(),
            metrics: Arc::clone(&metrics.ingest),
            clock: SystemClock::shared(),
        };
        change(&mut consumer);
        let stop = CancellationToken::new();
        let task = tokio::spawn(consumer.run(stop.clone()));
        Self {
            inbox,
            status,
            metrics,
            stop,
            task,
        }
    }

    async fn connected(&self) {
        until("the source is read", || {
            self.status.state() == State::Running && self.status.source_lost_since().is_none()
        })
        .await;
    }

    async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the consumer stops").unwrap().unwrap();
    }
}

/// Waits for something that nothing announces.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, poll).await;
    assert!(waited.is_ok(), "in vain: {what}");
}

async fn devhub() -> Devhub {
    Devhub::start(devhub::Options::default()).await.unwrap()
}

/// Publishes one telemetry message as IoT Hub would.
fn publish(devhub: &Devhub, device: &str, number: u64) {
    let event = Event {
        annotations: vec![
            (
                "iothub-connection-device-id".to_owned(),
                AnnotationValue::String(device.to_owned()),
            ),
            (
                "iothub-message-source".to_owned(),
                AnnotationValue::String("Telemetry".to_owned()),
            ),
            (
                "iothub-enqueuedtime".to_owned(),
                AnnotationValue::TimestampMs(1_714_557_600_123),
            ),
        ],
        body: format!(r#"{{"number":{number}}}"#).into(),
        ..Event::default()
    };
    devhub.event_hub().publish(device, &event);
}

const DEVICES: [&str; 5] = ["d1", "d2", "d3", "d4", "d5"];

/// What every device should have sent.
fn all_of(numbers: std::ops::Range<u64>) -> BTreeMap<String, Vec<u64>> {
    DEVICES
        .iter()
        .map(|device| ((*device).to_owned(), numbers.clone().collect()))
        .collect()
}

fn publish_all(devhub: &Devhub, numbers: std::ops::Range<u64>) {
    for number in numbers {
        for device in DEVICES {
            publish(devhub, device, number);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_from_now_on_arrives_once_and_in_order() {
    let devhub = devhub().await;
    publish_all(&devhub, 0..10);
    let running = Running::start(&devhub.event_hub_connection_string(), |_| {});
    running.connected().await;
    publish_all(&devhub, 10..1000);
    running.inbox.wait_for(DEVICES.len() * 990).await;
    assert_eq!(running.inbox.numbers(), all_of(10..1000));
    let first = running.inbox.messages.lock()[0].clone();
    assert_eq!(first.timestamp.to_string(), "2024-05-01T10:00:00.123Z");
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earliest_start_reads_what_the_hub_still_holds() {
    let devhub = devhub().await;
    publish_all(&devhub, 0..10);
    let running = Running::start(&devhub.event_hub_connection_string(), |consumer| {
        consumer.start = EventHubStart::Earliest;
    });
    running.inbox.wait_for(DEVICES.len() * 10).await;
    assert_eq!(running.inbox.numbers(), all_of(0..10));
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_lose_and_repeat_nothing() {
    let devhub = devhub().await;
    let running = Running::start(&devhub.event_hub_connection_string(), |_| {});
    running.connected().await;
    for round in 0..5 {
        publish_all(&devhub, round * 100..round * 100 + 50);
        devhub.faults().close_connections();
        publish_all(&devhub, round * 100 + 50..(round + 1) * 100);
        let expected = DEVICES.len() * 100 * (usize::try_from(round).unwrap() + 1);
        running.inbox.wait_for(expected).await;
    }
    assert_eq!(running.inbox.numbers(), all_of(0..500));
    assert!(running.metrics.ingest.reconnects.get() >= 1);
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_link_is_attached_again_without_touching_the_others() {
    let devhub = devhub().await;
    let running = Running::start(&devhub.event_hub_connection_string(), |_| {});
    running.connected().await;
    publish_all(&devhub, 0..50);
    for partition in [0, 2] {
        let detached = devhub.faults().detach_receivers(
            partition,
            "amqp:link:stolen",
            "New receiver with higher epoch",
        );
        assert_eq!(detached, 1);
    }
    publish_all(&devhub, 50..100);
    running.inbox.wait_for(DEVICES.len() * 100).await;
    assert_eq!(running.inbox.numbers(), all_of(0..100));
    assert_eq!(running.metrics.ingest.reconnects.get(), 0);
    running.connected().await;
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sixth_reader_waits_until_another_leaves() {
    let devhub = devhub().await;
    let connection_string = devhub.event_hub_connection_string();
    let mut readers = Vec::new();
    for _ in 0..5 {
        let running = Running::start(&connection_string, |_| {});
        running.connected().await;
        readers.push(running);
    }
    let sixth = Running::start(&connection_string, |_| {});
    until("the refusal is told", || {
        sixth.status.source_lost_since().is_some()
    })
    .await;
    assert_eq!(sixth.status.state(), State::Initializing);
    assert_eq!(sixth.metrics.ingest.reconnects.get(), 0);
    publish_all(&devhub, 0..10);
    for running in readers {
        running.inbox.wait_for(DEVICES.len() * 10).await;
        running.stop().await;
    }
    sixth.connected().await;
    sixth.inbox.wait_for(DEVICES.len() * 10).await;
    assert_eq!(sixth.inbox.numbers(), all_of(0..10));
    sixth.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_started_over_is_read_from_its_new_beginning() {
    let first = devhub().await;
    let running = Running::start(&first.event_hub_connection_string(), |_| {});
    running.connected().await;
    publish_all(&first, 0..20);
    running.inbox.wait_for(DEVICES.len() * 20).await;
    let connection_string = first.event_hub_connection_string();
    let key = connection_string
        .split("SharedAccessKey=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let address = first.amqp_address();
    first.stop().await;
    until("the loss is noticed", || {
        running.status.source_lost_since().is_some()
    })
    .await;
    assert_eq!(running.status.state(), State::Running);

    let options = devhub::Options {
        amqp: address,
        shared_access_key: Some(devhub::sas::SharedAccessKey::new(key)),
        ..devhub::Options::default()
    };
    let second = Devhub::start(options).await.unwrap();
    publish_all(&second, 20..60);
    running.inbox.wait_for(DEVICES.len() * 60).await;
    assert_eq!(running.inbox.numbers(), all_of(0..60));
    running.connected().await;
    running.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lived_tokens_are_renewed_before_they_lapse() {
    let devhub = devhub().await;
    let running = Running::start(&devhub.event_hub_connection_string(), |consumer| {
        consumer.timing.token_lifetime = Duration::from_secs(3);
    });
    running.connected().await;
    let mut number = 0;
    until("tokens were renewed", || {
        publish(&devhub, "d1", number);
        number += 1;
        running.metrics.ingest.token_renewals.get() >= 3
    })
    .await;
    running
        .inbox
        .wait_for(usize::try_from(number).unwrap())
        .await;
    assert_eq!(
        running.inbox.numbers()["d1"],
        (0..number).collect::<Vec<_>>()
    );
    assert_eq!(running.metrics.ingest.reconnects.get(), 0);
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_link_is_rebuilt_when_its_partition_moves_on() {
    let devhub = devhub().await;
    let running = Running::start(&devhub.event_hub_connection_string(), |consumer| {
        consumer.timing.silence_max = Duration::from_millis(500);
    });
    running.connected().await;
    for partition in 0..4 {
        assert!(devhub.faults().stall_partition(partition, true));
    }
    publish_all(&devhub, 0..10);
    until("the silence is noticed", || {
        running.metrics.ingest.stalled_links.get() > 0
    })
    .await;
    for partition in 0..4 {
        devhub.faults().stall_partition(partition, false);
    }
    running.inbox.wait_for(DEVICES.len() * 10).await;
    assert_eq!(running.inbox.numbers(), all_of(0..10));
    running.connected().await;
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_the_hub_gave_up_are_counted_and_the_rest_arrives() {
    let log_bounds = devhub::LogBounds {
        events_max: 10,
        ..devhub::LogBounds::default()
    };
    let options = devhub::Options {
        partitions: 1,
        log_bounds,
        ..devhub::Options::default()
    };
    let devhub = Devhub::start(options).await.unwrap();
    let running = Running::start(&devhub.event_hub_connection_string(), |_| {});
    running.connected().await;
    publish(&devhub, "d1", 0);
    running.inbox.wait_for(1).await;
    assert!(devhub.faults().stall_partition(0, true));
    for number in 1..=30 {
        publish(&devhub, "d1", number);
    }
    devhub.faults().stall_partition(0, false);
    running.inbox.wait_for(11).await;
    let received: Vec<u64> = std::iter::once(0).chain(21..=30).collect();
    assert_eq!(running.inbox.numbers()["d1"], received);
    until("the gap is counted", || {
        running.metrics.ingest.missing_events.get() == 20
    })
    .await;
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_behind_holds_the_hub_back() {
    let devhub = devhub().await;
    let running = Running::start(&devhub.event_hub_connection_string(), |consumer| {
        consumer.timing.silence_max = Duration::from_millis(300);
    });
    running.connected().await;
    let shut = running.inbox.gate.clone().acquire_owned().await.unwrap();
    for number in 0..5_000 {
        publish(&devhub, "d1", number);
    }
    // Several looks of the watchdog later nothing has been taken, and waiting for the sink is not taken for silence.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running.inbox.count(), 0);
    assert_eq!(running.metrics.ingest.stalled_links.get(), 0);
    assert_eq!(running.status.source_lost_since(), None);
    drop(shut);
    running.inbox.wait_for(5_000).await;
    assert_eq!(
        running.inbox.numbers()["d1"],
        (0..5_000).collect::<Vec<_>>()
    );
    assert_eq!(running.metrics.ingest.reconnects.get(), 0);
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_leave_the_source_lost_until_they_end() {
    let devhub = devhub().await;
    devhub.faults().fail_put_token(true);
    let running = Running::start(&devhub.event_hub_connection_string(), |_| {});
    until("the loss is told", || {
        running.status.source_lost_since().is_some()
    })
    .await;
    assert_eq!(running.status.state(), State::Initializing);
    devhub.faults().refuse_attach(true);
    devhub.faults().fail_put_token(false);
    assert_eq!(running.status.state(), State::Initializing);
    devhub.faults().refuse_attach(false);
    running.connected().await;
    publish_all(&devhub, 0..10);
    running.inbox.wait_for(DEVICES.len() * 10).await;
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_nobody_can_read_does_not_stop_those_behind_it() {
    let devhub = devhub().await;
    let running = Running::start(&devhub.event_hub_connection_string(), |_| {});
    running.connected().await;
    let nobodys = Event {
        body: "no device".into(),
        ..Event::default()
    };
    devhub.event_hub().publish("d1", &nobodys);
    publish(&devhub, "d1", 7);
    running.inbox.wait_for(1).await;
    assert_eq!(running.inbox.numbers()["d1"], [7]);
    let text = running.metrics.render();
    assert!(
        text.contains(r#"hubrelay_ingest_dropped_messages_total{reason="no_device_id"} 1"#),
        "{text}"
    );
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_over_the_size_limit_does_not_stop_those_behind_it() {
    let devhub = devhub().await;
    let running = Running::start(&devhub.event_hub_connection_string(), |consumer| {
        consumer.decoding.message_bytes_max = 1024;
    });
    running.connected().await;
    publish(&devhub, "d1", 1);
    for bytes in [2 * 1024, 500 * 1024] {
        let large = Event {
            body: vec![b'1'; bytes].into(),
            ..Event::default()
        };
        devhub.event_hub().publish("d1", &large);
    }
    publish(&devhub, "d1", 2);
    running.inbox.wait_for(2).await;
    assert_eq!(running.inbox.numbers()["d1"], [1, 2]);
    let text = running.metrics.render();
    let dropped = r#"hubrelay_ingest_dropped_messages_total{reason="too_large"} 2"#;
    assert!(text.contains(dropped), "{text}");
    assert_eq!(running.metrics.ingest.reconnects.get(), 0);
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_peer_is_noticed_and_left() {
    let devhub = devhub().await;
    let proxy = Proxy::start(devhub.amqp_address()).await;
    let running = Running::start(&proxy.connection_string(&devhub), |consumer| {
        consumer.timing.watch_limit = Duration::from_millis(500);
    });
    running.connected().await;
    proxy.freeze();
    publish_all(&devhub, 0..10);
    running.inbox.wait_for(DEVICES.len() * 10).await;
    assert_eq!(running.inbox.numbers(), all_of(0..10));
    assert!(running.metrics.ingest.reconnects.get() >= 1);
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_at_once_while_the_hub_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let running = Running::start(
        &format!(
            "Endpoint=sb://127.0.0.1:{port};SharedAccessKeyName=a;SharedAccessKey=b;EntityPath=c;UseDevelopmentEmulator=true"
        ),
        |_| {},
    );
    // Accepted and never answered.
    let _socket = listener.accept().await.unwrap();
    let begun = Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_also_travels_over_a_websocket() {
    let devhub = devhub().await;
    let bridge = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = bridge.local_addr().unwrap();
    let bridging = tokio::spawn(bridge_websocket(bridge, devhub.amqp_address()));
    let running = Running::start(&connection_string_via(&devhub, address), |consumer| {
        consumer.transport = EventHubTransport::WebSocket;
    });
    running.connected().await;
    publish_all(&devhub, 0..500);
    running.inbox.wait_for(DEVICES.len() * 500).await;
    assert_eq!(running.inbox.numbers(), all_of(0..500));
    running.stop().await;
    bridging.abort();
    devhub.stop().await;
}

const TLS_CONNECTION_STRING: &str = "HUBRELAY_TEST_TLS_CONNECTION_STRING";

/// Trust is given to a process, so this runs the test below in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_the_authority_in_ssl_cert_file_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let options = devhub::Options {
        amqp_tls: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tls_dir: Some(directory.path().to_owned()),
        ..devhub::Options::default()
    };
    let devhub = Devhub::start(options).await.unwrap();
    publish(&devhub, "d1", 1);
    let connection_string = devhub.tls_connection_string().unwrap();
    let ca = devhub.ca_path().unwrap().to_owned();
    let trusting = tokio::task::spawn_blocking(move || {
        let test = "ingest::event_hubs::tests::a_process_reads_over_tls";
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(TLS_CONNECTION_STRING, connection_string)
            .env("SSL_CERT_FILE", ca)
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    assert!(
        trusting.status.success(),
        "{}",
        String::from_utf8_lossy(&trusting.stdout)
    );

    let running = Running::start(&devhub.tls_connection_string().unwrap(), |_| {});
    until("the loss is told", || {
        running.status.source_lost_since().is_some()
    })
    .await;
    assert_eq!(running.status.state(), State::Initializing);
    running.stop().await;
    devhub.stop().await;
}

#[tokio::test]
#[ignore = "run by tls_trusts_the_authority_in_ssl_cert_file_and_no_other"]
async fn a_process_reads_over_tls() {
    let connection_string = std::env::var(TLS_CONNECTION_STRING).unwrap();
    let running = Running::start(&connection_string, |consumer| {
        consumer.start = EventHubStart::Earliest;
    });
    running.inbox.wait_for(1).await;
    running.stop().await;
}

fn connection_string_via(devhub: &Devhub, address: SocketAddr) -> String {
    let real = format!("localhost:{}", devhub.amqp_address().port());
    devhub
        .event_hub_connection_string()
        .replace(&real, &address.to_string())
}

/// A TCP proxy whose open connections can be frozen: they stay open and carry nothing more.
struct Proxy {
    address: SocketAddr,
    frozen: Arc<Notify>,
}

impl Proxy {
    async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let frozen = Arc::new(Notify::new());
        let freeze = Arc::clone(&frozen);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let freeze = Arc::clone(&freeze);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(upstream).await.unwrap();
                    tokio::select! {
                        biased;
                        () = freeze.notified() => std::future::pending().await,
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    }
                });
            }
        });
        Self { address, frozen }
    }

    fn connection_string(&self, devhub: &Devhub) -> String {
        connection_string_via(devhub, self.address)
    }

    fn freeze(&self) {
        self.frozen.notify_waiters();
    }
}

/// Takes one WebSocket as Event Hubs does and carries its bytes to an AMQP listener.
#[expect(
    clippy::result_large_err,
    reason = "the callback's type is given by tungstenite"
)]
async fn bridge_websocket(listener: TcpListener, upstream: SocketAddr) {
    let (socket, _) = listener.accept().await.unwrap();
    let answer = |request: &Request, mut response: Response| {
        assert_eq!(request.uri().path(), "/$servicebus/websocket");
        let protocol = request.headers()["sec-websocket-protocol"].clone();
        assert_eq!(protocol, "AMQPWSB10");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let websocket = tokio_tungstenite::accept_hdr_async(socket, answer)
        .await
        .unwrap();
    let (mut to_client, mut from_client) = websocket.split();
    let (mut from_hub, mut to_hub) = TcpStream::connect(upstream).await.unwrap().into_split();
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            if to_hub.write_all(&message.into_data()).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = from_hub.read(&mut chunk).await {
            let message = Message::Binary(chunk[..length].to_vec().into());
            if to_client.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(up, down);
}
