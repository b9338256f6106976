//! The source of messages: an Event Hubs sender over AMQP 1.0, which puts batches into each partition.
//!
//! It talks to the stand-in as a producer would, through a socket and with acknowledged batches. Publishing into a
//! stand-in within this process would be cheaper, but the stand-in's own cost would then hide in the generator's; as it
//! is each process has its own bill. It runs on a thread of its own, because the AMQP library is fastest alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fe2o3_amqp::{Sendable, Sender, Session};
use fe2o3_amqp_types::messaging::{Batch, Data, Message, Outcome};
use fe2o3_amqp_types::primitives::Binary;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::event_hub::EventHub;
use crate::event_message::EventTemplate;
use crate::message::Body;
use crate::pace::{Pace, Traffic};

/// Time between two points of the schedule: what is due in between is sent at the end of it, as one batch.
pub(crate) const TICK: Duration = Duration::from_millis(1);

const TICKS_PER_S: u64 = 1000;

/// Messages in one batch at most.
const BATCH_MESSAGES_MAX: u64 = 100;

/// The message format of a batch of encoded messages, as Event Hubs defines it.
const BATCH_FORMAT: u32 = 0x8001_3700;

/// How long the sender looks away when enough messages are on their way.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What is sent, and how fast.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) devices: usize,
    pub(crate) partitions: u16,
    pub(crate) pace: Pace,
    /// Deliveries that a message has on average.
    pub(crate) recipients: f64,
    /// The beginning of the schedule of a given rate.
    pub(crate) start: Instant,
}

/// A running sender.
#[derive(Debug)]
pub(crate) struct EventSender {
    stop: CancellationToken,
    ended: oneshot::Receiver<anyhow::Result<Sent>>,
}

impl EventSender {
    /// Starts to send, on a thread of its own.
    pub(crate) fn start(
        connection_string: &str,
        load: Load,
        traffic: Arc<Traffic>,
    ) -> anyhow::Result<Self> {
        let hub = EventHub::parse(connection_string)?;
        let stop = CancellationToken::new();
        let (ending, ended) = oneshot::channel();
        let stopping = stop.clone();
        std::thread::Builder::new()
            .name("event-sender".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let sent = runtime
                    .context("cannot start a runtime")
                    .and_then(|runtime| runtime.block_on(send(&hub, load, &traffic, &stopping)));
                // Whoever started it may have failed meanwhile.
                let _ = ending.send(sent);
            })
            .context("cannot start a thread")?;
        Ok(Self { stop, ended })
    }

    /// Stops after the batches under way. Returns what was sent.
    pub(crate) async fn stop(self) -> anyhow::Result<Sent> {
        self.stop.cancel();
        self.ended.await.context("the event sender crashed")?
    }
}

/// How many messages went into each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    devices: usize,
    partitions: Vec<u64>,
}

impl Sent {
    /// How many messages were sent of one device.
    pub(crate) fn of(&self, device: usize) -> u64 {
        let partitions = self.partitions.len();
        let partition = device % partitions;
        let devices = (self.devices - partition).div_ceil(partitions) as u64;
        let place = (device / partitions) as u64;
        (self.partitions[partition] + devices - 1 - place) / devices
    }
}

/// Sends encoded messages, one after the other, and waits until the event hub has them.
pub(crate) async fn send_all(
    connection_string: &str,
    messages: Vec<Vec<u8>>,
) -> anyhow::Result<()> {
    let hub = EventHub::parse(connection_string)?;
    let mut connection = hub.connect().await?;
    let mut session = Session::begin(&mut connection).await?;
    hub.put_token(&mut session).await?;
    let target = format!("{}/Partitions/0", hub.name);
    let mut sender = Sender::attach(&mut session, "load-once", target).await?;
    for messages in messages.chunks(usize::try_from(BATCH_MESSAGES_MAX)?) {
        let messages = messages.iter().cloned().map(Binary::from).map(Data);
        send_batch(&mut sender, messages.collect()).await?;
    }
    sender.close().await?;
    session.end().await?;
    connection.close().await?;
    Ok(())
}

async fn send_batch(sender: &mut Sender, messages: Batch<Data>) -> anyhow::Result<()> {
    let batch = Sendable::builder()
        .message(Message::builder().body(messages).build())
        .message_format(BATCH_FORMAT)
        .build();
    let outcome = sender.send(batch).await?;
    ensure!(
        matches!(outcome, Outcome::Accepted(_)),
        "a batch was refused: {outcome:?}"
    );
    Ok(())
}

async fn send(
    hub: &EventHub,
    load: Load,
    traffic: &Arc<Traffic>,
    stop: &CancellationToken,
) -> anyhow::Result<Sent> {
    let mut connection = hub.connect().await?;
    let mut session = Session::begin(&mut connection).await?;
    hub.put_token(&mut session).await?;
    let partitions = usize::from(load.partitions);
    let ticks = match load.pace {
        Pace::Rate(_) => ticks(load.start)?,
        Pace::InFlight(_) => watch::channel(0).1,
    };
    let mut feeds = JoinSet::new();
    for partition in 0..partitions {
        let target = format!("{}/Partitions/{partition}", hub.name);
        let sender = Sender::attach(&mut session, format!("load-{partition}"), target).await?;
        let feed = Feed {
            sender,
            devices: (partition..load.devices)
                .step_by(partitions)
                .map(EventTemplate::new)
                .collect::<Result<_, _>>()?,
            partition,
            share: Share {
                place: partition as u64,
                of: partitions as u64,
            },
            sent: 0,
            load: load.clone(),
            traffic: Arc::clone(traffic),
        };
        if !feed.devices.is_empty() {
            let sending = feed.run(ticks.clone(), stop.clone());
            feeds.spawn(async move { Ok((partition, sending.await?)) });
        }
    }
    drop(ticks);
    let mut sent = Sent {
        devices: load.devices,
        partitions: vec![0; partitions],
    };
    while let Some(feed) = feeds.join_next().await {
        let fed: anyhow::Result<_> = feed.context("a partition's sender crashed")?;
        let (partition, messages) = fed?;
        sent.partitions[partition] = messages;
    }
    session.end().await?;
    connection.close().await?;
    Ok(sent)
}

/// The part of all messages that goes to one partition.
#[derive(Clone, Copy, Debug)]
struct Share {
    place: u64,
    of: u64,
}

impl Share {
    /// How many of `all` messages are in it.
    fn part(self, all: u64) -> u64 {
        all.saturating_sub(self.place).div_ceil(self.of)
    }
}

/// What feeds one partition.
struct Feed {
    sender: Sender,
    devices: Vec<EventTemplate>,
    partition: usize,
    share: Share,
    sent: u64,
    load: Load,
    traffic: Arc<Traffic>,
}

impl Feed {
    async fn run(
        mut self,
        mut ticks: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> anyhow::Result<u64> {
        while !stop.is_cancelled() {
            match self.load.pace {
                Pace::Rate(rate) => {
                    ticks.changed().await.context("the clock stopped")?;
                    let tick = *ticks.borrow_and_update();
                    let due = self.share.part(tick * u64::from(rate) / TICKS_PER_S);
                    while self.sent < due {
                        self.send(due - self.sent).await?;
                    }
                }
                Pace::InFlight(messages_max)
                    if self.traffic.in_flight(self.load.recipients) < messages_max =>
                {
                    self.send(BATCH_MESSAGES_MAX).await?;
                }
                Pace::InFlight(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
        self.sender.close().await?;
        Ok(self.sent)
    }

    /// Sends one batch of at most `messages` and waits until it is accepted.
    async fn send(&mut self, messages: u64) -> anyhow::Result<()> {
        let messages = messages.min(BATCH_MESSAGES_MAX);
        let devices = self.devices.len() as u64;
        let mut body = Body::new();
        let batch: Batch<Data> = (self.sent..self.sent + messages)
            .map(|number| {
                let place = usize::try_from(number % devices).expect("fewer than devices");
                let device = place * usize::from(self.load.partitions) + self.partition;
                let body = body.set(device, number / devices + 1);
                Data(Binary::from(self.devices[place].message(body)))
            })
            .collect();
        // Before the event hub answers, so that no delivery can come ahead of it.
        self.traffic.sent.fetch_add(messages, Ordering::Relaxed);
        send_batch(&mut self.sender, batch).await?;
        self.sent += messages;
        Ok(())
    }
}

/// Counts the ticks since `start` on a thread of its own, whose sleep is finer than a runtime's. Ends when nobody
/// watches any more.
fn ticks(start: Instant) -> anyhow::Result<watch::Receiver<u64>> {
    let (ticks, watching) = watch::channel(0);
    std::thread::Builder::new()
        .name("ticks".to_owned())
        .spawn(move || {
            for tick in 1.. {
                let at = start + TICK * tick;
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                if ticks.send(u64::from(tick)).is_err() {
                    return;
                }
            }
        })?;
    Ok(watching)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for all in 0..20 {
            let parts = (0..4).map(|place| Share { place, of: 4 }.part(all));
            assert_eq!(parts.sum::<u64>(), all);
        }
        assert_eq!(Share { place: 0, of: 4 }.part(u64::MAX), 1 << 62);
    }

    #[test]
    fn messages_of_devices_add_up_to_those_of_partitions() {
        for devices in [1, 5, 8, 10] {
            let sent = Sent {
                devices,
                partitions: vec![7, 0, 12, 5],
            };
            for partition in 0..4 {
                let of = (partition..devices).step_by(4);
                let sum: u64 = of.clone().map(|device| sent.of(device)).sum();
                let expected = if of.count() == 0 {
                    0
                } else {
                    sent.partitions[partition]
                };
                assert_eq!(sum, expected);
            }
        }
    }
}
