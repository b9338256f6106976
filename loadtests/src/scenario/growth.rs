//! Whether a message costs the same however many devices there are, and however many sessions that it does not concern.

use super::{Options, steady};
use crate::contender::Contender;
use crate::report::Pass;

const DEVICES: [usize; 3] = [1_000, 10_000, 100_000];
const SESSIONS: [usize; 3] = [100, 1_000, 10_000];

/// Runs one pass of a contender.
pub(super) async fn run(contender: &dyn Contender, options: &Options) -> anyhow::Result<Pass> {
    let by_devices = DEVICES.map(|devices| ("devices", devices, steady::growth(devices, 0)));
    let by_sessions =
        SESSIONS.map(|sessions| ("sessions", sessions, steady::growth(DEVICES[0], sessions)));
    let mut sum: Option<Pass> = None;
    for (of, size, work) in by_devices.into_iter().chain(by_sessions) {
        options.progress.step(&format!("  {size} {of}"));
        let pass = steady::run(work, contender, options).await?;
        let sum = sum.get_or_insert_with(|| Pass::new(pass.about.clone()));
        sum.is_sound &= pass.is_sound;
        for name in ["server_cpu_us_per_message", "server_rss_mib"] {
            if let Some(value) = pass.figures.get(name) {
                sum.figures.add(format!("{size}_{of}_{name}"), value);
            }
        }
        for name in WRONG {
            let before = sum.figures.take(name).unwrap_or(0.0);
            let now = pass.figures.get(name).unwrap_or(0.0);
            sum.figures.add(name, before + now);
        }
    }
    let mut sum = sum.ok_or_else(|| anyhow::anyhow!("nothing was measured"))?;
    for (of, [least, .., most]) in [("devices", DEVICES), ("sessions", SESSIONS)] {
        let cost = |size| {
            sum.figures
                .get(&format!("{size}_{of}_server_cpu_us_per_message"))
        };
        if let Some((most, least)) = cost(most).zip(cost(least)) {
            sum.figures.add(format!("{of}_growth_ratio"), most / least);
        }
    }
    Ok(sum)
}

const WRONG: [&str; 4] = [
    "lost_deliveries",
    "duplicated_deliveries",
    "reordered_deliveries",
    "unexpected_deliveries",
];
