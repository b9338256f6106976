//! A steady stream of messages to an audience that wants all of it: what `relay` and `latency` have in common.
//!
//! A thousand devices; a hundred clients with twenty devices each, so that every message goes to two of them. Of these
//! two one asked for all keys and one for each key by its name: their updates say the same but are cut and encoded
//! separately.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::Options;
use crate::audience::{Audience, Window, Wish};
use crate::event_sender::{EventSender, Load};
use crate::limits;
use crate::event_message::KEYS;
use crate::pace::{Pace, Traffic};
use crate::process_usage::cpu_time;
use crate::progress::Progress;
use crate::report::{Report, percentile};
use crate::servers::{Metrics, PARTITIONS, Servers};
use crate::tally::Tally;
use crate::transport::Transport;

const DEVICES: usize = 1000;
const CLIENTS: usize = 100;
const RECIPIENTS: u64 = 2;

const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Time for connections, caches and allocators to settle before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// How long deliveries may go on without any coming before the rest counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(5);

const MICROSECONDS_PER_S: f64 = 1e6;

/// What is read at the beginning and at the end of measuring.
struct Moment {
    at: Instant,
    relay_cpu: Duration,
    stand_in_cpu: Duration,
    generator_cpu: Duration,
    accounted: u64,
    metrics: Metrics,
}

impl Moment {
    async fn now(servers: &Servers, traffic: &Traffic) -> anyhow::Result<Self> {
        let metrics = servers.metrics().await?;
        Ok(Self {
            at: Instant::now(),
            relay_cpu: cpu_time(servers.relay_pid())?,
            stand_in_cpu: cpu_time(servers.stand_in_pid())?,
            generator_cpu: cpu_time(std::process::id())?,
            accounted: traffic.accounted.load(Ordering::Relaxed),
            metrics,
        })
    }
}

pub(super) async fn run(
    mut report: Report,
    pace: Pace,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let Options {
        measured,
        transport,
        ..
    } = *options;
    limits::allow_sockets(CLIENTS)?;
    progress.step("starting the stand-in and the relay");
    let servers = Servers::start().await?;
    progress.step("connecting the clients");
    let audience =
        Audience::gather(&servers, transport, wishes(), READ_BUFFER_BYTES, progress).await?;

    progress.step("sending");
    let traffic = Arc::<Traffic>::default();
    let epoch = Instant::now();
    let window = Window {
        epoch,
        from: WARM_UP,
        to: WARM_UP + measured,
    };
    // With a window of messages on their way latency is what that window makes it, so only a given rate has any.
    let timed = Some(window).filter(|_| matches!(pace, Pace::Rate(_)));
    let following = audience.follow(&traffic, timed);
    let load = Load {
        devices: DEVICES,
        partitions: PARTITIONS,
        pace,
        recipients: RECIPIENTS,
        messages_max: u64::MAX,
    };
    let start = servers.metrics().await?;
    let sender = EventSender::start(&servers.event_hub, load, Arc::clone(&traffic), epoch)?;
    sleep_until((epoch + window.from).into()).await;
    let before = Moment::now(&servers, &traffic).await?;
    watch(&traffic, epoch + window.to, progress).await;
    let after = Moment::now(&servers, &traffic).await?;
    let sent = sender.stop().await?;

    progress.step("waiting for the last deliveries");
    drain(&traffic, sent * RECIPIENTS).await;
    let end = servers.metrics().await?;
    let mut tally = following.stop().await?;
    progress.step("stopping");
    servers.stop().await?;

    report.transport(transport);
    add_load(&mut report, pace, measured);
    add_throughput(&mut report, &before, &after);
    add_latency(&mut report, std::mem::take(&mut tally.latencies_us));
    add_deliveries(&mut report, transport, &tally, sent, (&start, &end));
    Ok(report)
}

fn wishes() -> Vec<Wish> {
    (0..CLIENTS)
        .map(|client| {
            // Neighbours share a group of devices; of each pair one asks key by key.
            let group = client / 2;
            Wish {
                devices: (0..DEVICES)
                    .filter(|device| device % (CLIENTS / 2) == group)
                    .collect(),
                by_key: client % 2 == 1,
            }
        })
        .collect()
}

async fn watch(traffic: &Traffic, until: Instant, progress: &Progress) {
    const INTERVAL: Duration = Duration::from_secs(1);
    while Instant::now() < until {
        let before = traffic.accounted.load(Ordering::Relaxed);
        let at = (Instant::now() + INTERVAL).min(until);
        sleep_until(at.into()).await;
        let deliveries = traffic.accounted.load(Ordering::Relaxed) - before;
        let in_flight = traffic.in_flight(RECIPIENTS);
        progress.tick(&format!(
            "{deliveries} deliveries/s, {in_flight} messages on their way"
        ));
    }
}

/// Waits until everything has come, or nothing comes any more.
async fn drain(traffic: &Traffic, expected: u64) {
    const INTERVAL: Duration = Duration::from_millis(20);
    let mut last = (traffic.accounted.load(Ordering::Relaxed), Instant::now());
    while last.0 < expected && last.1.elapsed() < SILENCE_MAX {
        sleep(INTERVAL).await;
        let accounted = traffic.accounted.load(Ordering::Relaxed);
        if accounted > last.0 {
            last = (accounted, Instant::now());
        }
    }
}

fn add_load(report: &mut Report, pace: Pace, measured: Duration) {
    report.measure("measured_s", measured.as_secs_f64());
    report.count("devices", DEVICES as u64);
    report.count("clients", CLIENTS as u64);
    match pace {
        Pace::Rate(rate) => report.count("offered_messages_per_s", rate.into()),
        Pace::InFlight(messages) => report.count("in_flight_messages_max", messages),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one run are far below 2^53"
)]
fn add_throughput(report: &mut Report, before: &Moment, after: &Moment) {
    let elapsed_s = (after.at - before.at).as_secs_f64();
    let grown = |name| after.metrics.growth(&before.metrics, name);
    let messages = grown("hubrelay_ingest_messages_total");
    let deliveries = (after.accounted - before.accounted) as f64;
    report.measure("messages_in_per_s", messages / elapsed_s);
    report.measure("deliveries_per_s", deliveries / elapsed_s);
    let used = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
    let relay_s = used(before.relay_cpu, after.relay_cpu);
    report.measure("relay_cpu_cores", relay_s / elapsed_s);
    report.measure(
        "relay_cpu_us_per_message",
        relay_s * MICROSECONDS_PER_S / messages,
    );
    report.measure("deliveries_per_relay_core_second", deliveries / relay_s);
    let stand_in_s = used(before.stand_in_cpu, after.stand_in_cpu);
    report.measure(
        "stand_in_cpu_us_per_message",
        stand_in_s * MICROSECONDS_PER_S / messages,
    );
    let generator_s = used(before.generator_cpu, after.generator_cpu);
    report.measure(
        "generator_cpu_us_per_message",
        generator_s * MICROSECONDS_PER_S / messages,
    );
    let writes = grown("hubrelay_push_writes_total");
    report.measure(
        "frames_per_write",
        grown("hubrelay_push_written_frames_total") / writes,
    );
    // A native frame holds all that was ready.
    report.measure("deliveries_per_write", deliveries / writes);
}

fn add_latency(report: &mut Report, mut latencies_us: Vec<u32>) {
    for (name, share) in [
        ("latency_p50_ms", 0.5),
        ("latency_p99_ms", 0.99),
        ("latency_p99_9_ms", 0.999),
        ("latency_max_ms", 1.0),
    ] {
        if let Some(latency_us) = percentile(&mut latencies_us, share) {
            report.measure(name, f64::from(latency_us) / 1000.0);
        }
    }
}

/// Conflation counts values; each message has as many as there are keys, and all of them are replaced at once.
fn add_deliveries(
    report: &mut Report,
    transport: Transport,
    tally: &Tally,
    sent: u64,
    (start, end): (&Metrics, &Metrics),
) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters of one run are whole numbers far below 2^53"
    )]
    let grown = |name| end.growth(start, name) as u64;
    let conflated_values = grown("hubrelay_relay_conflated_values_total");
    let conflated = conflated_values / KEYS.len() as u64;
    report.deliveries(tally, sent * RECIPIENTS, conflated);
    report.count("conflated_values", conflated_values);
    if transport == Transport::Native {
        report.told_conflated_values(tally, conflated_values);
    }
    // The stand-in's log is bounded: what a relay that is far behind had not read when it went is lost to it.
    let read = grown("hubrelay_ingest_messages_total");
    report.count("unread_messages", sent.saturating_sub(read));
    report.count(
        "dropped_updates",
        grown("hubrelay_relay_dropped_updates_total"),
    );
    report.count(
        "slow_closed_connections",
        grown("hubrelay_push_slow_closes_total"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_watched_twice_once_in_each_way() {
        let wishes = wishes();
        for device in 0..DEVICES {
            let ways: Vec<_> = wishes
                .iter()
                .filter(|wish| wish.devices.contains(&device))
                .map(|wish| wish.by_key)
                .collect();
            assert_eq!(ways, [false, true]);
        }
    }
}
