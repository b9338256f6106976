//! Scripts of `tests/node`, run by Node.js with the packages that `cargo xtask test` installs.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::PATIENCE;

/// A running script. It talks in JSON lines on stdout and ends when its stdin does.
pub(crate) struct NodeScript {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl NodeScript {
    /// Starts `tests/node/<name>`.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "node", name]
            .iter()
            .collect();
        let mut child = Command::new("node")
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js is installed");
        let stdout = child.stdout.take().expect("stdout is piped");
        Self {
            name: name.to_owned(),
            stdin: child.stdin.take(),
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// Gives it a line of JSON.
    pub(crate) async fn send(&mut self, value: &Value) {
        let stdin = self.stdin.as_mut().expect("the script is not finished");
        stdin
            .write_all(format!("{value}\n").as_bytes())
            .await
            .expect("the script reads");
    }

    /// The next line it prints.
    pub(crate) async fn next_line(&mut self) -> Value {
        self.next_line_within(PATIENCE).await
    }

    /// The next line it prints, which may take as long as `patience`.
    pub(crate) async fn next_line_within(&mut self, patience: Duration) -> Value {
        let line = timeout(patience, self.lines.next_line())
            .await
            .unwrap_or_else(|_| panic!("{} printed no line", self.name))
            .expect("stdout is UTF-8")
            .unwrap_or_else(|| panic!("{} ended without a line", self.name));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// The next line, which must report `event`.
    pub(crate) async fn next_event(&mut self, event: &str) -> Value {
        let line = self.next_line().await;
        assert_eq!(line["event"], event, "{line}");
        line
    }

    /// Kills it, which leaves it no time to say goodbye to anybody.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Ends its stdin and requires it to exit cleanly.
    pub(crate) async fn finish(mut self) {
        drop(self.stdin.take());
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("{} did not end", self.name))
            .expect("the script can be awaited");
        assert!(status.success(), "{} failed: {status}", self.name);
    }
}
