//! hubrelay itself: over Socket.IO or the native protocol, fed directly or from an event hub.

pub(crate) mod native;
pub(crate) mod socket_io;
mod update;

use std::env;
use std::fmt::Write as _;
use std::time::Duration;

use admin_client::{AdminClient, ConnectionString};
use anyhow::{Context as _, bail, ensure};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use self::native::NativeDelivery;
use self::socket_io::SocketIoDelivery;
use super::{About, Contender, Publisher, Role, Running, Subscriber, Wish};
use crate::cores::Cores;
use crate::feed::FeedSource;
use crate::grant_token;
use crate::relay_metrics::RelayMetrics;
use crate::server_process::{Place, ServerProcess, hubrelay, this_program};
use crate::websocket_client::Link;

/// Partitions of the event hub.
pub(crate) const PARTITIONS: u16 = 4;

const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The key that opens the relay's REST API. It reaches nothing but a relay on a loopback address that ends with this
/// run.
const ADMIN_KEY: &str = "loadtests";

const EVENT_HUB_VARIABLE: &str = "IOT_HUB_EVENT_HUB_CONNECTION_STRING";

/// A configuration has to name an event hub, even when the messages come from elsewhere.
const NO_EVENT_HUB: &str =
    "Endpoint=sb://127.0.0.1/;SharedAccessKeyName=none;SharedAccessKey=bm9uZQ==;EntityPath=none";

/// What the relay must be told so that its ordinary limits, which are about a single address, do not end the run.
const LIMITS: [(&str, &str); 5] = [
    ("HUBRELAY_SESSION_BURST_PER_ADDRESS", "1000000"),
    ("HUBRELAY_SESSION_RATE_PER_ADDRESS_PER_S", "1000000"),
    ("HUBRELAY_CONNECTIONS_MAX", "200000"),
    ("HUBRELAY_SESSIONS_MAX", "200000"),
    ("HUBRELAY_UNBOUND_SESSIONS_MAX", "200000"),
];

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Socket.IO over WebSocket; sessions and subscriptions by REST.
    SocketIo,
    /// The native protocol over WebSocket.
    Native,
}

/// Where device messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Directly into the decoder, as other servers are fed.
    Feed,
    /// Through AMQP, from the stand-in for Event Hubs.
    Amqp,
}

/// hubrelay as a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hubrelay {
    pub(crate) transport: Transport,
    pub(crate) input: Input,
}

impl Contender for Hubrelay {
    fn name(&self) -> &'static str {
        match (self.transport, self.input) {
            (Transport::SocketIo, Input::Feed) => "hubrelay-socket-io",
            (Transport::SocketIo, Input::Amqp) => "hubrelay-socket-io-amqp",
            (Transport::Native, Input::Feed) => "hubrelay-native",
            (Transport::Native, Input::Amqp) => "hubrelay-native-amqp",
        }
    }

    fn role(&self) -> Role {
        Role::Hubrelay(*self)
    }

    fn start<'a>(
        &'a self,
        cores: &'a Cores,
        _devices: usize,
    ) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        async move {
            let relay = RunningRelay::start(*self, cores, &[]).await?;
            Ok(Box::new(relay) as Box<dyn Running>)
        }
        .boxed_local()
    }
}

/// A running relay with what feeds it.
pub(crate) struct RunningRelay {
    about: About,
    transport: Transport,
    source: Source,
    relay: ServerProcess,
    /// `host:port` of the relay.
    pub(crate) authority: String,
    /// The relay's REST API.
    pub(crate) admin: AdminClient,
    http: reqwest::Client,
}

enum Source {
    Feed(FeedSource),
    Amqp(Box<StandIn>),
}

impl RunningRelay {
    /// Starts the relay, and the stand-in if messages come from there; it reads all partitions when this returns.
    /// `options` are set in its environment.
    pub(crate) async fn start(
        contender: Hubrelay,
        cores: &Cores,
        options: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let (source, mut command) = match contender.input {
            Input::Feed => {
                let feed = FeedSource::listen().await?;
                let mut command = this_program("relay-from-feed")?;
                command.arg(feed.address()?.to_string());
                command.env(EVENT_HUB_VARIABLE, NO_EVENT_HUB);
                (Source::Feed(feed), command)
            }
            Input::Amqp => {
                let stand_in = StandIn::start(cores).await?;
                let mut command = hubrelay()?;
                command.args(["serve", "--json"]);
                command.env(EVENT_HUB_VARIABLE, &stand_in.event_hub);
                (Source::Amqp(Box::new(stand_in)), command)
            }
        };
        configure(&mut command);
        command.envs(options.iter().copied());
        let (relay, RelayReady { url }) = start(cores, Place::Server, command).await?;
        let connection: ConnectionString =
            format!("Endpoint={url};SharedAccessKey={ADMIN_KEY}").parse()?;
        let admin = AdminClient::new(&connection)?;
        let version = admin.relay().version().await?;
        let about = About {
            name: contender.name(),
            version,
            settings: settings(),
        };
        let running = Self {
            about,
            transport: contender.transport,
            source,
            relay,
            authority: url.trim_start_matches("http://").to_owned(),
            admin,
            // While something is measured nobody looks after connections that the relay closes because nothing is asked.
            http: reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .build()?,
        };
        if let Source::Amqp(_) = running.source {
            running.wait_until_consuming().await?;
        }
        Ok(running)
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
    pub(crate) async fn metrics(&self) -> anyhow::Result<RelayMetrics> {
        let page = self.http.get(format!("http://{}/metrics", self.authority));
        let text = page.send().await?.error_for_status()?.text().await?;
        Ok(RelayMetrics::parse(&text))
    }

    /// The process id of the relay.
    pub(crate) fn pid(&self) -> u32 {
        self.relay.pid()
    }

    /// Ends the relay and what feeds it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.relay.stop_well().await?;
        match self.source {
            Source::Feed(_) => Ok(()),
            Source::Amqp(stand_in) => stand_in.stop().await,
        }
    }
}

impl Running for RunningRelay {
    fn about(&self) -> &About {
        &self.about
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.relay.pid()]
    }

    fn event_hub(&self) -> Option<&str> {
        match &self.source {
            Source::Feed(_) => None,
            Source::Amqp(stand_in) => Some(&stand_in.event_hub),
        }
    }

    fn selects_keys(&self) -> bool {
        true
    }

    fn publisher(&self) -> LocalBoxFuture<'_, anyhow::Result<Publisher>> {
        async move {
            match &self.source {
                Source::Feed(feed) => feed.publisher().await,
                Source::Amqp(_) => bail!("messages come from an event hub"),
            }
        }
        .boxed_local()
    }

    fn subscriber<'a>(
        &'a self,
        wishes: &'a [Wish],
        link: Link,
    ) -> LocalBoxFuture<'a, anyhow::Result<Subscriber>> {
        match self.transport {
            Transport::SocketIo => {
                SocketIoDelivery::connect(&self.authority, &self.admin, wishes, link).boxed_local()
            }
            Transport::Native => {
                NativeDelivery::connect(&self.authority, wishes, link).boxed_local()
            }
        }
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, anyhow::Result<()>> {
        (*self).stop().boxed_local()
    }
}

/// A running stand-in for Event Hubs, which is no part of the server under test.
pub(crate) struct StandIn {
    process: ServerProcess,
    /// How to send into the event hub, and read from it.
    pub(crate) event_hub: String,
}

impl StandIn {
    /// Starts it on free ports.
    pub(crate) async fn start(cores: &Cores) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Ready {
            event_hub_connection_string: String,
        }

        let mut command = hubrelay()?;
        command.args(["devhub", "--json", "--log-level", "warn", "--devices", "0"]);
        command.args(["--partitions", &PARTITIONS.to_string()]);
        for flag in ["--amqp", "--amqps", "--rest", "--mqtt", "--mqtts"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        let (process, ready) = start::<Ready>(cores, Place::Generator, command).await?;
        Ok(Self {
            process,
            event_hub: ready.event_hub_connection_string,
        })
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.process.stop_well().await
    }
}

#[derive(Deserialize)]
struct RelayReady {
    url: String,
}

/// What is not as by default, with what is set in the environment of this program to be tried.
fn settings() -> String {
    let mut settings = "defaults; limits on one address and on sessions raised".to_owned();
    let mut tried: Vec<_> = env::vars()
        .filter(|(name, _)| name.starts_with("HUBRELAY_"))
        .collect();
    tried.sort_unstable();
    for (name, value) in tried {
        write!(settings, "; {name}={value}").expect("writing to a text cannot fail");
    }
    settings
}

fn configure(command: &mut Command) {
    command.envs(LIMITS);
    command.env("HUBRELAY_LISTEN", "127.0.0.1:0");
    command.env("LOG_LEVEL", "warn");
    for name in ["PRIMARY_ADMIN_SECRET", "SECONDARY_ADMIN_SECRET"] {
        command.env(name, ADMIN_KEY);
    }
    command.env("HUBRELAY_GRANT_TOKEN_SECRET", grant_token::SECRET);
}

async fn start<R: DeserializeOwned>(
    cores: &Cores,
    place: Place,
    mut command: Command,
) -> anyhow::Result<(ServerProcess, R)> {
    let (process, line, _) = ServerProcess::start_and_listen(cores, place, &mut command).await?;
    let ready = serde_json::from_str(&line).context("hubrelay's first line is not as expected")?;
    Ok((process, ready))
}
