//! Everybody comes back at once, as after a restart: ten thousand clients, each with a new session, its grants in one
//! token, its subscriptions in one request, the last values of what it shows, and its socket.
//!
//! Over Socket.IO last values are asked for device by device, as clients of ux4iot do; the native protocol brings them
//! with the subscriptions. Servers without sessions have only the subscriptions to restore. So many set up at once that
//! the server always has work. At the end one message of each device proves that everybody is served.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Options, roll_call, steady};
use crate::audience::Audience;
use crate::contender::hubrelay::socket_io::{SocketIoDelivery, subscriptions};
use crate::contender::hubrelay::{Hubrelay, RunningRelay, Transport};
use crate::contender::{Contender, Role, Running, Subscriber, Wish};
use crate::generator::Receiver;
use crate::grant_token;
use crate::limits;
use crate::message::{Body, KEYS, device_id, key_name};
use crate::process_usage::{cpu_time, cpu_time_of};
use crate::progress::Progress;
use crate::report::Pass;
use crate::seed::{SeedMessage, seed};
use crate::websocket_client::Link;

const DEVICES: usize = 1000;
const DEVICES_EACH: usize = 4;

/// Clients that are set up at the same time.
const AT_ONCE: usize = 256;

/// Runs one pass of a contender.
pub(super) async fn run(contender: &dyn Contender, options: &Options) -> anyhow::Result<Pass> {
    let audience = Audience::dashboards(DEVICES, options.connections, DEVICES_EACH, false);
    if let Role::Hubrelay(hubrelay) = contender.role() {
        return hubrelay_storm(hubrelay, &audience, options).await;
    }
    let (server, mut pass) = steady::start(&audience, contender, options).await?;
    storm(server.as_ref(), None, &audience, options, &mut pass).await?;
    server.stop().await?;
    Ok(pass)
}

/// hubrelay has last values to restore, too.
async fn hubrelay_storm(
    hubrelay: Hubrelay,
    audience: &Audience,
    options: &Options,
) -> anyhow::Result<Pass> {
    limits::allow_sockets(audience.wishes.len())?;
    let relay = RunningRelay::start(hubrelay, &options.cores, &[]).await?;
    let devices: Vec<_> = (0..DEVICES).map(device_id).collect();
    let messages = (0..DEVICES).map(|device| SeedMessage {
        device_id: device_id(device),
        body: Body::new().set(device, 0).to_vec(),
    });
    seed(&relay, messages.collect(), &devices, DEVICES * KEYS).await?;
    let mut pass = Pass::new(relay.about().clone());
    let sessions_by_rest = (hubrelay.transport == Transport::SocketIo).then_some(&relay);
    storm(&relay, sessions_by_rest, audience, options, &mut pass).await?;
    relay.stop().await?;
    Ok(pass)
}

async fn storm(
    server: &dyn Running,
    sessions_by_rest: Option<&RunningRelay>,
    audience: &Audience,
    options: &Options,
    pass: &mut Pass,
) -> anyhow::Result<()> {
    let before = Before::now(server)?;
    let restored = restore(
        audience,
        options.progress,
        async |wishes| match sessions_by_rest {
            Some(relay) => restore_session(relay, wishes).await,
            None => server.subscriber(wishes, Link::Fast).await,
        },
    )
    .await?;
    before.add_to(pass, server, audience.wishes.len())?;
    let receivers = receivers(restored, audience, server)?;
    let mut generator = roll_call::listen(server, audience, receivers, options).await?;
    roll_call::call(server, audience, &mut generator, options, pass).await
}

async fn restore_session(relay: &RunningRelay, wishes: &[Wish]) -> anyhow::Result<Subscriber> {
    let token = grant_token::for_wishes(wishes)?;
    let session = relay
        .admin
        .relay()
        .create_session_with_token(token.as_str())
        .await?;
    let wanted: Vec<_> = subscriptions(wishes).collect();
    let applied = session.subscribe_all(wanted).await?;
    ensure!(
        applied.len() == wishes.len(),
        "a subscription was not granted"
    );
    for wish in wishes {
        let key = wish.key.map_or_else(|| key_name(0), key_name);
        let device = relay_protocol::DeviceId::from(device_id(wish.device));
        session.last_value(device, &key).await?;
    }
    SocketIoDelivery::open(&relay.authority, session.id(), Link::Fast).await
}

/// Sets everybody up, many at a time, and keeps them.
async fn restore(
    audience: &Audience,
    progress: Progress,
    set_up: impl AsyncFn(&[Wish]) -> anyhow::Result<Subscriber>,
) -> anyhow::Result<Vec<Subscriber>> {
    let all = audience.wishes.len();
    let set_up = &set_up;
    let mut restored = 0;
    stream::iter(&audience.wishes)
        .map(|wishes| async move { set_up(wishes).await })
        .buffered(AT_ONCE)
        .inspect(|_| {
            restored += 1;
            if restored % 100 == 0 {
                progress.tick(&format!("{restored} of {all} clients"));
            }
        })
        .try_collect()
        .await
}

fn receivers(
    restored: Vec<Subscriber>,
    audience: &Audience,
    server: &dyn Running,
) -> anyhow::Result<Vec<Receiver>> {
    restored
        .into_iter()
        .zip(&audience.wishes)
        .map(|(subscriber, wishes)| Receiver::new(subscriber, wishes, server.selects_keys()))
        .collect()
}

/// What was known before everybody came.
struct Before {
    at: Instant,
    server_cpu: Duration,
    generator_cpu: Duration,
}

impl Before {
    fn now(server: &dyn Running) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server_cpu: cpu_time_of(&server.pids())?,
            generator_cpu: cpu_time(std::process::id())?,
        })
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of one run are far below 2^53"
    )]
    fn add_to(self, pass: &mut Pass, server: &dyn Running, clients: usize) -> anyhow::Result<()> {
        let after = Self::now(server)?;
        let elapsed_s = (after.at - self.at).as_secs_f64();
        let used_s = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let server_s = used_s(self.server_cpu, after.server_cpu);
        let generator_s = used_s(self.generator_cpu, after.generator_cpu);
        for (name, value) in [
            ("restored_s", elapsed_s),
            ("sessions_per_s", clients as f64 / elapsed_s),
            ("server_cpu_us_per_session", server_s * 1e6 / clients as f64),
            ("server_cores", server_s / elapsed_s),
            ("generator_cores", generator_s / elapsed_s),
        ] {
            pass.figures.add(name, value);
        }
        pass.figures.count("sessions", clients as u64);
        Ok(())
    }
}
