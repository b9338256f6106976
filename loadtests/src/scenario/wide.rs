//! What ten thousand keys in one message cost hubrelay: a native subscribe, up to the answer with their last values.
//!
//! Once they are the keys of one device, once ten of each of a thousand devices. The sessions subscribe one after the
//! other, so that the time of an answer is that of one, and all stay, so that the relay has them all to look after.

use std::time::{Duration, Instant};

use anyhow::ensure;
use relay_protocol::native::{Hello, Selector};

use super::Options;
use crate::contender::Running as _;
use crate::contender::hubrelay::{Hubrelay, RunningRelay};
use crate::figures::Figures;
use crate::grant_token::{self, DeviceGrant};
use crate::latency::Latencies;
use crate::native_client::NativeClient;
use crate::process_usage::cpu_time;
use crate::report::Pass;
use crate::seed::{SeedMessage, seed, telemetry_values};

/// As many as one message may name. The relay's limits on keys of a device and subscriptions of a session are above.
const KEYS: usize = 10_000;

/// Sessions that are measured. CPU time is told in hundredths of a second, and many make it finer.
const SESSIONS: usize = 20;

/// Sessions that subscribe before anything is measured.
const FORERUNNERS: usize = 3;

/// Keys in one message of a device.
const KEYS_PER_MESSAGE: usize = 1000;

/// How the keys are spread over devices.
#[derive(Clone, Copy, Debug)]
struct Spread {
    name: &'static str,
    devices: usize,
}

const SPREADS: [Spread; 2] = [
    Spread {
        name: "one_device",
        devices: 1,
    },
    Spread {
        name: "1000_devices",
        devices: 1000,
    },
];

/// Runs one pass.
pub(super) async fn run(contender: Hubrelay, options: &Options) -> anyhow::Result<Pass> {
    let progress = options.progress;
    let relay = RunningRelay::start(contender, &options.cores, &[]).await?;
    let mut pass = Pass::new(relay.about().clone());
    pass.figures.count("keys", KEYS as u64);
    pass.figures.count("sessions", SESSIONS as u64);
    for spread in SPREADS {
        progress.tick(&format!("sending {KEYS} keys, devices: {}", spread.devices));
        seed(&relay, spread.messages(), &spread.device_ids(), KEYS).await?;
        progress.tick("subscribing");
        subscribe_all(&relay, spread, FORERUNNERS).await?;
        subscribe_all(&relay, spread, SESSIONS)
            .await?
            .add_to(&mut pass.figures, spread);
    }
    relay.stop().await?;
    Ok(pass)
}

/// What subscribing took.
struct Taken {
    /// Of all sessions, for hello with the token.
    hello_cpu: Duration,
    /// Of all sessions, for subscribing.
    subscribe_cpu: Duration,
    request_bytes: usize,
    answer_bytes: usize,
    /// From sending the request to having read the answer.
    latencies: Latencies,
}

async fn subscribe_all(
    relay: &RunningRelay,
    spread: Spread,
    sessions: usize,
) -> anyhow::Result<Taken> {
    let grants: Vec<_> = spread
        .device_ids()
        .into_iter()
        .map(|device| DeviceGrant::telemetry(device, None))
        .collect();
    let hello = Hello {
        token: Some(grant_token::sign(&grants)?),
        ..Hello::default()
    };
    let selectors = spread.selectors();
    let cpu = || cpu_time(relay.pid());

    let start = cpu()?;
    let mut clients = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let hello = hello.clone();
        clients.push(NativeClient::open(&relay.authority, hello).await?);
    }
    let open = cpu()?;
    let mut answers = Vec::with_capacity(sessions);
    let mut latencies = Latencies::default();
    for client in &mut clients {
        let begun = Instant::now();
        client.ask_for(selectors.clone()).await?;
        answers.push(client.answer().await?);
        latencies.add(begun.elapsed());
    }
    let subscribed = cpu()?;
    for answer in &answers {
        let answer = NativeClient::subscribed(answer)?;
        ensure!(
            telemetry_values(&answer.snapshot) == KEYS,
            "a snapshot is not whole"
        );
    }
    Ok(Taken {
        hello_cpu: open.saturating_sub(start),
        subscribe_cpu: subscribed.saturating_sub(open),
        request_bytes: serde_json::to_string(&selectors)?.len(),
        answer_bytes: answers.last().map_or(0, Vec::len),
        latencies,
    })
}

impl Spread {
    fn device_ids(self) -> Vec<String> {
        (0..self.devices)
            .map(|device| format!("wide-{}-{device:04}", self.devices))
            .collect()
    }

    fn keys(self) -> Vec<String> {
        (0..KEYS / self.devices)
            .map(|key| format!("measurement-{key:04}"))
            .collect()
    }

    fn selectors(self) -> Vec<Selector> {
        let keys = self.keys();
        self.device_ids()
            .into_iter()
            .map(|device| Selector::telemetry(device, keys.iter().map(String::as_str)))
            .collect()
    }

    /// Messages that give every key of every device a value.
    fn messages(self) -> Vec<SeedMessage> {
        let keys = self.keys();
        let bodies: Vec<_> = keys
            .chunks(KEYS_PER_MESSAGE)
            .map(|keys| {
                let members: Vec<_> = keys.iter().map(|key| format!("\"{key}\":21.53")).collect();
                format!("{{{}}}", members.join(","))
            })
            .collect();
        self.device_ids()
            .iter()
            .flat_map(|device| {
                bodies.iter().map(move |body| SeedMessage {
                    device_id: device.clone(),
                    body: body.clone().into_bytes(),
                })
            })
            .collect()
    }
}

impl Taken {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    fn add_to(mut self, figures: &mut Figures, spread: Spread) {
        let name = |figure: &str| format!("{}_{figure}", spread.name);
        let sessions = self.latencies.len() as f64;
        let each_ms = |cpu: Duration| cpu.as_secs_f64() * 1000.0 / sessions;
        figures.add(name("subscribe_server_cpu_ms"), each_ms(self.subscribe_cpu));
        figures.add(name("hello_server_cpu_ms"), each_ms(self.hello_cpu));
        figures.count(name("request_bytes"), self.request_bytes as u64);
        figures.count(name("answer_bytes"), self.answer_bytes as u64);
        for (figure, share) in [("latency_p50_ms", 0.5), ("latency_max_ms", 1.0)] {
            if let Some(latency_ms) = self.latencies.percentile_ms(share) {
                figures.add(name(figure), latency_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spread_names_all_keys() {
        for spread in SPREADS {
            assert_eq!(spread.keys().len() * spread.device_ids().len(), KEYS);
        }
    }
}
