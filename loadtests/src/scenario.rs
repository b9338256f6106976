//! The scenarios. Each is a module that sets the processes up, drives them and makes a report.

mod idle;
mod latency;
mod native_setup;
mod native_wide;
mod peers_check;
mod relay;
mod steady;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::progress::Progress;
use crate::report::Report;
use crate::transport::Transport;

/// What the command line says about a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How long to measure.
    pub(crate) measured: Duration,
    /// Messages offered each second.
    pub(crate) rate: Option<NonZeroU32>,
    /// How the clients connect.
    pub(crate) transport: Transport,
    /// Open connections, or sessions.
    pub(crate) connections: usize,
}

/// A load scenario.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Relay,
    Latency,
    Idle,
    NativeSetup,
    NativeWide,
    PeersCheck,
}

/// All scenarios.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "relay",
        about: "1,000 devices, two deliveries of each message: how many messages a second go through (--rate offers a given number)",
        kind: Kind::Relay,
    },
    Scenario {
        name: "latency",
        about: "10,000 messages a second (or --rate), two deliveries each: time from the due moment of sending to receiving",
        kind: Kind::Latency,
    },
    Scenario {
        name: "idle",
        about: "10,000 quiet clients (or --connections), each with session, grant and subscription: memory and CPU of the relay",
        kind: Kind::Idle,
    },
    Scenario {
        name: "native-setup",
        about: "10,000 sessions (or --connections) over the native protocol, each with ten grants and ten subscriptions: CPU of the relay for one, up to its snapshot",
        kind: Kind::NativeSetup,
    },
    Scenario {
        name: "native-wide",
        about: "10,000 keys in one native subscribe message, of one device and of 1,000 devices: CPU of the relay up to the snapshot",
        kind: Kind::NativeWide,
    },
    Scenario {
        name: "peers-check",
        about: "10,000 messages through each peer that is installed: that every delivery arrives once and in order",
        kind: Kind::PeersCheck,
    },
];

impl Scenario {
    /// Runs it to its end.
    pub(crate) async fn run(
        &self,
        options: &Options,
        progress: &Progress,
    ) -> anyhow::Result<Report> {
        let report = Report::new(self.name);
        match self.kind {
            Kind::Relay => relay::run(report, options, progress).await,
            Kind::Latency => latency::run(report, options, progress).await,
            Kind::Idle => idle::run(report, options, progress).await,
            Kind::NativeSetup => native_setup::run(report, options, progress).await,
            Kind::NativeWide => native_wide::run(report, progress).await,
            Kind::PeersCheck => peers_check::run(report, progress).await,
        }
    }
}
