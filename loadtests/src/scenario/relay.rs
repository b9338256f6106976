//! The whole relay under load: how much goes through from AMQP to WebSocket.

use super::{Options, steady};
use crate::pace::Pace;
use crate::progress::Progress;
use crate::report::Report;

/// Messages on their way at once when no rate is given. Enough to keep every stage busy; with the deliveries spread
/// over the clients it is a fraction of what may wait for one of them, so that nothing has to be conflated.
const IN_FLIGHT_MAX: u64 = 8_000;

pub(super) async fn run(
    report: Report,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let pace = options
        .rate
        .map_or(Pace::InFlight(IN_FLIGHT_MAX), |rate| Pace::Rate(rate.get()));
    steady::run(report, pace, options, progress).await
}
