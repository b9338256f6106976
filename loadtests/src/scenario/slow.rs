//! Whether clients that read 1 KB/s are noticed by the others: `latency` with 50 sessions, of which a tenth is slow in
//! turns. In each round everybody reads as it comes for a while, and for a while the tenth does not. Both are measured in
//! the same process within seconds of each other, so that what else happens on the machine meets both alike; the medians
//! of all rounds are compared. Only deliveries to the others count as latencies.
//!
//! Slow ones are sent about a hundred times what they read, on links that hold little. Before anything is measured with
//! them, they are left to fall behind until the server itself, and not only the kernel, holds more for each of them than
//! hubrelay has room for; otherwise the scenario fails. It fails as well unless hubrelay counts values that newer
//! ones replaced in each round. What slow ones miss is theirs to miss, as long as it comes in order, and those that a
//! server cuts off are counted. Whoever misses something of hubrelay must have the newest of every device when it reads
//! again.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Options, steady};
use crate::contender::hubrelay::RunningRelay;
use crate::contender::{Contender, Role, Running};
use crate::figures::Figures;
use crate::generator::Receiver;
use crate::kernel_queues;
use crate::limits;
use crate::report::Pass;
use crate::tally::Tally;

/// So few that much comes for each: the kernel holds some 600 KB for every one of the slow ones.
const SESSIONS: usize = 50;
const SLOW_SESSIONS: usize = SESSIONS / 10;
const BYTES_PER_READ: usize = 100;

const ROUNDS: u32 = 3;

/// Messages that a server must hold for each slow one before it is measured: more than twice the 1,024 that hubrelay keeps
/// in an outbox by default, since as many may be on their way from there into the socket.
const MESSAGES_HELD: u64 = 2500;

/// Messages that one who is not behind may not have got yet.
const MESSAGES_ON_THEIR_WAY: u64 = 100;

/// How long slow ones may take to fall behind, and to catch up.
const FALL_BEHIND_MAX: Duration = Duration::from_mins(1);
const CATCH_UP_MAX: Duration = Duration::from_secs(20);

/// Time for what was held up by looking at the server to be over.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs one pass of a contender.
pub(super) async fn run(contender: &dyn Contender, options: &Options) -> anyhow::Result<Pass> {
    limits::allow_sockets(SESSIONS)?;
    if let Role::Hubrelay(hubrelay) = contender.role() {
        let relay = RunningRelay::start(hubrelay, &options.cores, &[]).await?;
        let pass = measure(&relay, Some(&relay), options).await?;
        relay.stop().await?;
        return Ok(pass);
    }
    let work = steady::slow(SESSIONS, options.rate);
    let devices = work.audience.devices_known();
    let server = contender.start(&options.cores, devices).await?;
    let pass = measure(server.as_ref(), None, options).await?;
    server.stop().await?;
    Ok(pass)
}

async fn measure(
    server: &dyn Running,
    relay: Option<&RunningRelay>,
    options: &Options,
) -> anyhow::Result<Pass> {
    let work = steady::slow(SESSIONS, options.rate);
    let progress = options.progress;
    let receivers =
        steady::gather_with_slow(server, &work.audience, SLOW_SESSIONS, progress).await?;
    let mut run = steady::Run::begin(server, &work, receivers, options).await?;
    run.warm_up(progress)?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.without.push(slice(&mut run, server, options)?);
        let conflated_before = conflated(relay).await?;
        fall_behind(&mut run, options)?;
        rounds.with_slow.push(slice(&mut run, server, options)?);
        rounds.waiting.push(waiting(&run)?);
        catch_up(&mut run, options)?;
        // hubrelay counts what was replaced when it gets to write again.
        let conflated_values = conflated(relay).await? - conflated_before;
        ensure!(
            relay.is_none() || conflated_values > 0.0,
            "nothing of the slow clients was replaced by newer values: hubrelay's outboxes are not full; raise --rate"
        );
        rounds.conflated_values += conflated_values;
    }

    let mut pass = Pass::new(server.about().clone());
    rounds.add_to(&mut pass.figures);
    let cut_off = run.generator.cut_off();
    pass.figures
        .count("slow_sessions_cut_off", cut_off.len() as u64);
    if let Some((_, first)) = cut_off.first() {
        progress.step(&format!("  a slow client was cut off: {first:#}"));
    }
    if relay.is_some() {
        let conflated_values = rounds.conflated_values;
        pass.figures.add("relay_conflated_values", conflated_values);
    }
    add_deliveries(run, &work, relay.is_some(), &mut pass).await?;
    Ok(pass)
}

/// Measures for the time of one slice.
fn slice(
    run: &mut steady::Run,
    server: &dyn Running,
    options: &Options,
) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    run.generator
        .run(Instant::now() + PAUSE, options.progress)?;
    let slice = options.measured / ROUNDS;
    run.measure(server, slice, options.progress, &mut figures)?;
    steady::kept_pace(&figures, steady::messages_per_s(options.rate))?;
    Ok(figures)
}

/// Slows a tenth down and waits until the server holds enough for each of them.
fn fall_behind(run: &mut steady::Run, options: &Options) -> anyhow::Result<()> {
    run.generator.slow_down(BYTES_PER_READ)?;
    let deadline = Instant::now() + FALL_BEHIND_MAX;
    loop {
        run.generator
            .run(Instant::now() + PAUSE, options.progress)?;
        let Some(waiting) = waiting(run)? else {
            return Ok(());
        };
        if waiting.in_server_min >= MESSAGES_HELD {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "after {FALL_BEHIND_MAX:?} the server holds only {} messages for a slow client, and the kernel up to {} \
             bytes: nothing would be proved; raise --rate",
            waiting.in_server_min,
            waiting.in_kernel_bytes_max,
        );
    }
}

async fn conflated(relay: Option<&RunningRelay>) -> anyhow::Result<f64> {
    Ok(match relay {
        Some(relay) => {
            let metrics = relay.metrics().await?;
            metrics.value("hubrelay_relay_conflated_values_total")
        }
        None => 0.0,
    })
}

/// What waits for the slow clients that are there.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Messages that one has not read and the kernel does not hold, where they are fewest. They are in the server, or it
    /// has given them up.
    in_server_min: u64,
    /// What the kernel holds, where it is most.
    in_kernel_bytes_max: u64,
}

impl Waiting {
    fn and(self, other: Self) -> Self {
        Self {
            in_server_min: self.in_server_min.min(other.in_server_min),
            in_kernel_bytes_max: self.in_kernel_bytes_max.max(other.in_kernel_bytes_max),
        }
    }
}

/// `None` when all slow clients are cut off.
fn waiting(run: &steady::Run) -> anyhow::Result<Option<Waiting>> {
    let (sent, in_kernel_bytes) = (run.sent_in_turns(), kernel_queues::bytes_by_client_port()?);
    let mut all = None;
    for receiver in slow_ones(run) {
        let in_kernel_bytes = in_kernel_bytes.get(&receiver.port()?);
        let in_kernel_bytes = in_kernel_bytes.copied().unwrap_or(0);
        let unread = receiver.follower.missing(&sent);
        let waiting = Waiting {
            in_server_min: unread.saturating_sub(receiver.deliveries_in(in_kernel_bytes)),
            in_kernel_bytes_max: in_kernel_bytes,
        };
        all = Some(all.map_or(waiting, |all: Waiting| all.and(waiting)));
    }
    Ok(all)
}

/// Those that may be slow and that the server has not hung up on.
fn slow_ones(run: &steady::Run) -> impl Iterator<Item = &Receiver> {
    let all = run.generator.receivers()[..SLOW_SESSIONS]
        .iter()
        .enumerate();
    all.filter(|(place, _)| !run.generator.is_cut_off(*place))
        .map(|(_, receiver)| receiver)
}

/// Lets everybody read as it comes until nobody is behind any more.
fn catch_up(run: &mut steady::Run, options: &Options) -> anyhow::Result<()> {
    run.generator.speed_up()?;
    let deadline = Instant::now() + CATCH_UP_MAX;
    loop {
        run.generator
            .run(Instant::now() + PAUSE, options.progress)?;
        let sent = run.sent_in_turns();
        let is_behind =
            slow_ones(run).any(|receiver| receiver.follower.missing(&sent) > MESSAGES_ON_THEIR_WAY);
        if !is_behind {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "a client that was slow has not caught up after {CATCH_UP_MAX:?}"
        );
    }
}

/// What all rounds came to.
#[derive(Debug, Default)]
struct Rounds {
    without: Vec<Figures>,
    with_slow: Vec<Figures>,
    waiting: Vec<Option<Waiting>>,
    conflated_values: f64,
}

impl Rounds {
    fn add_to(&self, figures: &mut Figures) {
        let without = Figures::medians(&self.without);
        let with_slow = Figures::medians(&self.with_slow);
        for (ratio, name) in [
            ("healthy_p99_ratio", "latency_p99_ms"),
            ("healthy_p50_ratio", "latency_p50_ms"),
        ] {
            if let Some((with, without)) = with_slow.get(name).zip(without.get(name)) {
                figures.add(ratio, with / without);
            }
        }
        for name in SHOWN {
            for (prefix, medians) in [("", &without), ("with_slow_", &with_slow)] {
                if let Some(value) = medians.get(name) {
                    figures.add(format!("{prefix}{name}"), value);
                }
            }
        }
        figures.count("rounds", ROUNDS.into());
        figures.count("slow_sessions", SLOW_SESSIONS as u64);
        let waiting = || self.waiting.iter().flatten();
        if let Some(held) = waiting().map(|waiting| waiting.in_server_min).min() {
            figures.count("slow_held_messages_min", held);
        }
        if let Some(bytes) = waiting().map(|waiting| waiting.in_kernel_bytes_max).max() {
            figures.count("slow_in_kernel_bytes_max", bytes);
        }
    }
}

/// What is told of slices, with and without slow ones.
const SHOWN: [&str; 9] = [
    "latency_p50_ms",
    "latency_p99_ms",
    "latency_p99_9_ms",
    "latency_samples",
    "messages_in_per_s",
    "deliveries_per_s",
    "server_cores",
    "generator_cores",
    "server_rss_mib",
];

/// Stops to publish and adds what came. A server that `keeps_newest` owes that to slow ones as well.
async fn add_deliveries(
    mut run: steady::Run,
    work: &steady::Work,
    keeps_newest: bool,
    pass: &mut Pass,
) -> anyhow::Result<()> {
    let sent = run.stop_sending().await?;
    let all = work.audience.wishes.iter().enumerate();
    let there = all.filter(|(place, _)| !run.generator.is_cut_off(*place));
    let wished = there.flat_map(|(_, wishes)| wishes);
    let expected = wished.map(|wish| sent(wish.device)).sum();
    run.generator.drain(expected)?;
    let (slow_ones, healthy_ones) = run.generator.receivers().split_at(SLOW_SESSIONS);
    let (mut tally, mut missing) = (Tally::default(), 0);
    for receiver in healthy_ones {
        tally.add(&receiver.follower.tally);
        missing += receiver.follower.missing(&sent);
    }
    let healthy = work.audience.wishes[SLOW_SESSIONS..].iter().flatten();
    let expected = healthy.map(|wish| sent(wish.device)).sum();
    pass.deliveries(&tally, expected, missing);

    let (mut slow_tally, mut never_came, mut missed_any) = (Tally::default(), 0, 0);
    for (place, receiver) in slow_ones.iter().enumerate() {
        let follower = &receiver.follower;
        slow_tally.add(&follower.tally);
        if !run.generator.is_cut_off(place) {
            never_came += follower.missing(&sent);
            missed_any += u64::from(follower.tally.skipped > 0);
        }
    }
    pass.is_sound &= slow_tally.reordered + slow_tally.duplicated + slow_tally.unexpected == 0;
    pass.is_sound &= !keeps_newest || never_came == 0;
    for (name, count) in [
        ("slow_sessions_that_missed", missed_any),
        ("slow_missed_deliveries", slow_tally.skipped + never_came),
    ] {
        pass.figures.count(name, count);
    }
    if keeps_newest {
        ensure!(
            missed_any + run.generator.cut_off().len() as u64 == SLOW_SESSIONS as u64,
            "only {missed_any} of {SLOW_SESSIONS} slow clients missed anything: hubrelay's outboxes are not full; raise --rate"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(p99_ms: &[f64]) -> Vec<Figures> {
        let slice = |&p99_ms: &f64| {
            let mut figures = Figures::default();
            figures.add("latency_p99_ms", p99_ms);
            figures
        };
        p99_ms.iter().map(slice).collect()
    }

    #[test]
    fn the_ratio_is_that_of_the_medians_of_all_rounds() {
        let rounds = Rounds {
            without: slices(&[1.0, 9.0, 2.0]),
            with_slow: slices(&[3.0, 2.0, 8.0]),
            ..Rounds::default()
        };
        let mut figures = Figures::default();
        rounds.add_to(&mut figures);
        for (name, value) in [
            ("latency_p99_ms", 2.0),
            ("with_slow_latency_p99_ms", 3.0),
            ("healthy_p99_ratio", 1.5),
        ] {
            assert_eq!(figures.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn the_slow_one_that_is_best_off_counts() {
        let waiting = |in_server_min, in_kernel_bytes_max| Waiting {
            in_server_min,
            in_kernel_bytes_max,
        };
        let all = waiting(3000, 10)
            .and(waiting(100, 20))
            .and(waiting(4000, 5));
        assert_eq!((all.in_server_min, all.in_kernel_bytes_max), (100, 20));
    }
}
