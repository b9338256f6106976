//! One run: every contender in turn, pass after pass, then the report.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use crate::RunArgs;
use crate::contender::{self, Contender, NotInstalled};
use crate::cores::Cores;
use crate::progress::{self, Progress};
use crate::report::{self, Report};
use crate::scenario::{Options, Scenario};
use crate::stop_signal::StopSignal;

/// Runs what the command line says and reports it.
pub(crate) fn run(args: &RunArgs) -> ExitCode {
    let Some(scenario) = args.scenario else {
        return exit_code(Err(anyhow::anyhow!("no scenario was named")));
    };
    exit_code(measure(scenario, args))
}

/// Says on standard error what went wrong.
pub(crate) fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure(scenario: &'static Scenario, args: &RunArgs) -> anyhow::Result<()> {
    let stop = StopSignal::listen()?;
    let cores = Cores::claim()?;
    let progress = Progress::new();
    if cores.server().is_none() {
        progress
            .step("there is only one core: server and generator share it, and figures say little");
    }
    let options = Options {
        cores,
        progress,
        stop: stop.clone(),
        measured: Duration::from_secs(args.seconds.into()),
        rate: args.rate,
        connections: args.connections as usize,
        whole: args.whole,
    };
    let mut report = Report::new(scenario, settings(args, cores));
    // The event sender has another one: each of the two would disturb the other's timing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        // To leave early drops the scenario, and with it the processes that it started.
        tokio::select! {
            () = take_turns(scenario, args, &options, &mut report) => {}
            () = stop.stopped() => {}
        }
    });
    if report.is_empty() {
        stop.check()?;
        bail!("nothing was measured");
    }
    report::print(&report.table());
    if let Some(path) = &args.json {
        std::fs::write(path, report.json())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    // What was measured before is told all the same.
    stop.check()?;
    let unsound: Vec<_> = report.unsound().collect();
    if !unsound.is_empty() {
        bail!(
            "deliveries of {} were lost, repeated, out of order or never asked for",
            unsound.join(", ")
        );
    }
    let failed: Vec<_> = report.failed().collect();
    if !failed.is_empty() {
        bail!("{} could not be measured to the end", failed.join(", "));
    }
    Ok(())
}

/// Runs every pass of every contender. One that cannot be measured is left out from there on.
async fn take_turns(scenario: &Scenario, args: &RunArgs, options: &Options, report: &mut Report) {
    let mut contenders = chosen(args);
    for pass in 1..=args.passes {
        let mut able = Vec::new();
        for contender in contenders {
            let name = contender.name();
            options.progress.step(&format!(
                "{} {name}, pass {pass} of {}",
                scenario.name, args.passes
            ));
            match scenario.run(contender.as_ref(), options).await {
                Ok(pass) => {
                    report.add(pass);
                    able.push(contender);
                }
                Err(error) if error.is::<NotInstalled>() => {
                    options
                        .progress
                        .step(&format!("{name} is left out: {error}"));
                }
                Err(error) => {
                    let reason = format!("{error:#}");
                    options.progress.step(&format!("{name} failed: {reason}"));
                    report.add_failure(name, reason);
                }
            }
            if options.stop.check().is_err() {
                return;
            }
        }
        contenders = able;
    }
}

fn chosen(args: &RunArgs) -> Vec<Box<dyn Contender>> {
    let mut names = args.contender.clone();
    if args.peers {
        names.push("peers".to_owned());
    }
    let mut chosen: Vec<Box<dyn Contender>> = Vec::new();
    for contender in names
        .iter()
        .filter_map(|name| contender::named(name, args.input))
        .flatten()
    {
        if chosen.iter().all(|other| other.name() != contender.name()) {
            chosen.push(contender);
        }
    }
    chosen
}

/// How the run was made, for the report.
fn settings(args: &RunArgs, cores: Cores) -> Map<String, Value> {
    let mut settings = Map::new();
    let core = |core: Option<usize>| core.map_or(Value::Null, Value::from);
    settings.insert("passes".to_owned(), args.passes.into());
    settings.insert("seconds".to_owned(), args.seconds.into());
    settings.insert("whole_messages".to_owned(), args.whole.into());
    if let Some(rate) = args.rate {
        settings.insert("rate_messages_per_s".to_owned(), rate.get().into());
    }
    settings.insert("server_core".to_owned(), core(cores.server()));
    settings.insert("generator_core".to_owned(), core(cores.generator()));
    settings.insert("processor".to_owned(), processor().into());
    settings.insert("kernel".to_owned(), kernel().into());
    settings
}

/// The release of the kernel, whose part in every write and read is a large one.
fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match release.trim() {
        "" => "unknown".to_owned(),
        release => release.to_owned(),
    }
}

/// What the machine says its processor is.
fn processor() -> String {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = described
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned())
}
