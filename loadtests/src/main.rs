//! Load scenarios for hubrelay: real binary, real AMQP in, real updates out.
//!
//! `cargo run --release -p loadtests -- <scenario>` starts the stand-in and the relay as processes of their own, drives
//! them, checks that every delivery arrives once and in order, and reports what that took. Everything happens on
//! loopback addresses. Run `cargo build --release` first: the binary is looked for beside this one.

mod audience;
mod contender;
mod cores;
mod event_message;
mod event_sender;
mod feed;
mod grant_token;
mod limits;
mod message;
mod native_client;
mod pace;
mod process_usage;
mod progress;
mod report;
mod scenario;
mod seed;
mod servers;
mod socket_io_client;
mod tally;
mod transport;
mod updates_frame;
mod websocket_client;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use self::progress::Progress;
use self::report::Report;
use self::scenario::{SCENARIOS, Scenario};
use self::transport::Transport;

/// Runs a load scenario against the release build of hubrelay and reports what it measured.
#[derive(Debug, Parser)]
#[command(name = "loadtests", version, arg_required_else_help = true)]
struct Cli {
    /// The scenario to run; --list shows them
    #[arg(value_name = "SCENARIO", required_unless_present = "list", value_parser = known_scenario)]
    scenario: Option<&'static Scenario>,

    /// Show the scenarios and what each of them measures
    #[arg(long)]
    list: bool,

    /// How long to measure, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,

    /// Write the report to this file as well, as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Messages offered each second [default: what the scenario says; for `relay` as many as go through]
    #[arg(long, value_name = "N", value_parser = message_rate)]
    rate: Option<NonZeroU32>,

    /// How the clients connect, in `relay`, `latency` and `idle`
    #[arg(long, value_enum, default_value_t = Transport::SocketIo)]
    transport: Transport,

    /// Open connections in `idle`, sessions in `native-setup`
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Some(scenario) = cli.scenario.filter(|_| !cli.list) else {
        report::print(&list());
        return ExitCode::SUCCESS;
    };
    match run(scenario, &cli) {
        Ok(report) if report.is_sound() => ExitCode::SUCCESS,
        Ok(_) => {
            progress::complain("deliveries were lost, repeated, out of order or never asked for");
            ExitCode::FAILURE
        }
        Err(error) => {
            progress::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(scenario: &Scenario, cli: &Cli) -> anyhow::Result<Report> {
    let options = scenario::Options {
        measured: Duration::from_secs(cli.seconds.into()),
        rate: cli.rate,
        transport: cli.transport,
        connections: cli.connections as usize,
    };
    // Not the runtime of the event sender: each of the two would disturb the other's timing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let report = runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let progress = Progress::new();
        // To leave early drops the scenario, and with it the processes that it started.
        tokio::select! {
            report = scenario.run(&options, &progress) => report,
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and(Err(anyhow!("interrupted"))),
            _ = terminated.recv() => bail!("terminated"),
        }
    })?;
    report::print(&report.table());
    if let Some(path) = &cli.json {
        std::fs::write(path, report.json())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

fn list() -> String {
    let mut lines = SCENARIOS
        .iter()
        .map(|scenario| format!("{:<12} {}", scenario.name, scenario.about))
        .collect::<Vec<_>>()
        .join("\n");
    lines.push('\n');
    lines
}

fn known_scenario(name: &str) -> Result<&'static Scenario, String> {
    SCENARIOS
        .iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            format!("the scenarios are {}", names.join(", "))
        })
}

fn message_rate(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|rate: &NonZeroU32| rate.get() <= 1_000_000)
        .ok_or_else(|| "must be a whole number from 1 to 1000000".to_owned())
}
