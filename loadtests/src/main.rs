//! Load scenarios for hubrelay and its peers: real servers, real sockets, every delivery checked.
//!
//! `cargo run --release -p loadtests -- <scenario>` starts each contender as processes of their own on one core, drives
//! it from another, checks that every delivery arrives once and in order, and reports what that took. Everything happens
//! on loopback addresses. Run `cargo build --release` first: the product's binary is looked for beside this one.

mod audience;
mod chart;
mod contender;
mod cores;
mod event_hub;
mod event_message;
mod event_sender;
mod feed;
mod figures;
mod floor_server;
mod generator;
mod grant_token;
mod kernel_queues;
mod latency;
mod limits;
mod message;
mod native_client;
mod pace;
mod process_usage;
mod progress;
mod relay_from_feed;
mod relay_metrics;
mod report;
mod run;
mod scenario;
mod seed;
mod server_process;
mod stop_signal;
mod tally;
mod websocket_client;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::contender::InputChoice;
use self::scenario::{SCENARIOS, Scenario};

/// As in the program: what is measured is its allocator as well.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs a load scenario against the release build of hubrelay, and against other servers, and reports what it measured.
#[derive(Debug, Parser)]
#[command(
    name = "loadtests",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,

    #[command(flatten)]
    run: RunArgs,
}

/// How a scenario is run.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The scenario to run; --list shows them
    #[arg(value_name = "SCENARIO", required_unless_present = "list", value_parser = known_scenario)]
    scenario: Option<&'static Scenario>,

    /// Show the scenarios and what each of them measures, and the contenders
    #[arg(long)]
    list: bool,

    /// What to measure, in this order; ratios are to the first. `hubrelay`, `floor` and `peers` stand for several
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "hubrelay", value_parser = known_contender)]
    contender: Vec<String>,

    /// Measure all installed peers as well
    #[arg(long)]
    peers: bool,

    /// How hubrelay gets its messages
    #[arg(long, value_enum, default_value_t = InputChoice::Feed)]
    input: InputChoice,

    /// Measure each contender so many times, taking turns; medians are reported
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    passes: u16,

    /// How long to measure in each pass, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,

    /// Write the report to this file as well, as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Messages offered each second, in `latency` and `slow` [default: 10000]
    #[arg(long, value_name = "N", value_parser = message_rate)]
    rate: Option<NonZeroU32>,

    /// Open connections in `idle`, sessions in `storm` and `native-setup`
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,

    /// Subscribe to whole messages where one key is asked for otherwise, so that hubrelay's payload is that of servers
    /// that cannot select keys
    #[arg(long)]
    whole: bool,
}

/// What this program does beside running scenarios. Hidden are parts that it starts as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// Draw charts of result files, an SVG for each scenario
    Chart {
        /// Files that --json wrote
        #[arg(value_name = "RESULTS", required = true)]
        results: Vec<PathBuf>,

        /// The directory to draw into
        #[arg(long, value_name = "DIR", default_value = "docs/images")]
        out: PathBuf,
    },
    #[command(hide = true)]
    RelayFromFeed { feed: SocketAddr },
    #[command(hide = true)]
    Floor {
        gathered_max: usize,
        feed: SocketAddr,
    },
    #[command(hide = true)]
    AmqpClient { event_hub: String },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.part {
        None if cli.run.list => {
            report::print(&list());
            ExitCode::SUCCESS
        }
        None => run::run(&cli.run),
        Some(Part::Chart { results, out }) => run::exit_code(chart::draw_all(&results, &out)),
        Some(Part::RelayFromFeed { feed }) => relay_from_feed::run(feed),
        Some(Part::AmqpClient { event_hub }) => contender::amqp_client::run(&event_hub),
        Some(Part::Floor { gathered_max, feed }) => {
            run::exit_code(floor_server::run(gathered_max, feed))
        }
    }
}

fn list() -> String {
    let scenarios = SCENARIOS
        .iter()
        .map(|scenario| (scenario.name, scenario.about.to_owned()));
    let line = |(name, about)| format!("  {name:<18} {about}\n");
    let scenarios: String = scenarios.map(line).collect();
    let contenders: String = contender::explained().into_iter().map(line).collect();
    format!("Scenarios:\n{scenarios}\nContenders:\n{contenders}")
}

fn known_scenario(name: &str) -> Result<&'static Scenario, String> {
    scenario::find(name).ok_or_else(|| {
        let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        format!("the scenarios are {}", names.join(", "))
    })
}

fn known_contender(name: &str) -> Result<String, String> {
    let names: Vec<_> = (contender::explained().into_iter())
        .map(|(name, _)| name)
        .collect();
    if names.contains(&name) {
        Ok(name.to_owned())
    } else {
        Err(format!("the contenders are {}", names.join(", ")))
    }
}

fn message_rate(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|rate: &NonZeroU32| rate.get() <= 1_000_000)
        .ok_or_else(|| "must be a whole number from 1 to 1000000".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_contender_that_is_listed_can_be_chosen() {
        for (name, _) in contender::explained() {
            assert!(
                contender::named(name, InputChoice::Feed).is_some(),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() {
        let parse = |arguments: &[&str]| {
            let arguments = [&["loadtests"], arguments].concat();
            Cli::try_parse_from(arguments).map_err(|error| error.to_string())
        };
        assert!(parse(&["broadcast", "--contender", "hubrelay,floor-1"]).is_ok());
        for (arguments, told) in [
            (&["broadcats"][..], "broadcast"),
            (&["broadcast", "--contender", "x"], "floor-16"),
            (&["latency", "--rate", "0"], "1000000"),
            (&["latency", "--passes", "0"], "1..=100"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
