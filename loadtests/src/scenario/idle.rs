//! What a quiet client costs the relay: memory for its connection, session, grant and subscription, and CPU for pings.
//!
//! At the end one message of each device proves that every client is still served.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Options;
use crate::audience::{Audience, Wish};
use crate::event_sender::{EventSender, Load};
use crate::limits;
use crate::pace::{Pace, Traffic};
use crate::process_usage::{cpu_time, resident_kib};
use crate::progress::Progress;
use crate::report::Report;
use crate::servers::{PARTITIONS, Servers};

const DEVICES_MAX: usize = 1000;

const READ_BUFFER_BYTES: usize = 1024;

/// Clients that connect and leave before the first look at memory: what the relay allocates once for all is no client's
/// cost.
const FORERUNNERS: usize = 32;

/// Time for what setting up took to be given back.
const SETTLE: Duration = Duration::from_secs(5);

/// How long the last deliveries may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(
    mut report: Report,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let connections = options.connections;
    limits::allow_sockets(connections)?;
    progress.step("starting the stand-in and the relay");
    let servers = Servers::start().await?;
    let pid = servers.relay_pid();
    let devices = connections.min(DEVICES_MAX);
    let wishes = |count: usize| {
        (0..count)
            .map(|client| Wish {
                devices: vec![client % devices],
                by_key: false,
            })
            .collect()
    };
    Audience::gather(
        &servers,
        options.transport,
        wishes(FORERUNNERS.min(connections)),
        READ_BUFFER_BYTES,
        progress,
    )
    .await?;
    sleep(SETTLE).await;
    let empty_kib = resident_kib(pid)?;

    progress.step(&format!("connecting {connections} clients"));
    let begun = Instant::now();
    let audience = Audience::gather(
        &servers,
        options.transport,
        wishes(connections),
        READ_BUFFER_BYTES,
        progress,
    )
    .await?;
    let setup = begun.elapsed();
    let traffic = Arc::<Traffic>::default();
    let following = audience.follow(&traffic, None);
    sleep(SETTLE).await;

    progress.step("waiting quietly");
    let (cpu_before, begun) = (cpu_time(pid)?, Instant::now());
    sleep(options.measured).await;
    let cpu = cpu_time(pid)?.saturating_sub(cpu_before);
    let elapsed = begun.elapsed();
    let full_kib = resident_kib(pid)?;

    progress.step("sending one message of each device");
    let load = Load {
        devices,
        partitions: PARTITIONS,
        pace: Pace::InFlight(u64::MAX),
        recipients: 1,
        messages_max: devices as u64,
    };
    let epoch = Instant::now();
    let sender = EventSender::start(&servers.event_hub, load, Arc::clone(&traffic), epoch)?;
    sender.finish().await?;
    let expected = connections as u64;
    while traffic.accounted.load(Ordering::Relaxed) < expected && epoch.elapsed() < DELIVERY_LIMIT {
        sleep(Duration::from_millis(10)).await;
    }
    let tally = following.stop().await?;
    progress.step("stopping");
    servers.stop().await?;

    let grown_kib = full_kib.saturating_sub(empty_kib);
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    let per_connection_kib = grown_kib as f64 / connections as f64;
    report.transport(options.transport);
    report.measure("measured_s", elapsed.as_secs_f64());
    report.count("connections", connections as u64);
    report.measure("setup_s", setup.as_secs_f64());
    report.count("relay_rss_before_kib", empty_kib);
    report.count("relay_rss_after_kib", full_kib);
    report.measure("rss_per_connection_kib", per_connection_kib);
    report.measure("relay_cpu_cores", cpu.as_secs_f64() / elapsed.as_secs_f64());
    report.deliveries(&tally, expected, 0);
    Ok(report)
}
