//! The real binary as a child process.

use std::{
    fs,
    process::{ExitStatus, Output, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::PATIENCE;

/// A running `hubrelay`. It is killed when dropped; if the test failed, its log is printed.
pub(crate) struct Hubrelay {
    subcommand: String,
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    log: NamedTempFile,
}

impl Hubrelay {
    /// Starts the binary with nothing but `environment` around it.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = NamedTempFile::new().expect("a temporary file can be created");
        let stderr = log
            .reopen()
            .expect("the temporary file can be opened again");
        let mut child = command(arguments, environment)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary under test starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        Self {
            subcommand: arguments.first().copied().unwrap_or_default().to_owned(),
            child,
            stdout: BufReader::new(stdout).lines(),
            log,
        }
    }

    /// Runs the binary to its end.
    pub(crate) async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let output = command(arguments, environment).output();
        timeout(PATIENCE, output)
            .await
            .expect("the binary ends by itself")
            .expect("the binary under test starts")
    }

    /// The next line of stdout, which must be JSON.
    pub(crate) async fn json_line(&mut self) -> Value {
        let line = timeout(PATIENCE, self.stdout.next_line())
            .await
            .unwrap_or_else(|_| panic!("hubrelay {} printed no line", self.subcommand))
            .expect("stdout is UTF-8")
            .unwrap_or_else(|| panic!("hubrelay {} ended without a line", self.subcommand));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// All it has logged so far.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.log.path()).expect("the log can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM.
    pub(crate) async fn signal_termination(&self) {
        let process_id = self.child.id().expect("the process is running").to_string();
        // The standard library cannot send signals, and one signal is no reason for a dependency.
        let sent = Command::new("kill")
            .args(["-TERM", &process_id])
            .status()
            .await
            .expect("kill can be run");
        assert!(sent.success(), "SIGTERM could not be sent");
    }

    /// Waits for it to end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("hubrelay {} did not end", self.subcommand))
            .expect("the process can be awaited")
    }

    /// Kills it and waits for its end.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("the process can be killed");
    }
}

impl Drop for Hubrelay {
    #[expect(
        clippy::print_stderr,
        reason = "the runner shows what a failed test printed"
    )]
    fn drop(&mut self) {
        if thread::panicking() {
            let state = match self.child.try_wait() {
                Ok(Some(status)) => status.to_string(),
                _ => "running".to_owned(),
            };
            eprintln!(
                "--- hubrelay {} ({state}):\n{}",
                self.subcommand,
                self.log()
            );
        }
    }
}

fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubrelay"));
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
