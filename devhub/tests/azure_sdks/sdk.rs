//! Microsoft's SDKs as child processes, each driven by the script beside it that speaks JSON.

use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than any scenario takes on a loaded machine, and shorter than the test runner's own limit.
const PATIENCE: Duration = Duration::from_mins(1);

/// A language that Microsoft has SDKs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sdk {
    /// The npm packages `@azure/event-hubs`, `azure-iothub`, `azure-iot-device` and `azure-iot-device-mqtt`.
    JavaScript,
    /// The Python packages `azure-eventhub`, `azure-iot-hub` and `azure-iot-device`.
    Python,
}

impl Sdk {
    /// Runs one scenario of the SDK's script and returns its result.
    pub(crate) async fn run(self, scenario: &str, input: &Value) -> Value {
        self.run_trusting(scenario, input, None).await
    }

    /// Like [`Sdk::run`], with a certificate authority that Node trusts beside those of the system.
    pub(crate) async fn run_trusting(
        self,
        scenario: &str,
        input: &Value,
        certificate_authority: Option<&Path>,
    ) -> Value {
        let mut command = self.script("event_hubs");
        if let Some(path) = certificate_authority {
            command.env("NODE_EXTRA_CA_CERTS", path);
        }
        self.outcome(command, scenario, input).await
    }

    /// Does the steps of a back end that trusts a certificate authority, and returns what came of each.
    pub(crate) async fn run_back_end(self, input: &Value, certificate_authority: &Path) -> Value {
        let mut command = self.script("iot_hub_service");
        let trusting = match self {
            Self::JavaScript => "NODE_EXTRA_CA_CERTS",
            Self::Python => "REQUESTS_CA_BUNDLE",
        };
        command
            .env(trusting, certificate_authority)
            .env("NO_PROXY", "localhost");
        self.outcome(command, "steps", input).await
    }

    async fn outcome(self, mut command: Command, scenario: &str, input: &Value) -> Value {
        command.arg(scenario).arg(input.to_string());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("{self:?} {scenario} did not end in {PATIENCE:?}: {input}"))
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{self:?} {scenario} failed ({}): {input}\n{stderr}",
            output.status
        );
        serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("{error} in {stdout:?}\n{stderr}"))
    }

    /// Where a device of this SDK can reach an IoT hub on this machine. Python's insists on port 8883, so it gets an
    /// address for itself.
    pub(crate) fn mqtt_address(self) -> SocketAddr {
        match self {
            Self::JavaScript => SocketAddr::from(([127, 0, 0, 1], 0)),
            Self::Python if cfg!(target_os = "linux") => {
                let [b, c, d] = rand::random::<[u8; 3]>().map(|byte| byte.clamp(1, 254));
                SocketAddr::from(([127, b, c, d], 8883))
            }
            // Elsewhere there is one loopback address.
            Self::Python => SocketAddr::from(([127, 0, 0, 1], 8883)),
        }
    }

    /// The script of a device.
    pub(crate) fn device_command(self) -> Command {
        self.script("device")
    }

    fn script(self, name: &str) -> Command {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        match self {
            Self::JavaScript => {
                require(&tests.join("node/node_modules/@azure/event-hubs/package.json"));
                script(OsStr::new("node"), &tests.join(format!("node/{name}.mjs")))
            }
            Self::Python => {
                let python = env::var_os("HUBRELAY_TEST_PYTHON").map_or_else(
                    || tests.join("../target/python-venv/bin/python"),
                    PathBuf::from,
                );
                require(&python);
                script(python.as_os_str(), &tests.join(format!("python/{name}.py")))
            }
        }
    }
}

fn script(interpreter: &OsStr, path: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(path);
    command
}

fn require(path: &Path) {
    assert!(
        path.exists(),
        "{} is not there: run `cargo xtask test`, which installs what the tests need",
        path.display()
    );
}
