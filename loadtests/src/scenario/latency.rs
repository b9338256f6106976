//! How long an update takes at a moderate rate, from when its message was due to when a client has it.

use super::{Options, steady};
use crate::pace::Pace;
use crate::progress::Progress;
use crate::report::Report;

const RATE: u32 = 10_000;

pub(super) async fn run(
    report: Report,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let rate = options.rate.map_or(RATE, std::num::NonZeroU32::get);
    steady::run(report, Pace::Rate(rate), options, progress).await
}
