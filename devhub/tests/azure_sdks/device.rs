//! A device written with one of Microsoft's device SDKs, as a child process that is talked to in JSON lines;
//! `tests/node/device.mjs` says how.

use std::{collections::VecDeque, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use crate::sdk::Sdk;

/// Longer than a step takes on a loaded machine, and shorter than the test runner's own limit.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running device. It ends with the test.
pub(crate) struct Device {
    child: Child,
    requests: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    /// What was told and nobody has asked for yet.
    untaken: VecDeque<Value>,
}

impl Device {
    /// Starts a device that trusts the authority in `ca_path`, and does not wait for it.
    pub(crate) fn start(
        sdk: Sdk,
        connection_string: &str,
        ca_path: &Path,
        options: &Value,
    ) -> Self {
        let mut input = json!({
            "connectionString": connection_string,
            "ca": std::fs::read_to_string(ca_path).unwrap(),
        });
        let members = input.as_object_mut().unwrap();
        members.extend(options.as_object().unwrap().clone());
        let mut command = sdk.device_command();
        let mut child = command
            .arg(input.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            requests: child.stdin.take().unwrap(),
            told: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            untaken: VecDeque::new(),
        }
    }

    /// Starts a device and waits until it is connected and listens to everything.
    pub(crate) async fn connected(
        sdk: Sdk,
        connection_string: &str,
        ca_path: &Path,
        options: &Value,
    ) -> Self {
        let mut device = Self::start(sdk, connection_string, ca_path, options);
        device.hear("connected").await;
        device
    }

    /// The next thing that the device tells under this name.
    pub(crate) async fn hear(&mut self, name: &str) -> Value {
        let heard = self
            .untaken
            .iter()
            .position(|told| told.get(name).is_some());
        if let Some(at) = heard {
            return self.untaken.remove(at).unwrap()[name].take();
        }
        loop {
            let line = timeout(PATIENCE, self.told.next_line())
                .await
                .unwrap_or_else(|_| {
                    panic!(
                        "no {name:?} within {PATIENCE:?}; untaken: {:?}",
                        self.untaken
                    )
                })
                .unwrap()
                .unwrap_or_else(|| {
                    panic!(
                        "the device ended without {name:?}; untaken: {:?}",
                        self.untaken
                    )
                });
            let mut told: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
            if let Some(found) = told.get_mut(name) {
                return found.take();
            }
            assert!(told.get("error").is_none(), "instead of {name:?}: {told}");
            self.untaken.push_back(told);
        }
    }

    /// Asks the device for something and waits for what it tells under `name`.
    pub(crate) async fn ask(&mut self, request: &Value, name: &str) -> Value {
        let line = format!("{request}\n");
        self.requests.write_all(line.as_bytes()).await.unwrap();
        self.hear(name).await
    }

    /// Lets the device disconnect as its SDK does, and waits until it has ended.
    pub(crate) async fn close(mut self) {
        drop(self.requests);
        let ended = timeout(PATIENCE, self.child.wait()).await;
        assert!(ended.expect("the device ends").unwrap().success());
    }

    /// Ends the device's process without a word to anybody.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
