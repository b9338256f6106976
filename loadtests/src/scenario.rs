//! The scenarios. Each runs one contender at a time through one pass and says what came of it.

mod steady;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::contender::Contender;
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
    Latency,
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
        match self.kind {
            Kind::Broadcast => steady::run(steady::broadcast(), contender, options).await,
            Kind::Dashboards => {
                steady::run(steady::dashboards(options.whole), contender, options).await
            }
            Kind::Firehose => steady::run(steady::firehose(), contender, options).await,
            Kind::Latency => {
                let work = steady::latency(options.rate, options.whole);
                steady::run(work, contender, options).await
            }
        }
    }
}
