//! Cargo itself, as the tool that started us, in the workspace's root.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process;

/// The root of the workspace, as an absolute path.
pub(crate) fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// A cargo command with these arguments, not yet run.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(workspace_root());
    command
}

/// Announces `step` and runs cargo with these arguments.
pub(crate) fn run<A: AsRef<OsStr>>(
    step: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<()> {
    process::step(step);
    process::run(&mut command(arguments))
}
