//! The processes of the peers: found where `loadtests/peers/install` puts them, started on the server's core with a
//! directory that goes with them, and ended as an operator would.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::NotInstalled;
use crate::cores::Cores;

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How much of a log is shown when something goes wrong.
const LOG_BYTES_SHOWN: usize = 2000;

/// The program of a peer, or [`NotInstalled`].
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    installed(&format!("bin/{name}"))
}

/// A file that was installed with a peer, or [`NotInstalled`].
pub(crate) fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/peers")
        .join(name);
    path.canonicalize()
        .map_err(|_| NotInstalled(format!("{name} is missing; run loadtests/peers/install")).into())
}

/// A file beside the script that installs the peers.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

/// Loopback addresses that nothing listens on. Servers that cannot be told to take any free port, and to say which, need
/// them beforehand.
pub(crate) fn free_addresses<const COUNT: usize>() -> anyhow::Result<[SocketAddr; COUNT]> {
    // All are held before the first is given back, so they differ.
    let mut listeners = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

/// A running peer. Killed, and its directory removed, when dropped.
#[derive(Debug)]
pub(crate) struct PeerProcess {
    name: &'static str,
    child: Child,
    pid: u32,
    directory: TempDir,
}

impl PeerProcess {
    /// Starts the program on the server's core. What it says to standard error is kept in `directory`.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        directory: TempDir,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        let log = fs::File::create(directory.path().join("log"))?;
        command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let child = cores
            .start_server(&mut command)
            .with_context(|| format!("cannot start {name}"))?;
        let pid = child
            .id()
            .with_context(|| format!("{name} ended at once"))?;
        Ok(Self {
            name,
            child,
            pid,
            directory,
        })
    }

    /// What it prints, for servers that say there what is of use.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until it accepts connections.
    pub(crate) async fn wait_for(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.log());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not listen after {START_LIMIT:?}: {}",
                self.name,
                self.log()
            );
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        let shown = log.len().saturating_sub(LOG_BYTES_SHOWN);
        String::from_utf8_lossy(&log[shown..]).trim().to_owned()
    }

    /// The process and its children, and theirs.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.pid];
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            // A process that has just ended has none.
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            pids.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
            next += 1;
        }
        pids
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} ended by itself with {status}: {}",
                self.name,
                self.log()
            );
        }
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("not a process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = timeout(STOP_LIMIT, self.child.wait())
            .await
            .with_context(|| format!("{} did not stop", self.name))??;
        ensure!(
            status.success(),
            "{} ended with {status}: {}",
            self.name,
            self.log()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ() {
        let [first, second] = free_addresses().unwrap();
        assert_ne!(first, second);
    }
}
