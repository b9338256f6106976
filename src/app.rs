//! Composition: from a configuration to a running relay.

use crate::cli::{DemoOptions, DevhubOptions};
use crate::config::Config;
use crate::telemetry::LogFilter;

/// Runs the relay until it is told to stop.
#[expect(clippy::unused_async, reason = "composition will await")]
pub async fn serve(_config: Config, _log_filter: LogFilter) -> anyhow::Result<()> {
    anyhow::bail!("the relay is not composed yet")
}

/// Runs the stand-in, simulated devices, the relay and its live page until told to stop.
#[expect(clippy::unused_async, reason = "composition will await")]
pub async fn demo(_options: DemoOptions, _log_filter: LogFilter) -> anyhow::Result<()> {
    anyhow::bail!("the demo is not composed yet")
}

/// Runs the stand-in for Event Hubs and IoT Hub until told to stop.
#[expect(clippy::unused_async, reason = "composition will await")]
pub async fn devhub(_options: DevhubOptions, _log_filter: LogFilter) -> anyhow::Result<()> {
    anyhow::bail!("the stand-in is not composed yet")
}
