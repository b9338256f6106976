//! The scenarios. Each runs one contender at a time through one pass and says what came of it.

mod amqp_client;
mod growth;
mod idle;
mod native_setup;
mod roll_call;
mod slow;
mod steady;
mod storm;
mod wide;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::contender::hubrelay::Transport;
use crate::contender::{Contender, NotInstalled, Role};
use crate::cores::Cores;
use crate::progress::Progress;
use crate::report::Pass;
use crate::stop_signal::StopSignal;

/// What a pass is run with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) cores: Cores,
    pub(crate) progress: Progress,
    pub(crate) stop: StopSignal,
    /// How long to measure.
    pub(crate) measured: Duration,
    /// Messages offered each second, where a scenario offers a given number.
    pub(crate) rate: Option<NonZeroU32>,
    /// Open connections, or sessions, where a scenario has many.
    pub(crate) connections: usize,
    /// Subscribe to whole messages where otherwise one key is asked for.
    pub(crate) whole: bool,
}

/// A load scenario.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What the table shows. The first is what contenders are compared by.
    pub(crate) columns: &'static [Column],
    kind: Kind,
}

/// A figure in the table.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) figure: &'static str,
    pub(crate) header: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Broadcast,
    Dashboards,
    Firehose,
    Growth,
    Idle,
    Latency,
    NativeSetup,
    Slow,
    Storm,
    Wide,
}

const fn column(figure: &'static str, header: &'static str) -> Column {
    Column { figure, header }
}

const MESSAGES: Column = column("messages_in_per_s", "messages/s");
const DELIVERIES: Column = column("deliveries_per_s", "deliveries/s");
const CORES: Column = column("server_cores", "cores");
const DELIVERIES_PER_CORE: Column =
    column("deliveries_per_server_core_second", "deliveries/core-s");
const MESSAGES_PER_CORE: Column = column("messages_in_per_server_core_second", "messages/core-s");
const CPU_PER_MESSAGE: Column = column("server_cpu_us_per_message", "CPU us/message");
const P50: Column = column("latency_p50_ms", "p50 ms");
const P99: Column = column("latency_p99_ms", "p99 ms");
const P99_9: Column = column("latency_p99_9_ms", "p99.9 ms");
const RSS: Column = column("server_rss_mib", "RSS MiB");

/// All scenarios.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "broadcast",
        about: "1 device, 500 sessions that want all of it: deliveries per server core",
        columns: &[
            DELIVERIES_PER_CORE,
            MESSAGES,
            DELIVERIES,
            CORES,
            CPU_PER_MESSAGE,
            RSS,
        ],
        kind: Kind::Broadcast,
    },
    Scenario {
        name: "dashboards",
        about: "1,000 devices, 500 sessions with one key (--whole: all keys) of 4 random devices each: deliveries per server core",
        columns: &[
            DELIVERIES_PER_CORE,
            MESSAGES,
            DELIVERIES,
            CORES,
            CPU_PER_MESSAGE,
            RSS,
        ],
        kind: Kind::Dashboards,
    },
    Scenario {
        name: "firehose",
        about: "1,000 devices of which 10 are subscribed to: messages in per server core",
        columns: &[
            MESSAGES_PER_CORE,
            MESSAGES,
            DELIVERIES,
            CORES,
            CPU_PER_MESSAGE,
            RSS,
        ],
        kind: Kind::Firehose,
    },
    Scenario {
        name: "latency",
        about: "10,000 messages/s (or --rate) of 1,000 devices, two deliveries each: time from the due moment of sending to receiving",
        columns: &[P50, P99, P99_9, DELIVERIES, CORES, CPU_PER_MESSAGE, RSS],
        kind: Kind::Latency,
    },
    Scenario {
        name: "idle",
        about: "10,000 quiet clients (or --connections), each with session, grant and subscription: memory and CPU of the server",
        columns: &[
            column("rss_per_connection_kib", "KiB/connection"),
            column("server_rss_before_kib", "KiB empty"),
            column("server_rss_after_kib", "KiB full"),
            CORES,
            column("setup_s", "setup s"),
        ],
        kind: Kind::Idle,
    },
    Scenario {
        name: "slow",
        about: "as latency with 50 sessions, in turns without and with a tenth of them reading at 1 KB/s: whether the others notice",
        columns: &[
            column("healthy_p99_ratio", "p99 ratio"),
            column("healthy_p50_ratio", "p50 ratio"),
            P50,
            P99,
            column("with_slow_latency_p50_ms", "with slow p50"),
            column("with_slow_latency_p99_ms", "p99 ms"),
            column("slow_held_messages_min", "held back"),
            column("slow_missed_deliveries", "missed"),
            column("slow_sessions_cut_off", "cut off"),
        ],
        kind: Kind::Slow,
    },
    Scenario {
        name: "growth",
        about: "firehose with 1,000 to 100,000 devices, and with 100 to 10,000 sessions that nothing matches: whether a message costs the same",
        columns: &[
            column("devices_growth_ratio", "100 x devices"),
            column("sessions_growth_ratio", "100 x sessions"),
            column("1000_devices_server_cpu_us_per_message", "1k devices us"),
            column("10000_devices_server_cpu_us_per_message", "10k us"),
            column("100000_devices_server_cpu_us_per_message", "100k us"),
            column("100_sessions_server_cpu_us_per_message", "100 sessions us"),
            column("1000_sessions_server_cpu_us_per_message", "1k us"),
            column("10000_sessions_server_cpu_us_per_message", "10k us"),
        ],
        kind: Kind::Growth,
    },
    Scenario {
        name: "storm",
        about: "10,000 clients (or --connections) come back at once: session, grants, subscriptions, last values, socket",
        columns: &[
            column("server_cpu_us_per_session", "CPU us/session"),
            column("restored_s", "restored s"),
            column("sessions_per_s", "sessions/s"),
            CORES,
            column("generator_cores", "generator cores"),
        ],
        kind: Kind::Storm,
    },
    Scenario {
        name: "native-setup",
        about: "10,000 sessions (or --connections) over hubrelay's native protocol, each with ten grants and ten subscriptions: CPU for one, up to its snapshot",
        columns: &[
            column("token_server_cpu_us_per_session", "token us"),
            column("pipelined_token_server_cpu_us_per_session", "pipelined us"),
            column("rest_server_cpu_us_per_session", "REST us"),
            column("token_latency_p50_ms", "token p50 ms"),
            column("token_latency_p99_ms", "p99 ms"),
        ],
        kind: Kind::NativeSetup,
    },
    Scenario {
        name: "wide",
        about: "10,000 keys in one message of hubrelay's native protocol, of one device and of 1,000 devices: CPU up to the snapshot",
        columns: &[
            column("one_device_subscribe_server_cpu_ms", "1 device ms"),
            column("1000_devices_subscribe_server_cpu_ms", "1,000 devices ms"),
            column("one_device_latency_p50_ms", "1 device p50 ms"),
            column("1000_devices_latency_p50_ms", "1,000 devices p50 ms"),
        ],
        kind: Kind::Wide,
    },
];

/// The scenario of this name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Runs one pass of a contender.
    pub(crate) async fn run(
        &self,
        contender: &dyn Contender,
        options: &Options,
    ) -> anyhow::Result<Pass> {
        if contender.role() == Role::AmqpClient {
            return match self.kind {
                Kind::Firehose => amqp_client::run(options).await,
                _ => Err(NotInstalled("only `firehose` measures it".to_owned()).into()),
            };
        }
        let hubrelay = || match contender.role() {
            Role::Hubrelay(hubrelay) if hubrelay.transport == Transport::Native => Ok(hubrelay),
            _ => Err(NotInstalled(
                "the scenario is about hubrelay's native protocol".to_owned(),
            )),
        };
        let work = match self.kind {
            Kind::Broadcast => steady::broadcast(),
            Kind::Dashboards => steady::dashboards(options.whole),
            Kind::Firehose => steady::firehose(),
            Kind::Latency => steady::latency(options.rate, options.whole),
            Kind::Growth => return growth::run(contender, options).await,
            Kind::Idle => return idle::run(contender, options).await,
            Kind::NativeSetup => return native_setup::run(hubrelay()?, options).await,
            Kind::Slow => return slow::run(contender, options).await,
            Kind::Storm => return storm::run(contender, options).await,
            Kind::Wide => return wide::run(hubrelay()?, options).await,
        };
        steady::run(work, contender, options).await
    }
}
