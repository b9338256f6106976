//! What a quiet client costs a server: memory for its connection and all that belongs to it, and CPU for pings.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Options, roll_call, steady};
use crate::audience::Audience;
use crate::contender::Contender;
use crate::process_usage::{cpu_time_of, resident_kib_of};
use crate::report::Pass;

const DEVICES_MAX: usize = 1000;

/// Clients that connect and leave before the first look at memory: what a server allocates once for all is no client's
/// cost.
const FORERUNNERS: usize = 32;

/// Time for what setting up took to be given back.
const SETTLE: Duration = Duration::from_secs(5);

/// Runs one pass of a contender.
pub(super) async fn run(contender: &dyn Contender, options: &Options) -> anyhow::Result<Pass> {
    let (connections, progress) = (options.connections, options.progress);
    let audience = Audience::few(connections.min(DEVICES_MAX), connections);
    let (server, mut pass) = steady::start(&audience, contender, options).await?;
    let forerunners = Audience::few(audience.devices, FORERUNNERS.min(connections));
    drop(steady::gather(server.as_ref(), &forerunners, progress).await?);
    sleep(SETTLE).await;
    let empty_kib = resident_kib_of(&server.pids())?;

    let begun = Instant::now();
    let receivers = steady::gather(server.as_ref(), &audience, progress).await?;
    let setup = begun.elapsed();
    let mut generator = roll_call::listen(server.as_ref(), &audience, receivers, options).await?;
    generator.run(Instant::now() + SETTLE, progress)?;
    let (cpu_before, begun) = (cpu_time_of(&server.pids())?, Instant::now());
    generator.run(begun + options.measured, progress)?;
    let cpu = cpu_time_of(&server.pids())?.saturating_sub(cpu_before);
    let elapsed = begun.elapsed();
    let full_kib = resident_kib_of(&server.pids())?;

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    let per_connection_kib = full_kib.saturating_sub(empty_kib) as f64 / connections as f64;
    let figures = &mut pass.figures;
    figures.add("rss_per_connection_kib", per_connection_kib);
    figures.count("connections", connections as u64);
    figures.count("server_rss_before_kib", empty_kib);
    figures.count("server_rss_after_kib", full_kib);
    figures.add("setup_s", setup.as_secs_f64());
    figures.add("measured_s", elapsed.as_secs_f64());
    figures.add("server_cores", cpu.as_secs_f64() / elapsed.as_secs_f64());
    roll_call::call(
        server.as_ref(),
        &audience,
        &mut generator,
        options,
        &mut pass,
    )
    .await?;
    drop(generator);
    server.stop().await?;
    Ok(pass)
}
