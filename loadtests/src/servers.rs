//! The processes under test: the stand-in and the relay, from the release binary beside this one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use admin_client::{AdminClient, ConnectionString};
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::grant_token;

/// Partitions of the event hub.
pub(crate) const PARTITIONS: u16 = 4;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The key that opens the relay's REST API. It reaches nothing but a relay on a loopback address that ends with this
/// run.
const ADMIN_KEY: &str = "loadtests";

/// What the relay must be told so that its ordinary limits, which are about a single address, do not end the run.
const RELAY_FLAGS: [&str; 10] = [
    "--session-burst-per-address",
    "1000000",
    "--session-rate-per-address-per-s",
    "1000000",
    "--connections-max",
    "200000",
    "--sessions-max",
    "200000",
    "--unbound-sessions-max",
    "200000",
];

/// A running stand-in and a relay that reads from it.
#[derive(Debug)]
pub(crate) struct Servers {
    stand_in: Server,
    relay: Server,
    /// How to send into the event hub.
    pub(crate) event_hub: String,
    /// `host:port` of the relay.
    pub(crate) authority: String,
    /// The relay's REST API.
    pub(crate) admin: AdminClient,
    http: reqwest::Client,
    url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StandInReady {
    event_hub_connection_string: String,
}

#[derive(Deserialize)]
struct RelayReady {
    url: String,
}

impl Servers {
    /// Starts both, on free ports, and waits until the relay reads all partitions.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with further flags for the relay.
    pub(crate) async fn start_with(relay_flags: &[&str]) -> anyhow::Result<Self> {
        let any = "127.0.0.1:0";
        let partitions = PARTITIONS.to_string();
        let mut command = command()?;
        command.args(["devhub", "--json", "--log-level", "warn", "--devices", "0"]);
        command.args(["--partitions", &partitions]);
        for flag in ["--amqp", "--amqps", "--rest", "--mqtt", "--mqtts"] {
            command.args([flag, any]);
        }
        let (stand_in, ready) = Server::start::<StandInReady>(command).await?;
        let event_hub = ready.event_hub_connection_string;

        let mut command = self::command()?;
        command.args(["serve", "--json", "--log-level", "warn", "--listen", any]);
        command.args(RELAY_FLAGS).args(relay_flags);
        command.env("IOT_HUB_EVENT_HUB_CONNECTION_STRING", &event_hub);
        for name in ["PRIMARY_ADMIN_SECRET", "SECONDARY_ADMIN_SECRET"] {
            command.env(name, ADMIN_KEY);
        }
        command.env("HUBRELAY_GRANT_TOKEN_SECRET", grant_token::SECRET);
        let (relay, RelayReady { url }) = Server::start(command).await?;

        let connection: ConnectionString =
            format!("Endpoint={url};SharedAccessKey={ADMIN_KEY}").parse()?;
        let servers = Self {
            stand_in,
            relay,
            event_hub,
            authority: url.trim_start_matches("http://").to_owned(),
            admin: AdminClient::new(&connection)?,
            http: reqwest::Client::new(),
            url,
        };
        servers.wait_until_consuming().await?;
        Ok(servers)
    }

    async fn wait_until_consuming(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let metrics = self.metrics().await?;
            if metrics.value("hubrelay_ingest_connected_partitions") >= f64::from(PARTITIONS) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the relay does not read the event hub after {START_LIMIT:?}"
            );
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What the relay counts.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Metrics> {
        let page = self.http.get(format!("{}/metrics", self.url)).send();
        let text = page.await?.error_for_status()?.text().await?;
        Ok(Metrics::parse(&text))
    }

    /// The process id of the relay.
    pub(crate) fn relay_pid(&self) -> u32 {
        self.relay.pid
    }

    /// The process id of the stand-in.
    pub(crate) fn stand_in_pid(&self) -> u32 {
        self.stand_in.pid
    }

    /// Ends both, as an operator would.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for (name, server) in [("relay", self.relay), ("stand-in", self.stand_in)] {
            let status = server
                .stop()
                .await
                .with_context(|| format!("the {name} did not stop"))?;
            ensure!(status.success(), "the {name} ended with {status}");
        }
        Ok(())
    }
}

/// One child process. Killed when dropped.
#[derive(Debug)]
struct Server {
    child: Child,
    pid: u32,
}

impl Server {
    /// Starts the program and reads the line of JSON that says it is ready.
    async fn start<R: for<'de> Deserialize<'de>>(
        mut command: Command,
    ) -> anyhow::Result<(Self, R)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start hubrelay")?;
        let pid = child.id().context("hubrelay ended at once")?;
        let stdout = child.stdout.take().context("hubrelay has no output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        timeout(START_LIMIT, stdout.read_line(&mut line))
            .await
            .context("hubrelay did not get ready")??;
        ensure!(!line.is_empty(), "hubrelay ended before it was ready");
        let ready =
            serde_json::from_str(&line).context("hubrelay's first line is not as expected")?;
        Ok((Self { child, pid }, ready))
    }

    async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("not a process id")?;
        kill_process(pid, Signal::TERM)?;
        Ok(timeout(STOP_LIMIT, self.child.wait()).await??)
    }
}

/// The program beside this one.
fn command() -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let binary: PathBuf = own.with_file_name(format!("hubrelay{}", std::env::consts::EXE_SUFFIX));
    ensure!(
        binary.is_file(),
        "{} is missing; run `cargo build --release` first",
        binary.display()
    );
    Ok(Command::new(binary))
}

/// The relay's metrics at one moment; those with labels are summed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(HashMap<String, f64>);

impl Metrics {
    fn parse(page: &str) -> Self {
        let mut metrics = HashMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let name = series.split('{').next().unwrap_or(series);
            if let Ok(value) = value.parse::<f64>() {
                *metrics.entry(name.to_owned()).or_insert(0.0) += value;
            }
        }
        Self(metrics)
    }

    /// The sum of a metric's series; 0 when there are none.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// How much a counter has grown since `before`.
    pub(crate) fn growth(&self, before: &Self, name: &str) -> f64 {
        self.value(name) - before.value(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_are_summed() {
        let page = "# TYPE a counter\na_total{x=\"1 2\"} 3\na_total{x=\"b\"} 4\nb 1.5\n# EOF\n";
        let metrics = Metrics::parse(page);
        assert!((metrics.value("a_total") - 7.0).abs() < f64::EPSILON);
        assert!((metrics.growth(&Metrics::default(), "b") - 1.5).abs() < f64::EPSILON);
    }
}
