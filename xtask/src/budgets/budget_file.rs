//! `benches/budgets.toml`: the committed budgets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cargo;

/// Instructions for one unit of each scenario, by name.
pub(crate) type Budgets = BTreeMap<String, u64>;

const HEAD: &str = "\
# How many instructions each scenario of benches/instructions may take for one unit of its work (x86-64, profile `budgets`).
# More than 10 % over fails. Written by `cargo xtask budgets --update`; CONTRIBUTING.md tells when to.

[instructions]
";

/// The file, not yet read.
#[derive(Debug)]
pub(crate) struct BudgetFile {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    instructions: Budgets,
}

impl BudgetFile {
    /// The one that is committed.
    pub(crate) fn in_workspace() -> Self {
        Self {
            path: cargo::workspace_root().join("benches/budgets.toml"),
        }
    }

    /// Reads it.
    pub(crate) fn read(&self) -> Result<Budgets> {
        let contents: Contents = fs::read_to_string(&self.path)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(toml::from_str(&text)?))
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(contents.instructions)
    }

    /// Reads it; no file has no budgets.
    pub(crate) fn read_if_there(&self) -> Result<Budgets> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Budgets::new()),
            _ => self.read(),
        }
    }

    /// Replaces it.
    pub(crate) fn write(&self, budgets: &Budgets) -> Result<()> {
        let mut text = HEAD.to_owned();
        for (scenario, instructions) in budgets {
            writeln!(text, "{scenario} = {instructions}").expect("writing to a text cannot fail");
        }
        fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = BudgetFile {
            path: folder.path().join("budgets.toml"),
        };
        assert_eq!(file.read_if_there().unwrap(), Budgets::new());
        assert!(file.read().is_err(), "no file is no reason to pass");
        let budgets = Budgets::from([("decode-hub-time".into(), 11_222), ("route".into(), 31)]);
        file.write(&budgets).unwrap();
        assert_eq!(file.read().unwrap(), budgets);
        assert_eq!(file.read_if_there().unwrap(), budgets);
    }

    #[test]
    fn the_committed_file_is_as_it_would_be_written() {
        let committed = BudgetFile::in_workspace();
        let folder = tempfile::tempdir().unwrap();
        let written = BudgetFile {
            path: folder.path().join("budgets.toml"),
        };
        written.write(&committed.read().unwrap()).unwrap();
        let text = |file: &BudgetFile| fs::read_to_string(&file.path).unwrap();
        assert_eq!(text(&written), text(&committed));
    }
}
