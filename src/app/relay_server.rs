//! The relay with all its edges: one HTTP listener, the push transports, the REST API and a source of device messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::origin;
use crate::clock::{SharedClock, SystemClock, whole_ms};
use crate::config::{Config, DeviceTwinCache, IotHubApi};
use crate::domain::limits::{OutboxLimits, SessionLimits, ShardLimits};
use crate::domain::shard::{ShardSettings, TwinCache};
use crate::grant_token::GrantTokens;
use crate::http::{self, Server};
use crate::ingest::Status;
use crate::ingest::event_hubs::{Consumer, Timing};
use crate::iot_hub::IotHub;
use crate::lifecycle::Lifecycle;
use crate::push::{self, Push};
use crate::relay::{ReadTwin, Relay, Settings};
use crate::telemetry::metrics::IngestMetrics;
use crate::telemetry::{LogFilter, Metrics};
use crate::{api, ingest};

/// How long a revocation waits for a write that is under way.
const WRITE_WAIT: Duration = Duration::from_secs(2);

/// The relay, bound to its address but not started.
pub(super) struct RelayServer {
    config: Arc<Config>,
    server: Server,
    metrics: Metrics,
    log_filter: LogFilter,
    clock: SharedClock,
    iot_hub: Option<IotHub>,
}

impl RelayServer {
    pub(super) fn bind(config: Arc<Config>, log_filter: LogFilter) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let clock = SystemClock::shared();
        let iot_hub = IotHub::from_config(&config, clock.clone(), &metrics)
            .context("cannot set up TLS for the IoT hub")?;
        let limits = http::Limits::from_config(&config);
        let server = Server::bind(
            config.listen,
            config.tls.as_ref(),
            limits,
            metrics.api.clone(),
        )?;
        let bound = Self {
            config,
            server,
            metrics,
            log_filter,
            clock,
            iot_hub,
        };
        info!(listen.address = %bound.server.local_addr(), listen.url = bound.url(), "listening");
        Ok(bound)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Where clients on this machine reach the relay.
    pub(super) fn url(&self) -> String {
        let scheme = if self.config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        origin(scheme, self.server.local_addr())
    }

    /// Starts every part. `source` starts what device messages come from; `beside` makes further routes of the same
    /// listener, and is given the REST API to call in-process.
    pub(super) fn start(
        self,
        lifecycle: &Lifecycle,
        source: impl FnOnce(Intake, &Lifecycle),
        beside: impl FnOnce(Router) -> Router,
    ) {
        let Self {
            config,
            server,
            metrics,
            log_filter,
            clock,
            iot_hub,
        } = self;
        let relay = Relay::start(
            relay_settings(&config),
            clock.clone(),
            &metrics,
            lifecycle,
            (iot_hub.clone()).map(|hub| Arc::new(hub) as Arc<dyn ReadTwin>),
        );
        let grant_tokens = GrantTokens::start(&config, clock.clone(), &metrics, lifecycle);
        let status = Status::new();
        if let IotHubApi::Malformed(_) = config.iot_hub {
            status.malformed(ingest::Malformed::IotHub);
        }
        let intake = Intake {
            config: config.clone(),
            relay: relay.clone(),
            status: status.clone(),
            metrics: metrics.ingest.clone(),
            clock: clock.clone(),
        };
        source(intake, lifecycle);

        let push_metrics = metrics.push.clone();
        let state = api::State::new(
            relay.clone(),
            iot_hub.clone(),
            grant_tokens.clone(),
            config.clone(),
            metrics,
            log_filter,
            status,
            clock,
        );
        let push = Push::new(
            relay.clone(),
            grant_tokens,
            state.session_rate(),
            push::Settings::from_config(&config),
            push_metrics,
        );
        let api = api::router(state.clone(), Router::new());
        let events = push::events_router(push.clone(), config.admin_keys.clone());
        let beside = push::router(push.clone()).merge(events).merge(beside(api));
        let router = api::router(state, beside);
        let (server_stop, server_ended) = (CancellationToken::new(), CancellationToken::new());
        let (stop, ended) = (server_stop.clone(), server_ended.clone().drop_guard());
        lifecycle.spawn("http server", async move {
            server.run(router, stop).await;
            drop(ended);
            Ok::<_, Infallible>(())
        });

        let stop = lifecycle.stop.clone();
        lifecycle.spawn("drain", async move {
            stop.cancelled().await;
            // Long-polling clients hear of it over the listener, and running requests need the shards.
            push.shut_down(config.shutdown_grace / 3).await;
            server_stop.cancel();
            server_ended.cancelled().await;
            // What is still under way has lost its callers.
            if let Some(hub) = iot_hub {
                hub.stop().await;
            }
            relay.stop().await;
            Ok::<_, Infallible>(())
        });
    }
}

/// What a source of device messages is given: the relay that takes them, and whom to tell how it goes.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The configuration that the relay runs with.
    pub config: Arc<Config>,
    /// Takes device messages, in batches.
    pub relay: Relay,
    /// Told whether the source is being read.
    pub status: Status,
    /// What is counted of the source.
    pub metrics: Arc<IngestMetrics>,
    /// Wall time, for messages without a time.
    pub clock: SharedClock,
}

/// Starts to read the event hub of the configuration.
pub(super) fn consume_event_hub(intake: Intake, lifecycle: &Lifecycle) {
    let hub_config = &intake.config.event_hub;
    let Ok(hub) = &hub_config.connection_string else {
        intake.status.malformed(ingest::Malformed::EventHub);
        return;
    };
    let consumer = Consumer {
        hub: hub.clone(),
        consumer_group: hub_config.consumer_group.clone(),
        transport: hub_config.transport,
        start: hub_config.start,
        decoding: intake.config.decoding.clone(),
        timing: Timing::default(),
        sink: intake.relay,
        status: intake.status,
        metrics: intake.metrics,
        clock: intake.clock,
    };
    lifecycle.spawn("event hub consumer", consumer.run(lifecycle.stop.clone()));
}

fn relay_settings(config: &Config) -> Settings {
    let limits = &config.limits;
    let shards = config.shards.get();
    Settings {
        shards,
        shard: ShardSettings {
            limits: ShardLimits {
                devices_max: limits.devices_max.div_ceil(shards),
                keys_per_device_max: limits.keys_per_device_max,
            },
            throttling_interval_ms: config.throttling_interval.map(whole_ms),
            connection_state_ttl_ms: config.connection_state_ttl.map(whole_ms),
            twin_cache: match config.device_twin_cache {
                DeviceTwinCache::Off => TwinCache::Off,
                DeviceTwinCache::For(ttl) => TwinCache::ForMs(whole_ms(ttl)),
                DeviceTwinCache::Forever => TwinCache::Forever,
            },
            reads_twins: true,
            // With a custom key telemetry alone says whether a device is connected.
            reads_connection_states: config.decoding.custom_connection_state_key.is_none(),
        },
        session_limits: SessionLimits {
            grants_max: limits.grants_per_session_max,
            subscriptions_max: limits.subscriptions_per_session_max,
        },
        outbox_limits: OutboxLimits {
            frames_max: config.push.outbox_frames_max,
            bytes_max: config.push.outbox_bytes_max,
            replay_frames_max: config.push.replay_frames_max,
            replay_bytes_max: config.push.replay_bytes_max,
        },
        sessions_max: limits.sessions_max,
        unbound_sessions_max: limits.unbound_sessions_max,
        write_wait: WRITE_WAIT,
        resume_window_ms: whole_ms(config.push.resume_window),
        snapshot_bytes_max: config.push.snapshot_bytes_max,
    }
}
