//! The clients: sessions with grants and subscriptions, each with a connection that is followed until the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use admin_client::{AdminClient, SessionClient};
use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use relay_protocol::native::{Hello, Selector};
use relay_protocol::{DeviceId, Grant, GrantRequest, SessionId, Subscription};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use crate::grant_token::{self, DeviceGrant};
use crate::event_message::{Delivery, KEYS, device_id};
use crate::native_client::NativeClient;
use crate::pace::Traffic;
use crate::progress::Progress;
use crate::servers::Servers;
use crate::socket_io_client::SocketIoClient;
use crate::tally::{Follower, Tally};
use crate::transport::Transport;
use crate::updates_frame::UpdatesFrame;

/// Clients that are set up at the same time.
const SET_UP_AT_ONCE: usize = 32;

/// What one client subscribes to.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) devices: Vec<usize>,
    /// Each telemetry key by its name, instead of all by one subscription. The updates are the same, but not shared
    /// with those that asked for all.
    pub(crate) by_key: bool,
}

/// The part of the run in which latencies count, since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) epoch: Instant,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Window {
    /// How long ago something was sent that is received now, if it was sent in the window.
    fn latency(&self, delivery: Delivery) -> Option<Duration> {
        let sent_at = Duration::from_micros(delivery.sent_at_us);
        (self.from..self.to)
            .contains(&sent_at)
            .then(|| self.epoch.elapsed().saturating_sub(sent_at))
    }
}

/// A connected client.
#[derive(Debug)]
enum Client {
    SocketIo(SocketIoClient),
    Native(NativeClient),
}

impl Client {
    /// The next packet or frame that is no ping. As cancel-safe as those of the two.
    async fn next(&mut self) -> anyhow::Result<Utf8Bytes> {
        match self {
            Self::SocketIo(client) => client.next().await,
            Self::Native(client) => client.next().await,
        }
    }
}

/// Connected clients.
#[derive(Debug)]
pub(crate) struct Audience {
    clients: Vec<(Follower, Client)>,
}

impl Audience {
    /// Creates a session for each wish, grants, connects and subscribes it.
    pub(crate) async fn gather(
        servers: &Servers,
        transport: Transport,
        wishes: Vec<Wish>,
        read_buffer_bytes: usize,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let all = wishes.len();
        let clients = stream::iter(wishes)
            .map(|wish| async move {
                match transport {
                    Transport::SocketIo => seat(servers, wish, read_buffer_bytes).await,
                    Transport::Native => seat_native(servers, wish, read_buffer_bytes).await,
                }
            })
            .buffer_unordered(SET_UP_AT_ONCE)
            .enumerate()
            .map(|(place, client)| {
                if (place + 1) % 100 == 0 {
                    progress.tick(&format!("{} of {all} clients", place + 1));
                }
                client
            })
            .try_collect()
            .await?;
        Ok(Self { clients })
    }

    /// Follows every client, each in a task of its own, until told to stop.
    pub(crate) fn follow(self, traffic: &Arc<Traffic>, window: Option<Window>) -> Following {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (follower, client) in self.clients {
            let traffic = Arc::clone(traffic);
            tasks.spawn(follow(follower, client, traffic, window, stop.clone()));
        }
        Following { tasks, stop }
    }
}

/// Clients that are being followed.
#[derive(Debug)]
pub(crate) struct Following {
    tasks: JoinSet<anyhow::Result<Tally>>,
    stop: CancellationToken,
}

impl Following {
    /// Hangs up and adds up what came. Fails when a client lost its connection.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Tally> {
        self.stop.cancel();
        let mut sum = Tally::default();
        while let Some(tally) = self.tasks.join_next().await {
            sum.add(tally.context("a client crashed")??);
        }
        Ok(sum)
    }
}

async fn seat(
    servers: &Servers,
    wish: Wish,
    read_buffer_bytes: usize,
) -> anyhow::Result<(Follower, Client)> {
    let admin = &servers.admin;
    let session = admin.relay().create_session().await?;
    grant(admin, session.id(), &wish).await?;
    let client =
        SocketIoClient::connect(&servers.authority, session.id(), read_buffer_bytes).await?;
    subscribe(&session, &wish).await?;
    Ok((Follower::new(&wish.devices), Client::SocketIo(client)))
}

async fn seat_native(
    servers: &Servers,
    wish: Wish,
    read_buffer_bytes: usize,
) -> anyhow::Result<(Follower, Client)> {
    let devices = || wish.devices.iter().copied().map(device_id);
    let grants: Vec<_> = devices()
        .map(|device| DeviceGrant::telemetry(device, None))
        .collect();
    let hello = Hello {
        token: Some(grant_token::sign(&grants)?),
        ..Hello::default()
    };
    let mut client = NativeClient::open(&servers.authority, hello, read_buffer_bytes).await?;
    let keys: &[&str] = if wish.by_key { &KEYS } else { &[] };
    let selectors = devices().map(|device| Selector::telemetry(device, keys.iter().copied()));
    let subscribed = client.subscribe(selectors.collect()).await?;
    let mut follower = Follower::new(&wish.devices);
    follower.number_from(subscribed.sequence);
    Ok((follower, Client::Native(client)))
}

async fn grant(admin: &AdminClient, session: &SessionId, wish: &Wish) -> anyhow::Result<()> {
    for &device in &wish.devices {
        let device_id = DeviceId::from(device_id(device));
        let request = GrantRequest::new(session, device_id, Grant::every_telemetry_key());
        admin.grant(&request).await?;
    }
    Ok(())
}

async fn subscribe(session: &SessionClient, wish: &Wish) -> anyhow::Result<()> {
    let keys: Vec<Option<String>> = if wish.by_key {
        KEYS.iter().map(|key| Some((*key).to_owned())).collect()
    } else {
        vec![None]
    };
    let wanted: Vec<_> = wish
        .devices
        .iter()
        .flat_map(|&device| {
            keys.iter().map(move |key| {
                let subscription = Subscription::Telemetry {
                    telemetry_key: key.clone(),
                };
                (DeviceId::from(device_id(device)), subscription)
            })
        })
        .collect();
    let wanted_count = wanted.len();
    let applied = session.subscribe_all(wanted).await?;
    anyhow::ensure!(
        applied.len() == wanted_count,
        "a subscription was not granted"
    );
    Ok(())
}

async fn follow(
    mut follower: Follower,
    mut client: Client,
    traffic: Arc<Traffic>,
    window: Option<Window>,
    stop: CancellationToken,
) -> anyhow::Result<Tally> {
    loop {
        let packet = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(follower.into_tally()),
            packet = client.next() => packet?,
        };
        let mut note = |delivery| {
            let accounted = follower.follow(delivery);
            traffic.accounted.fetch_add(accounted, Ordering::Relaxed);
            if let (Some(window), Some(delivery)) = (window, delivery)
                && let Some(latency) = window.latency(delivery)
            {
                follower.latency_us(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
            }
        };
        match &client {
            Client::SocketIo(_) => note(Delivery::parse(&packet)),
            Client::Native(_) => {
                match UpdatesFrame::read(&packet, |delivery| note(Some(delivery))) {
                    Some(frame) => follower.follow_frame(frame),
                    None => note(None),
                }
            }
        }
    }
}
