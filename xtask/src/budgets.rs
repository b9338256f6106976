//! `cargo xtask budgets`: how many instructions the hot paths take, against what they may take.
//!
//! Counts, not times: the same build takes the same number of instructions on a busy machine and on an idle one, so a
//! tenth more is news. `benches/instructions` is the program; each of its scenarios runs by itself under callgrind.

mod budget_file;
mod callgrind;
mod comparison;

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use self::budget_file::BudgetFile;
use self::callgrind::{Bench, Count};
use self::comparison::{Comparison, Verdict};
use crate::process;

/// By how much a count may be over its budget; as much under it is worth telling.
const TOLERANCE_PERCENT: u64 = 10;

/// Whether this machine can tell: another architecture has other instructions.
pub(crate) const CAN_COUNT: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// Options of `cargo xtask budgets`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Make what is counted the budget, and write it to benches/budgets.toml
    #[arg(long)]
    update: bool,
    /// Install nothing; without valgrind this fails
    #[arg(long)]
    no_install: bool,
    /// Count only scenarios whose names contain this
    #[arg(conflicts_with = "update")]
    filter: Option<String>,
}

impl Options {
    /// Those of a check of every scenario.
    pub(crate) fn all(no_install: bool) -> Self {
        Self {
            update: false,
            no_install,
            filter: None,
        }
    }
}

/// Counts every scenario, shows the table, and fails when one is over its budget.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !CAN_COUNT {
        bail!("the instruction budgets are those of x86-64 Linux; count there");
    }
    let valgrind = if options.no_install {
        callgrind::present()?
    } else {
        callgrind::install()?
    };
    let file = BudgetFile::in_workspace();
    let bench = Bench::build(valgrind)?;
    process::step("counting instructions");
    let is_wanted = |name: &str| (options.filter.as_deref()).is_none_or(|part| name.contains(part));
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for name in bench.scenarios()? {
        if is_wanted(&name) {
            let count = bench.count(&name)?;
            counts.insert(name, count);
        }
    }
    if options.update {
        let budgets = comparison::updated(&file.read_if_there()?, &counts);
        file.write(&budgets)?;
    }
    let mut budgets = file.read()?;
    budgets.retain(|name, _| is_wanted(name));
    if counts.is_empty() {
        bail!("no scenario was counted");
    }
    judge(&comparison::compare(&budgets, &counts))
}

fn judge(comparisons: &[Comparison]) -> Result<()> {
    eprint!("{}", comparison::table(comparisons));
    if comparisons.iter().any(|one| one.verdict == Verdict::Under) {
        eprintln!(
            "A budget that is not used up lets the same amount creep back in: cargo xtask budgets --update"
        );
    }
    let failed: Vec<_> = comparisons
        .iter()
        .filter(|one| one.verdict.fails())
        .map(|one| one.scenario.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "instruction budgets do not hold: {}. Where the instructions go: callgrind_annotate {}/<scenario>.callgrind. \
         What to do: CONTRIBUTING.md, \"Instruction budgets\"",
        failed.join(", "),
        callgrind::OUTPUT_FOLDER
    );
}
