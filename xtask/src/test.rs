//! `cargo xtask test`: every test of the workspace and the instruction budgets, in an order that leaves the test runner's
//! summary as the last line of output when all is well.

use std::ffi::OsString;

use anyhow::Result;

use crate::prerequisites::Prerequisites;
use crate::{budgets, cargo, process};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install nothing; what is missing fails the tests that need it
    #[arg(long)]
    no_install: bool,
    /// Arguments for `cargo nextest run`, such as `-E 'package(devhub)'`; with any, documentation tests and instruction budgets are left out
    #[arg(last = true, value_name = "NEXTEST_ARGS")]
    nextest: Vec<OsString>,
}

/// Installs what the tests need, builds what they start, and runs them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let prerequisites = if options.no_install {
        Prerequisites::present()
    } else {
        install_nextest()?;
        Prerequisites::install()?
    };

    // The end-to-end tests start these as programs of their own.
    cargo::run(
        "building the programs the tests start",
        [
            "build",
            "--workspace",
            "--exclude",
            "xtask",
            "--bins",
            "--examples",
        ],
    )?;
    let mut budgets = Ok(());
    if options.nextest.is_empty() {
        cargo::run(
            "running the documentation tests",
            ["test", "--workspace", "--doc"],
        )?;
        budgets = hold_budgets(options.no_install);
    }

    process::step("running the tests");
    process::run(
        cargo::command(["nextest", "run", "--workspace"])
            .args(&options.nextest)
            .envs(prerequisites.environment()),
    )?;
    // A budget that does not hold keeps nobody from learning whether the tests pass.
    budgets
}

fn hold_budgets(no_install: bool) -> Result<()> {
    if !budgets::CAN_COUNT {
        process::step("the instruction budgets are those of x86-64 Linux and are NOT checked here");
        return Ok(());
    }
    budgets::run(&budgets::Options::all(no_install))
}

fn install_nextest() -> Result<()> {
    if process::output(&mut cargo::command(["nextest", "--version"]))?.is_some() {
        return Ok(());
    }
    cargo::run(
        "installing cargo-nextest, which takes some minutes once",
        ["install", "cargo-nextest", "--locked"],
    )
}
