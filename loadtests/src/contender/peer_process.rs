//! The processes of the peers: found where `loadtests/peers/install` puts them, started on the server's core with a
//! directory that goes with them, and ended as an operator would.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::NotInstalled;
use crate::cores::Cores;
use crate::server_process::{Place, ServerProcess};

const START_LIMIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const LOG: &str = "log";

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

/// A running peer with a directory of its own. Killed, and the directory removed, when dropped.
#[derive(Debug)]
pub(crate) struct PeerProcess {
    process: ServerProcess,
    directory: TempDir,
}

impl PeerProcess {
    /// Starts the program on the server's core and waits until it takes connections at all of the addresses.
    pub(crate) async fn start(
        cores: &Cores,
        mut command: Command,
        directory: TempDir,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        set_up(&mut command, &directory)?;
        command.stdout(Stdio::null());
        let mut peer = Self {
            process: ServerProcess::start(cores, Place::Server, &mut command)?,
            directory,
        };
        for address in addresses {
            peer.wait_for(*address).await?;
        }
        Ok(peer)
    }

    /// Starts a program that says on its first line that it is ready, and returns that line.
    pub(crate) async fn start_and_listen(
        cores: &Cores,
        mut command: Command,
        directory: TempDir,
    ) -> anyhow::Result<(Self, String)> {
        set_up(&mut command, &directory)?;
        let started = ServerProcess::start_and_listen(cores, Place::Server, &mut command).await;
        let (process, line, _) = started.with_context(|| log(&directory))?;
        Ok((Self { process, directory }, line))
    }

    async fn wait_for(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.process.has_ended()? {
                bail!("a server ended with {status}: {}", log(&self.directory));
            }
            ensure!(
                Instant::now() < deadline,
                "nothing listens at {address} after {START_LIMIT:?}: {}",
                log(&self.directory)
            );
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// The process and its children, and theirs.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.process.pid()];
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            // A process that has just ended has none.
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            let children = children.split_ascii_whitespace();
            pids.extend(children.filter_map(|child| child.parse::<u32>().ok()));
            next += 1;
        }
        pids
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let stopped = self.process.stop_well().await;
        stopped.with_context(|| log(&self.directory))
    }
}

/// What it says to standard error is kept in its directory.
fn set_up(command: &mut Command, directory: &TempDir) -> anyhow::Result<()> {
    let log = fs::File::create(directory.path().join(LOG))?;
    command.current_dir(directory.path()).stderr(log);
    Ok(())
}

/// The end of what a server said.
fn log(directory: &TempDir) -> String {
    let log = fs::read(directory.path().join(LOG)).unwrap_or_default();
    let shown = log.len().saturating_sub(LOG_BYTES_SHOWN);
    String::from_utf8_lossy(&log[shown..]).trim().to_owned()
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
