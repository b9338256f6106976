//! Developer entry points of hubrelay, run as `cargo xtask <command>`. Continuous integration calls these and
//! nothing else, so what passes here passes there.

#![expect(
    clippy::print_stderr,
    reason = "progress for the person who started the command goes to stderr; stdout is left to the tools it runs"
)]

mod budgets;
mod cargo;
mod debian;
mod prerequisites;
mod process;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Developer entry points of hubrelay"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test, after installing what the tests need
    Test(test::Options),
    /// Count the instructions of the hot paths and compare them with their budgets
    Budgets(budgets::Options),
    /// Format every source file
    Fmt,
    /// Check formatting, then run clippy and rustdoc with warnings as errors
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(options) => test::run(&options),
        Command::Budgets(options) => budgets::run(&options),
        Command::Fmt => cargo::run("formatting", ["fmt", "--all"]),
        Command::Lint => lint(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn lint() -> Result<()> {
    cargo::run("checking the format", ["fmt", "--all", "--check"])?;
    cargo::run(
        "running clippy",
        [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    )?;
    process::step("building the documentation");
    process::run(
        cargo::command(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"),
    )
}
