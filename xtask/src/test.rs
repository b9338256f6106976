//! `cargo xtask test`: every test of the workspace, in an order that leaves the test runner's summary as the last
//! line of output.

use std::ffi::OsString;

use anyhow::Result;

use crate::prerequisites::Prerequisites;
use crate::{cargo, process};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install nothing; what is missing fails the tests that need it
    #[arg(long)]
    no_install: bool,
    /// Arguments for `cargo nextest run`, such as `-E 'package(devhub)'`; with any, documentation tests are left out
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
    if options.nextest.is_empty() {
        cargo::run(
            "running the documentation tests",
            ["test", "--workspace", "--doc"],
        )?;
    }

    process::step("running the tests");
    process::run(
        cargo::command(["nextest", "run", "--workspace"])
            .args(&options.nextest)
            .envs(prerequisites.environment()),
    )
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
