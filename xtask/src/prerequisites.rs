//! What the tests need beyond Rust: Node packages (Microsoft's SDKs for Event Hubs, IoT Hub devices and services, the
//! official Socket.IO client, the published React client, the browser driver), a Chromium with fonts, and a Python
//! environment with the same SDKs of Microsoft.
//!
//! Installing is idempotent, and takes milliseconds when all is there: each installed folder keeps a copy of the
//! file it was installed from, written last, and is made anew when that file has changed or an earlier
//! installation was cut off.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, debian, process};

/// Where the tests find a Python with the packages of `tests/python/requirements.txt`.
const PYTHON: &str = "HUBRELAY_TEST_PYTHON";
/// Where the tests find a Chromium or Chrome.
const CHROMIUM: &str = "HUBRELAY_TEST_CHROMIUM";

const NODE_MAJOR_MIN: u32 = 20;
const CHROMIUM_NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
const CHROMIUM_PATHS: [&str; 2] = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const CHROMIUM_PACKAGES: [&str; 3] = ["chromium", "fonts-dejavu-core", "fonts-noto-core"];

/// Places of what is installed; a place that is not known is left to the tests' own defaults.
#[derive(Debug)]
pub(crate) struct Prerequisites {
    python: PathBuf,
    chromium: Option<PathBuf>,
}

impl Prerequisites {
    /// Takes what is there as it is.
    pub(crate) fn present() -> Self {
        Self {
            python: env_path(PYTHON).unwrap_or_else(|| venv_python(&venv_folder())),
            chromium: find_chromium(),
        }
    }

    /// Installs what is missing or out of date.
    pub(crate) fn install() -> Result<Self> {
        install_node_packages(&node_folder())?;
        let python = match env_path(PYTHON) {
            Some(python) => python,
            None => install_python_packages(&venv_folder())?,
        };
        let chromium = match find_chromium() {
            Some(chromium) => chromium,
            None => install_chromium()?,
        };
        Ok(Self {
            python,
            chromium: Some(chromium),
        })
    }

    /// The variables by which the tests are told the places.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let chromium = self.chromium.as_deref();
        std::iter::once((PYTHON, self.python.as_path()))
            .chain(chromium.map(|chromium| (CHROMIUM, chromium)))
    }
}

fn install_node_packages(folder: &Path) -> Result<()> {
    let lock = folder.join("package-lock.json");
    let stamp = Stamp::new(&lock, &folder.join("node_modules"))?;
    if stamp.matches() {
        return Ok(());
    }
    let node = process::output(Command::new("node").arg("--version"))?;
    let major = node.as_deref().and_then(|version| {
        version
            .trim()
            .strip_prefix('v')?
            .split('.')
            .next()?
            .parse::<u32>()
            .ok()
    });
    match major {
        Some(major) if major >= NODE_MAJOR_MIN => {}
        Some(major) => bail!(
            "Node.js {major} is too old for the tests; install version {NODE_MAJOR_MIN} or newer"
        ),
        None => bail!(
            "the tests need Node.js {NODE_MAJOR_MIN} or newer with npm; install both and run this again"
        ),
    }
    process::step("installing the Node packages of the tests");
    process::run(
        Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(folder),
    )?;
    stamp.write()
}

fn install_python_packages(venv: &Path) -> Result<PathBuf> {
    let requirements = cargo::workspace_root().join("tests/python/requirements.txt");
    let python = venv_python(venv);
    let stamp = Stamp::new(&requirements, venv)?;
    if stamp.matches() {
        return Ok(python);
    }
    process::step("installing the Python packages of the tests");
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv)).context(
        "the tests need Python 3.10 or newer with its venv module (on Debian: apt-get install python3-venv)",
    )?;
    process::run(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .arg("--requirement")
            .arg(&requirements),
    )?;
    stamp.write()?;
    Ok(python)
}

fn install_chromium() -> Result<PathBuf> {
    let advice = format!(
        "install Chromium or Chrome (on Debian: apt-get install {}), or set {CHROMIUM} to the path of one",
        CHROMIUM_PACKAGES.join(" ")
    );
    debian::install(
        &CHROMIUM_PACKAGES,
        "the browser tests need a Chromium",
        &advice,
    )?;
    find_chromium()
        .with_context(|| format!("Chromium was installed and still cannot be found: {advice}"))
}

fn find_chromium() -> Option<PathBuf> {
    env_path(CHROMIUM)
        .or_else(|| CHROMIUM_NAMES.into_iter().find_map(process::find_in_path))
        .or_else(|| {
            CHROMIUM_PATHS
                .into_iter()
                .map(PathBuf::from)
                .find(|path| path.is_file())
        })
}

/// Node finds the packages from the scripts beside them.
fn node_folder() -> PathBuf {
    cargo::workspace_root().join("tests/node")
}

/// Always in the workspace's own `target`, so that tests find it however they were started.
fn venv_folder() -> PathBuf {
    cargo::workspace_root().join("target/python-venv")
}

fn venv_python(venv: &Path) -> PathBuf {
    venv.join("bin/python")
}

fn env_path(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// A copy of the file from which a folder was installed, kept in that folder as the sign that it is complete.
struct Stamp {
    wanted: Vec<u8>,
    path: PathBuf,
}

impl Stamp {
    fn new(installed_from: &Path, folder: &Path) -> Result<Self> {
        let wanted = fs::read(installed_from)
            .with_context(|| format!("cannot read {}", installed_from.display()))?;
        Ok(Self {
            wanted,
            path: folder.join(".installed-from"),
        })
    }

    fn matches(&self) -> bool {
        fs::read(&self.path).is_ok_and(|installed| installed == self.wanted)
    }

    fn write(&self) -> Result<()> {
        fs::write(&self.path, &self.wanted)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_matches_until_the_file_it_was_made_from_changes() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        fs::write(&lock, "one").unwrap();
        let stamp = || Stamp::new(&lock, folder.path()).unwrap();
        assert!(!stamp().matches());
        stamp().write().unwrap();
        assert!(stamp().matches());
        fs::write(&lock, "two").unwrap();
        assert!(!stamp().matches());
    }

    #[test]
    fn the_node_lock_file_names_no_registry() {
        let lock = fs::read_to_string(cargo::workspace_root().join("tests/node/package-lock.json"));
        assert!(!lock.unwrap().contains("\"resolved\""));
    }
}
