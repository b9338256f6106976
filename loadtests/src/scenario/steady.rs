//! A steady stream of messages to subscribers: as much as goes through, or at a given rate.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Options;
use crate::audience::Audience;
use crate::contender::hubrelay::PARTITIONS;
use crate::contender::{Contender, Running};
use crate::event_sender::{self, EventSender, Load, Sent};
use crate::figures::Figures;
use crate::generator::{Feeder, Generator, Receiver, Task};
use crate::limits;
use crate::pace::{Pace, Schedule};
use crate::process_usage::{cpu_time, cpu_time_of, resident_kib_of};
use crate::progress::Progress;
use crate::report::Pass;
use crate::websocket_client::Link;

/// Time for connections, caches and allocators to settle before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// Clients that are set up at the same time.
const SET_UP_AT_ONCE: usize = 32;

/// Time for a sender to get ready before the first message of a schedule is due.
const LEAD: Duration = Duration::from_millis(500);

const LATENCY_RATE: u32 = 10_000;

/// What a server is given to do.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) audience: Audience,
    pub(super) pace: Pace,
}

/// Messages on their way are enough to keep a server busy, and few enough that a queue of a thousand messages for each
/// session is never full.
pub(super) fn broadcast() -> Work {
    Work {
        audience: Audience::broadcast(500),
        pace: Pace::InFlight(256),
    }
}

/// About 64 messages on their way to each session.
pub(super) fn dashboards(whole: bool) -> Work {
    Work {
        audience: Audience::dashboards(1000, 500, 4, whole),
        pace: Pace::InFlight(16_000),
    }
}

/// What is on its way can be told by one message in a hundred.
pub(super) fn firehose() -> Work {
    Work {
        audience: Audience::few(1000, 10),
        pace: Pace::InFlight(50_000),
    }
}

pub(super) fn latency(rate: Option<NonZeroU32>, whole: bool) -> Work {
    Work {
        audience: Audience::pairs(1000, 500, whole),
        pace: Pace::Rate(messages_per_s(rate)),
    }
}

/// The rate that was asked for, or the usual one.
pub(super) fn messages_per_s(rate: Option<NonZeroU32>) -> u32 {
    rate.map_or(LATENCY_RATE, NonZeroU32::get)
}

/// A server's growth is looked at where almost nothing matches.
pub(super) fn growth(devices: usize, onlookers: usize) -> Work {
    Work {
        audience: Audience::few(devices, 10).with_onlookers(onlookers),
        pace: Pace::InFlight(50_000),
    }
}

/// As `latency`, with fewer sessions, so that each has more to get, and whole messages.
pub(super) fn slow(sessions: usize, rate: Option<NonZeroU32>) -> Work {
    Work {
        audience: Audience::pairs(1000, sessions, true),
        ..latency(rate, true)
    }
}

/// Runs one pass of a contender.
pub(super) async fn run(
    work: Work,
    contender: &dyn Contender,
    options: &Options,
) -> anyhow::Result<Pass> {
    let (server, mut pass) = start(&work.audience, contender, options).await?;
    let receivers = gather(server.as_ref(), &work.audience, options.progress).await?;
    let mut run = Run::begin(server.as_ref(), &work, receivers, options).await?;
    run.warm_up(options.progress)?;
    let (measured, progress) = (options.measured, options.progress);
    run.measure(server.as_ref(), measured, progress, &mut pass.figures)?;
    if let Pace::Rate(rate) = work.pace {
        kept_pace(&pass.figures, rate)?;
    }
    run.finish(&work.audience, &mut pass).await?;
    server.stop().await?;
    Ok(pass)
}

/// Makes sure that what was offered went through: latencies of a server that is overloaded only say for how long it was.
pub(super) fn kept_pace(figures: &Figures, rate: u32) -> anyhow::Result<()> {
    const SHARE_MIN: f64 = 0.98;
    let figure = |name| figures.get(name).unwrap_or(0.0);
    let taken = figure("messages_in_per_s");
    ensure!(
        taken >= f64::from(rate) * SHARE_MIN,
        "cannot keep up: it took {taken:.0} of {rate} messages/s, with {:.2} of its core and {:.2} of the generator's",
        figure("server_cores"),
        figure("generator_cores"),
    );
    Ok(())
}

/// Starts a server that is to serve an audience.
pub(super) async fn start(
    audience: &Audience,
    contender: &dyn Contender,
    options: &Options,
) -> anyhow::Result<(Box<dyn Running>, Pass)> {
    limits::allow_sockets(audience.wishes.len())?;
    options.progress.tick("starting the server");
    let server = contender
        .start(&options.cores, audience.devices_known())
        .await?;
    let pass = Pass::new(server.about().clone());
    Ok((server, pass))
}

/// Connects and subscribes everybody.
pub(super) async fn gather(
    server: &dyn Running,
    audience: &Audience,
    progress: Progress,
) -> anyhow::Result<Vec<Receiver>> {
    gather_with_slow(server, audience, 0, progress).await
}

/// The same, with so many at the beginning that have a slow link, and may be slow.
pub(super) async fn gather_with_slow(
    server: &dyn Running,
    audience: &Audience,
    slow: usize,
    progress: Progress,
) -> anyhow::Result<Vec<Receiver>> {
    let all = audience.wishes.len();
    let mut connected = 0;
    stream::iter(audience.wishes.iter().enumerate())
        .map(|(number, wishes)| async move {
            let may_be_slow = number < slow;
            let link = if may_be_slow { Link::Slow } else { Link::Fast };
            let subscriber = server.subscriber(wishes, link).await?;
            let receiver = Receiver::new(subscriber, wishes, server.selects_keys())?;
            Ok(if may_be_slow {
                receiver.that_may_be_slow()
            } else {
                receiver
            })
        })
        .buffered(SET_UP_AT_ONCE)
        .inspect(|_| {
            connected += 1;
            if connected % 100 == 0 {
                progress.tick(&format!("{connected} of {all} subscribers"));
            }
        })
        .try_collect()
        .await
}

/// A generator at work, with whatever publishes.
pub(super) struct Run {
    pub(super) generator: Generator,
    pub(super) start: Instant,
    sender: Option<EventSender>,
    devices: usize,
}

impl Run {
    /// Begins to publish, which goes on while the generator runs.
    pub(super) async fn begin(
        server: &dyn Running,
        work: &Work,
        receivers: Vec<Receiver>,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let Work { audience, pace } = work;
        let devices = audience.devices;
        let recipients = audience.recipients();
        let feeder = match server.event_hub() {
            None => Some(Feeder::new(server.publisher().await?, devices)?),
            Some(_) => None,
        };
        let task = Task {
            receivers,
            feeder,
            pace: *pace,
            recipients,
            has_own_core: options.cores.generator().is_some(),
        };
        let mut generator = Generator::new(task, options.stop.clone())?;
        let start = Instant::now() + LEAD;
        let sender = match server.event_hub() {
            None => None,
            Some(event_hub) => {
                let load = Load {
                    devices,
                    partitions: PARTITIONS,
                    pace: *pace,
                    recipients,
                    start,
                };
                let traffic = generator.traffic();
                Some(EventSender::start(event_hub, load, traffic)?)
            }
        };
        if let Pace::Rate(rate) = *pace {
            let tick = match sender {
                Some(_) => event_sender::TICK,
                None => Duration::ZERO,
            };
            generator.begin(Some(Schedule {
                start,
                rate,
                devices,
                tick,
            }));
        }
        Ok(Self {
            generator,
            start,
            sender,
            devices,
        })
    }

    /// Publishes until the server has settled.
    pub(super) fn warm_up(&mut self, progress: Progress) -> anyhow::Result<()> {
        self.generator.run(self.start + WARM_UP, progress)
    }

    /// Measures for so long, and adds what it took.
    pub(super) fn measure(
        &mut self,
        server: &dyn Running,
        measured: Duration,
        progress: Progress,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        let generator = &mut self.generator;
        generator.forget_latencies();
        let before = Moment::now(server, generator)?;
        generator.run(before.at + measured, progress)?;
        let after = Moment::now(server, generator)?;
        add_throughput(figures, &before, &after);
        add_latency(figures, generator);
        // Looked at when all is measured, since nothing is received meanwhile.
        let rss_kib = resident_kib_of(&server.pids())?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        figures.add("server_rss_mib", rss_kib as f64 / 1024.0);
        Ok(())
    }

    /// Stops to publish, waits for the last deliveries, and adds what everybody got.
    pub(super) async fn finish(
        mut self,
        audience: &Audience,
        pass: &mut Pass,
    ) -> anyhow::Result<()> {
        let sent = self.stop_sending().await?;
        let expected = audience.expected(&sent);
        self.generator.drain(expected)?;
        let tally = self.generator.tally();
        let missing = (self.generator.receivers().iter())
            .map(|receiver| receiver.follower.missing(&sent))
            .sum();
        pass.deliveries(&tally, expected, missing);
        Ok(())
    }

    /// Stops to publish. Returns how many messages were sent of each device.
    pub(super) async fn stop_sending(&mut self) -> anyhow::Result<impl Fn(usize) -> u64 + use<>> {
        let sent = match self.sender.take() {
            Some(sender) => Some(sender.stop().await?),
            None => None,
        };
        let (in_turns, devices) = (self.sent_in_turns(), self.devices);
        Ok(move |device: usize| match &sent {
            Some(sent) if device < devices => Sent::of(sent, device),
            _ => in_turns(device),
        })
    }

    /// How many messages were sent of each device so far. Exact where the generator publishes; a sender on another
    /// thread may be a few messages off the turns of the devices until it has stopped.
    pub(super) fn sent_in_turns(&self) -> impl Fn(usize) -> u64 + use<> {
        let (all, devices) = (self.generator.sent(), self.devices as u64);
        move |device: usize| match device as u64 {
            device if device >= devices => 0,
            device => (all + devices).saturating_sub(1 + device) / devices,
        }
    }
}

/// What is read at the beginning and at the end of measuring.
struct Moment {
    at: Instant,
    server_cpu: Duration,
    generator_cpu: Duration,
    sent: u64,
    accounted: u64,
}

impl Moment {
    fn now(server: &dyn Running, generator: &Generator) -> anyhow::Result<Self> {
        let pids = server.pids();
        Ok(Self {
            at: Instant::now(),
            server_cpu: cpu_time_of(&pids)?,
            generator_cpu: cpu_time(std::process::id())?,
            sent: generator.sent(),
            accounted: generator.accounted(),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one run are far below 2^53"
)]
fn add_throughput(figures: &mut Figures, before: &Moment, after: &Moment) {
    const MICROSECONDS_PER_S: f64 = 1e6;
    let elapsed_s = (after.at - before.at).as_secs_f64();
    let messages = (after.sent - before.sent) as f64;
    let deliveries = (after.accounted - before.accounted) as f64;
    let used_s = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
    let server_s = used_s(before.server_cpu, after.server_cpu);
    let generator_s = used_s(before.generator_cpu, after.generator_cpu);
    for (name, value) in [
        ("measured_s", elapsed_s),
        ("messages_in_per_s", messages / elapsed_s),
        ("deliveries_per_s", deliveries / elapsed_s),
        ("server_cores", server_s / elapsed_s),
        ("deliveries_per_server_core_second", deliveries / server_s),
        ("messages_in_per_server_core_second", messages / server_s),
        (
            "server_cpu_us_per_message",
            server_s * MICROSECONDS_PER_S / messages,
        ),
        ("generator_cores", generator_s / elapsed_s),
    ] {
        figures.add(name, value);
    }
}

fn add_latency(figures: &mut Figures, generator: &mut Generator) {
    let latencies = generator.latencies();
    if latencies.len() > 0 {
        figures.count("latency_samples", latencies.len() as u64);
    }
    for (name, share) in [
        ("latency_p50_ms", 0.5),
        ("latency_p99_ms", 0.99),
        ("latency_p99_9_ms", 0.999),
        ("latency_max_ms", 1.0),
    ] {
        if let Some(latency_ms) = latencies.percentile_ms(share) {
            figures.add(name, latency_ms);
        }
    }
}
