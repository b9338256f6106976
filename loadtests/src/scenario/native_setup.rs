//! What it costs hubrelay to set up a session over the native protocol: connection, session, ten grants, ten subscriptions in one
//! message, and the answer with the snapshot.
//!
//! Three ways, one after the other: grants by token and each message after the answer to the one before; the same with
//! both messages at once; and session and grants by REST, as a backend without tokens does it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use relay_protocol::native::{GrantToken, Hello, Selector, Subscribed, Values};
use relay_protocol::{DeviceId, Grant, GrantRequest};
use tokio::time::sleep;

use super::Options;
use crate::contender::Running as _;
use crate::contender::hubrelay::{Hubrelay, RunningRelay};
use crate::figures::Figures;
use crate::grant_token::{self, DeviceGrant};
use crate::latency::Latencies;
use crate::limits;
use crate::message::{Body, KEYS, device_id, key_name};
use crate::native_client::NativeClient;
use crate::process_usage::cpu_time;
use crate::progress::Progress;
use crate::report::Pass;
use crate::seed::{SeedMessage, seed, telemetry_values};
use crate::websocket_client::Link;

const DEVICES: usize = 1000;

/// Each session sees three keys of each of three devices, and the connection state of one.
const DEVICES_EACH: usize = 3;
const KEYS_EACH: usize = 3;

const SET_UP_AT_ONCE: usize = 32;

/// Sessions in the way by REST, of which each takes eleven requests.
const REST_SESSIONS_MAX: usize = 2000;

/// Sessions that are set up before anything is measured.
const FORERUNNERS: usize = 500;

/// Connection states hold for ever, so that none of them changes within a run.
const RELAY_OPTIONS: [(&str, &str); 1] = [("HUBRELAY_CONNECTION_STATE_CACHE_TTL", "0")];

/// How long the relay may take to notice that clients have gone.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Time for what leaving took to be done with.
const SETTLE: Duration = Duration::from_secs(2);

/// How a session comes by its grants.
#[derive(Clone, Copy, Debug)]
enum Way {
    Token,
    PipelinedToken,
    Rest,
}

impl Way {
    const ALL: [Self; 3] = [Self::Token, Self::PipelinedToken, Self::Rest];

    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::PipelinedToken => "pipelined_token",
            Self::Rest => "rest",
        }
    }
}

/// Runs one pass.
pub(super) async fn run(contender: Hubrelay, options: &Options) -> anyhow::Result<Pass> {
    limits::allow_sockets(options.connections)?;
    let progress = options.progress;
    let relay = RunningRelay::start(contender, &options.cores, &RELAY_OPTIONS).await?;
    let mut pass = Pass::new(relay.about().clone());
    let devices: Vec<_> = (0..DEVICES).map(device_id).collect();
    let messages = (0..DEVICES).map(|device| SeedMessage {
        device_id: device_id(device),
        body: Body::new().set(device, 1).to_vec(),
    });
    seed(&relay, messages.collect(), &devices, DEVICES * KEYS).await?;

    for way in Way::ALL {
        let sessions = match way {
            Way::Token | Way::PipelinedToken => options.connections,
            Way::Rest => options.connections.min(REST_SESSIONS_MAX),
        };
        set_up_all(&relay, way, FORERUNNERS.min(sessions), progress).await?;
        everybody_has_left(&relay).await?;
        let before = cpu_time(relay.pid())?;
        let begun = Instant::now();
        let latencies = set_up_all(&relay, way, sessions, progress).await?;
        let elapsed = begun.elapsed();
        let cpu = cpu_time(relay.pid())?.saturating_sub(before);
        add(&mut pass.figures, way, latencies, elapsed, cpu);
        everybody_has_left(&relay).await?;
    }
    relay.stop().await?;
    Ok(pass)
}

/// Sets so many sessions up, keeps them open until the last is there, and lets them go. Returns how long each took.
async fn set_up_all(
    relay: &RunningRelay,
    way: Way,
    sessions: usize,
    progress: Progress,
) -> anyhow::Result<Latencies> {
    let tokens = (0..sessions)
        .map(|place| grant_token::sign(&grants(place)))
        .collect::<Result<Vec<_>, _>>()?;
    let set_up: Vec<_> = stream::iter(tokens.into_iter().enumerate())
        .map(|(place, token)| async move {
            let begun = Instant::now();
            let (client, subscribed) = set_up(relay, way, place, token).await?;
            let latency = begun.elapsed();
            if (place + 1) % 100 == 0 {
                progress.tick(&format!("{} of {sessions} sessions", place + 1));
            }
            ensure!(is_whole(&subscribed), "a snapshot is not whole");
            Ok((client, latency))
        })
        .buffer_unordered(SET_UP_AT_ONCE)
        .try_collect()
        .await?;
    let mut latencies = Latencies::default();
    for (_, latency) in set_up {
        latencies.add(latency);
    }
    Ok(latencies)
}

async fn set_up(
    relay: &RunningRelay,
    way: Way,
    place: usize,
    token: GrantToken,
) -> anyhow::Result<(NativeClient, Subscribed)> {
    let hello = match way {
        Way::Token | Way::PipelinedToken => Hello {
            token: Some(token),
            ..Hello::default()
        },
        Way::Rest => {
            let session = relay.admin.relay().create_session().await?;
            let session_id = session.id().clone();
            for DeviceGrant { device_id, grant } in grants(place) {
                let request = GrantRequest::new(&session_id, DeviceId::from(device_id), grant);
                relay.admin.grant(&request).await?;
            }
            Hello {
                session_id: Some(session_id),
                ..Hello::default()
            }
        }
    };
    let mut client = NativeClient::connect(&relay.authority, Link::Fast).await?;
    client.say_hello(hello).await?;
    if matches!(way, Way::PipelinedToken) {
        client.ask_for(selectors(place)).await?;
        client.hear_hello().await?;
    } else {
        client.hear_hello().await?;
        client.ask_for(selectors(place)).await?;
    }
    let subscribed = NativeClient::subscribed(&client.answer().await?)?;
    Ok((client, subscribed))
}

fn devices(place: usize) -> impl Iterator<Item = String> {
    (0..DEVICES_EACH).map(move |number| device_id((place * DEVICES_EACH + number) % DEVICES))
}

fn grants(place: usize) -> Vec<DeviceGrant> {
    let telemetry = devices(place).flat_map(|device| {
        (0..KEYS_EACH).map(move |key| DeviceGrant::telemetry(device.clone(), Some(&key_name(key))))
    });
    let connection_state = devices(place).take(1).map(|device_id| DeviceGrant {
        device_id,
        grant: Grant::ConnectionState,
    });
    telemetry.chain(connection_state).collect()
}

fn selectors(place: usize) -> Vec<Selector> {
    let telemetry =
        devices(place).map(|device| Selector::telemetry(device, (0..KEYS_EACH).map(key_name)));
    let connection_state = devices(place)
        .take(1)
        .map(|device| Selector::new(DeviceId::from(device), Values::ConnectionState));
    telemetry.chain(connection_state).collect()
}

fn is_whole(subscribed: &Subscribed) -> bool {
    let snapshot = &subscribed.snapshot;
    telemetry_values(snapshot) == DEVICES_EACH * KEYS_EACH
        && snapshot
            .iter()
            .filter(|device| device.connection_state.is_some())
            .count()
            == 1
}

async fn everybody_has_left(relay: &RunningRelay) -> anyhow::Result<()> {
    let begun = Instant::now();
    while relay.metrics().await?.value("hubrelay_push_connections") > 0.0 {
        ensure!(
            begun.elapsed() < LEAVE_LIMIT,
            "the relay still has connections after {LEAVE_LIMIT:?}"
        );
        sleep(LOOK_AGAIN).await;
    }
    sleep(SETTLE).await;
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one run are far below 2^53"
)]
fn add(
    figures: &mut Figures,
    way: Way,
    mut latencies: Latencies,
    elapsed: Duration,
    cpu: Duration,
) {
    let name = |figure: &str| format!("{}_{figure}", way.name());
    let sessions = latencies.len() as f64;
    figures.add(
        name("server_cpu_us_per_session"),
        cpu.as_secs_f64() * 1e6 / sessions,
    );
    figures.add(
        name("sessions_per_server_core_second"),
        sessions / cpu.as_secs_f64(),
    );
    figures.add(name("sessions_per_s"), sessions / elapsed.as_secs_f64());
    figures.count(name("sessions"), latencies.len() as u64);
    for (figure, share) in [("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)] {
        if let Some(latency_ms) = latencies.percentile_ms(share) {
            figures.add(name(figure), latency_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_ten_grants_and_ten_subscriptions() {
        assert_eq!(grants(999).len(), 10);
        let keys = |selector: &Selector| match &selector.values {
            Values::Telemetry { keys, .. } => keys.len(),
            _ => 1,
        };
        assert_eq!(selectors(999).iter().map(keys).sum::<usize>(), 10);
    }
}
