//! Packages of the distribution, on systems that have `apt-get`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// Installs packages, for which it needs to be root or to have `sudo`. When that cannot be, the error says what was
/// needed (`need`, a sentence without its stop) and what to do instead (`advice`).
pub(crate) fn install(packages: &[&str], need: &str, advice: &str) -> Result<()> {
    if process::find_in_path("apt-get").is_none() {
        bail!("{need}: {advice}");
    }
    let apt_get = |arguments: &[&str]| -> Result<Command> {
        let mut command = if is_root()? {
            Command::new("apt-get")
        } else if process::output(Command::new("sudo").args(["--non-interactive", "true"]))?
            .is_some()
        {
            let mut command = Command::new("sudo");
            command.args(["--non-interactive", "apt-get"]);
            command
        } else {
            bail!("{need}, and installing it takes root or sudo without a password: {advice}");
        };
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["--quiet", "--quiet"])
            .args(arguments);
        Ok(command)
    };
    process::step(&format!("installing {}", packages.join(", ")));
    process::run(&mut apt_get(&["update"])?)?;
    process::run(apt_get(&["install", "--yes", "--no-install-recommends"])?.args(packages))
}

fn is_root() -> Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))?.is_some_and(|id| id.trim() == "0"))
}
