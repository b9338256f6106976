//! Builds `benches/instructions` and runs its scenarios under callgrind.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cargo, debian, process};

/// Where each scenario's profile is left, for `callgrind_annotate`; below the workspace's root.
pub(crate) const OUTPUT_FOLDER: &str = "target/budgets";

/// The profile in Cargo.toml.
const PROFILE: &str = "budgets";

/// The bench and its one function within which callgrind collects.
const BENCH: &str = "instructions";
const COUNTED_FUNCTION: &str = "count_instructions";

/// What one scenario took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// Instructions for one unit, rounded.
    pub(crate) instructions: u64,
    /// What a unit is: a message, a delivery.
    pub(crate) unit: String,
}

/// The built bench.
#[derive(Debug)]
pub(crate) struct Bench {
    valgrind: PathBuf,
    program: PathBuf,
}

const NEED: &str = "the instruction budgets need valgrind";
const ADVICE: &str = "install valgrind 3.19 or newer (on Debian: apt-get install valgrind)";

/// Where valgrind is; an error tells what to do without it.
pub(crate) fn present() -> Result<PathBuf> {
    process::find_in_path("valgrind").with_context(|| format!("{NEED}: {ADVICE}"))
}

/// The same, after installing it where it is missing.
pub(crate) fn install() -> Result<PathBuf> {
    if let Ok(valgrind) = present() {
        return Ok(valgrind);
    }
    debian::install(&["valgrind"], NEED, ADVICE)?;
    present().context("valgrind was installed and still cannot be found")
}

impl Bench {
    /// Builds it, optimized as the product is but for what the linker could do, which takes minutes.
    pub(crate) fn build(valgrind: PathBuf) -> Result<Self> {
        process::step("building the scenarios of the instruction budgets");
        let mut build = cargo::command([
            "build",
            "--package",
            "hubrelay",
            "--bench",
            BENCH,
            "--profile",
            PROFILE,
            "--message-format",
            "json-render-diagnostics",
        ]);
        let output = build
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("building the scenarios failed ({})", output.status);
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let program = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<CargoMessage>(line).ok())
            .filter(|message| (message.target.as_ref()).is_some_and(|target| target.name == BENCH))
            .find_map(|message| message.executable);
        let program = program.context("cargo did not say where it put the scenarios")?;
        Ok(Self { valgrind, program })
    }

    /// The names of its scenarios.
    pub(crate) fn scenarios(&self) -> Result<Vec<String>> {
        let names = process::output(Command::new(&self.program).arg("--list"))?
            .context("the scenarios do not tell their names")?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Runs one scenario under callgrind.
    pub(crate) fn count(&self, scenario: &str) -> Result<Count> {
        let folder = cargo::workspace_root().join(OUTPUT_FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let profile = folder.join(format!("{scenario}.callgrind"));
        // The environment lies on the stack, whose addresses seed the hashes of maps: an empty one is the same everywhere.
        let output = Command::new(&self.valgrind)
            .env_clear()
            .arg("--tool=callgrind")
            .arg(format!("--toggle-collect=*{COUNTED_FUNCTION}*"))
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(&self.program)
            .arg(scenario)
            .output()
            .context("cannot start valgrind")?;
        if !output.status.success() {
            bail!(
                "{scenario} failed under valgrind ({}):\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let profile = fs::read_to_string(&profile)
            .with_context(|| format!("cannot read {}", profile.display()))?;
        per_unit(&profile, &String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{scenario} was not counted"))
    }
}

/// From callgrind's output file and what the scenario said, which is `<units> <unit>`.
fn per_unit(profile: &str, said: &str) -> Result<Count> {
    let instructions = profile
        .lines()
        .find_map(|line| line.strip_prefix("summary: "))
        .and_then(|count| count.trim().parse::<u64>().ok())
        .context("callgrind's output has no summary")?;
    let (units, unit) = said
        .trim()
        .split_once(' ')
        .context("the scenario does not say what it did")?;
    let units: u64 = units
        .parse()
        .context("the scenario does not say how much it did")?;
    if units == 0 || instructions == 0 {
        bail!("callgrind saw {instructions} instructions for {units} units of work");
    }
    Ok(Count {
        instructions: (instructions + units / 2) / units,
        unit: unit.to_owned(),
    })
}

/// What cargo says in JSON, as far as it tells where a program is.
#[derive(Debug, Deserialize)]
struct CargoMessage {
    target: Option<CargoTarget>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct CargoTarget {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "version: 1\nevents: Ir\n\nfn=(1) work\n12 1050\n\nsummary: 1050\n";

    #[test]
    fn a_count_is_rounded_for_one_unit() {
        let count = per_unit(PROFILE, "100 delivery\n").unwrap();
        assert_eq!((count.instructions, count.unit.as_str()), (11, "delivery"));
    }

    #[test]
    fn nothing_counted_is_an_error_and_not_a_good_result() {
        let nothing = PROFILE.replace("1050", "0");
        for (profile, said) in [
            (nothing.as_str(), "100 delivery"),
            (PROFILE, "0 delivery"),
            (PROFILE, ""),
            ("version: 1\n", "100 delivery"),
        ] {
            assert!(per_unit(profile, said).is_err(), "{profile:?} {said:?}");
        }
    }
}
