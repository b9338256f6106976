//! Whether a tenth of the clients, which read at 1 KB/s, are noticed by the others: `latency` with 200 sessions, once
//! without slow ones and once with them.
//!
//! Slow ones have a small receive buffer, as at the end of a slow line, and are sent many times what they read. What they
//! miss is theirs to miss, as long as it comes in order; that they are cut off is counted.

use std::time::Duration;

use super::{Options, steady};
use crate::contender::Contender;
use crate::report::Pass;
use crate::tally::Tally;

const SLOW_SHARE: usize = 10;
const BYTES_PER_READ: usize = 100;

/// Time for the buffers on the way to slow readers to fill.
const WARM_UP: Duration = Duration::from_secs(5);

/// Runs one pass of a contender.
pub(super) async fn run(contender: &dyn Contender, options: &Options) -> anyhow::Result<Pass> {
    let mut pass = measure(contender, options, 0).await?;
    let sessions = steady::slow(options.rate).audience.wishes.len();
    let with_slow = measure(contender, options, sessions / SLOW_SHARE).await?;
    pass.is_sound &= with_slow.is_sound;
    for name in SHOWN {
        if let Some(value) = with_slow.figures.get(name) {
            pass.figures.add(format!("with_slow_{name}"), value);
        }
    }
    for (ratio, name) in [
        ("healthy_p99_ratio", "latency_p99_ms"),
        ("healthy_p50_ratio", "latency_p50_ms"),
    ] {
        let both = with_slow.figures.get(name).zip(pass.figures.get(name));
        if let Some((with, without)) = both {
            pass.figures.add(ratio, with / without);
        }
    }
    Ok(pass)
}

/// What is told of the run with slow readers as well.
const SHOWN: [&str; 13] = [
    "latency_p50_ms",
    "latency_p99_ms",
    "latency_p99_9_ms",
    "latency_max_ms",
    "server_cores",
    "server_rss_mib",
    "lost_deliveries",
    "duplicated_deliveries",
    "reordered_deliveries",
    "unexpected_deliveries",
    "slow_sessions",
    "slow_conflated_deliveries",
    "slow_sessions_cut_off",
];

async fn measure(
    contender: &dyn Contender,
    options: &Options,
    slow: usize,
) -> anyhow::Result<Pass> {
    let work = steady::slow(options.rate);
    let (server, mut pass) = steady::start(&work.audience, contender, options).await?;
    let receivers = steady::gather(server.as_ref(), &work.audience, options.progress).await?;
    let mut run = steady::Run::begin(server.as_ref(), &work, receivers, options).await?;
    for place in 0..slow {
        run.generator.slow_down(place, BYTES_PER_READ)?;
    }
    run.measure(server.as_ref(), WARM_UP, options, &mut pass)?;

    let sent = run.stop_sending().await?;
    let healthy = &work.audience.wishes[slow..];
    let wished = healthy.iter().flatten();
    let expected = wished.map(|wish| sent(wish.device)).sum();
    run.generator.drain(expected)?;
    let (slow_ones, healthy_ones) = run.generator.receivers().split_at(slow);
    let (mut tally, mut missing) = (Tally::default(), 0);
    for receiver in healthy_ones {
        tally.add(&receiver.follower.tally);
        missing += receiver.follower.missing(&sent);
    }
    pass.deliveries(&tally, expected, missing);
    let mut slow_tally = Tally::default();
    for receiver in slow_ones {
        slow_tally.add(&receiver.follower.tally);
    }
    pass.is_sound &= slow_tally.reordered + slow_tally.duplicated + slow_tally.unexpected == 0;
    let cut_off = run.generator.cut_off();
    pass.figures.count("slow_sessions", slow as u64);
    pass.figures
        .count("slow_conflated_deliveries", slow_tally.skipped);
    pass.figures.count("slow_sessions_cut_off", cut_off);
    drop(run);
    server.stop().await?;
    Ok(pass)
}
