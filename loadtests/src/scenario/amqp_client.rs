//! What the AMQP client alone costs for each message. See [`crate::contender::amqp_client`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::AsyncBufReadExt as _;
use tokio::time::sleep_until;

use super::Options;
use crate::contender::About;
use crate::contender::hubrelay::{PARTITIONS, StandIn};
use crate::event_sender::{EventSender, Load};
use crate::pace::{Pace, Traffic};
use crate::process_usage::{cpu_time, resident_kib};
use crate::report::Pass;
use crate::server_process::{Place, ServerProcess, this_program};

const WARM_UP: Duration = Duration::from_secs(2);

const DEVICES: usize = 1000;
const IN_FLIGHT_MAX: u64 = 50_000;

/// Runs one pass.
pub(super) async fn run(options: &Options) -> anyhow::Result<Pass> {
    let stand_in = StandIn::start(&options.cores).await?;
    let mut command = this_program("amqp-client")?;
    command.arg(&stand_in.event_hub);
    let (client, _, told) =
        ServerProcess::start_and_listen(&options.cores, Place::Server, &mut command).await?;
    let traffic = Arc::<Traffic>::default();
    let load = Load {
        devices: DEVICES,
        partitions: PARTITIONS,
        pace: Pace::InFlight(IN_FLIGHT_MAX),
        recipients: 1.0,
        start: Instant::now(),
    };
    let sender = EventSender::start(&stand_in.event_hub, load, Arc::clone(&traffic))?;
    let listening = async {
        let mut lines = told.lines();
        while let Some(line) = lines.next_line().await? {
            let received = line.parse().context("the client says no number")?;
            traffic.accounted.store(received, Ordering::Relaxed);
        }
        anyhow::bail!("the AMQP client ended")
    };
    let moment = || {
        anyhow::Ok((
            Instant::now(),
            cpu_time(client.pid())?,
            traffic.accounted.load(Ordering::Relaxed),
        ))
    };
    let measuring = async {
        sleep_until((Instant::now() + WARM_UP).into()).await;
        let before = moment()?;
        options.progress.tick("measuring");
        sleep_until((before.0 + options.measured).into()).await;
        anyhow::Ok((before, moment()?))
    };
    let (before, after) = tokio::select! {
        measured = measuring => measured?,
        ended = listening => return ended,
    };
    let mut pass = Pass::new(About {
        name: "amqp-client",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings: "receives and accepts, decodes and delivers nothing".to_owned(),
    });
    let elapsed_s = (after.0 - before.0).as_secs_f64();
    let cpu_s = after.1.saturating_sub(before.1).as_secs_f64();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    let (messages, rss_kib) = (
        (after.2 - before.2) as f64,
        resident_kib(client.pid())? as f64,
    );
    for (name, value) in [
        ("measured_s", elapsed_s),
        ("messages_in_per_s", messages / elapsed_s),
        ("server_cores", cpu_s / elapsed_s),
        ("messages_in_per_server_core_second", messages / cpu_s),
        ("server_cpu_us_per_message", cpu_s * 1e6 / messages),
        ("server_rss_mib", rss_kib / 1024.0),
    ] {
        pass.figures.add(name, value);
    }
    // Nothing receives any more, so nothing is waited for.
    drop(sender.stop().await);
    client.stop().await?;
    stand_in.stop().await?;
    Ok(pass)
}
