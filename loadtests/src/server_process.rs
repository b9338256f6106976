//! A server as a child process: started on its core, ready when its first line says so, ended as an operator would.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::cores::Cores;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// On which core a process belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// With the server under test.
    Server,
    /// With this program.
    Generator,
}

/// One child process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    pid: u32,
    name: String,
}

impl ServerProcess {
    /// Starts a program without input.
    pub(crate) fn start(
        cores: &Cores,
        place: Place,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        let name = command.as_std().get_program();
        let name = name.to_string_lossy().into_owned();
        command.stdin(Stdio::null()).kill_on_drop(true);
        let child = match place {
            Place::Server => cores.start_server(command),
            Place::Generator => cores.start_beside(command),
        };
        let child = child.with_context(|| format!("cannot start {name}"))?;
        let pid = child
            .id()
            .with_context(|| format!("{name} ended at once"))?;
        Ok(Self { child, pid, name })
    }

    /// Starts a program that says on its first line that it is ready, and returns that line and what follows it.
    pub(crate) async fn start_and_listen(
        cores: &Cores,
        place: Place,
        command: &mut Command,
    ) -> anyhow::Result<(Self, String, BufReader<ChildStdout>)> {
        let mut process = Self::start(cores, place, command.stdout(Stdio::piped()))?;
        let stdout = process
            .child
            .stdout
            .take()
            .context("a child has no output")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        timeout(START_LIMIT, stdout.read_line(&mut line))
            .await
            .with_context(|| format!("{} did not get ready", process.name))??;
        ensure!(
            !line.is_empty(),
            "{} ended before it was ready",
            process.name
        );
        Ok((process, line, stdout))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Tells it to end and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("not a process id")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("{} has ended", self.name))?;
        Ok(timeout(STOP_LIMIT, self.child.wait())
            .await
            .with_context(|| format!("{} did not stop", self.name))??)
    }

    /// The same for a server that ends well when told to.
    pub(crate) async fn stop_well(self) -> anyhow::Result<()> {
        let name = self.name.clone();
        let status = self.stop().await?;
        ensure!(status.success(), "{name} ended with {status}");
        Ok(())
    }
}

/// A command that runs a part of this program as a process of its own.
pub(crate) fn this_program(part: impl AsRef<OsStr>) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.arg(part);
    Ok(command)
}

/// A command that runs the product from the build beside this program.
pub(crate) fn hubrelay() -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let binary: PathBuf = program.with_file_name("hubrelay");
    ensure!(
        binary.is_file(),
        "{} is missing; run `cargo build --release` first",
        binary.display()
    );
    Ok(Command::new(binary))
}

/// Makes this process, which is a part that was started by [`this_program`], end with the one that started it.
pub(crate) fn end_with_parent() -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot follow the parent process")
}
