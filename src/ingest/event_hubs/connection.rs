//! One connection to an event hub, from the socket to its loss.
//!
//! ```text
//! socket ──► AMQP open ──► put-token ──► management reads ──► one reader for each partition
//!                              ▲                 ▲                        │
//!                              └── renewal ──────┴── watch ───── running ─┴─► lost
//! ```

use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Session};
use fe2o3_amqp_types::primitives::Value;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::error::{self, Error};
use super::management::Management;
use super::partition::Reader;
use super::progress::{PartitionProgress, Progress};
use super::request::RequestLinks;
use super::token::Token;
use super::{Context, transport, within};
use crate::ingest::Sink;
use crate::lifecycle::panic_message;

/// As the Azure SDKs ask for; the peer sends something at least twice as often.
const IDLE_TIME_OUT_MS: u32 = 60_000;

/// As the service itself offers.
const FRAME_BYTES_MAX: u32 = 65_536;

/// How long a peer may take to answer a close before the socket is just dropped.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Reads the event hub until told to stop (`Ok`) or until the connection is of no more use.
pub(super) async fn run<S: Sink>(
    context: Arc<Context<S>>,
    progress: Arc<Mutex<Progress>>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut connection = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        opened = open(&context) => opened?,
    };
    let readers_stop = stop.child_token();
    let mut readers = JoinSet::new();
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = drive(&context, &progress, &mut connection, &mut readers, &readers_stop) => ended,
    };
    if ended.is_err() {
        context.status.lose();
    }
    readers_stop.cancel();
    while readers.join_next().await.is_some() {}
    let closed = tokio::time::timeout(CLOSE_LIMIT, connection.close()).await;
    debug!(
        in_order = matches!(closed, Ok(Ok(()))),
        "closed the connection to the event hub"
    );
    ended
}

async fn open<S>(context: &Context<S>) -> Result<ConnectionHandle<()>, Error> {
    let limit = context.timing.operation_limit;
    let connect = transport::connect(&context.hub, context.transport);
    let stream = within("connecting", limit, connect).await?;
    let open = Connection::builder()
        .container_id(format!("hubrelay-{}", Uuid::new_v4()))
        .hostname(context.hub.host.as_str())
        .max_frame_size(FRAME_BYTES_MAX)
        .idle_time_out(IDLE_TIME_OUT_MS)
        .sasl_profile(SaslProfile::Anonymous)
        .open_with_stream(stream);
    let open = async { open.await.map_err(error::open) };
    Box::pin(within("opening the AMQP connection", limit, open)).await
}

/// Never returns without an error: the connection runs until something ends it.
async fn drive<S: Sink>(
    context: &Arc<Context<S>>,
    progress: &Mutex<Progress>,
    connection: &mut ConnectionHandle<()>,
    readers: &mut JoinSet<Result<(), Error>>,
    readers_stop: &CancellationToken,
) -> Result<(), Error> {
    let mut claims_session = begin(context, connection).await?;
    let mut token = put_token(context, &mut claims_session).await?;
    let mut management_session = begin(context, connection).await?;
    let attach = Management::attach(&mut management_session, &context.hub.event_hub);
    let mut management = within(
        "attaching the management links",
        context.timing.operation_limit,
        attach,
    )
    .await?;
    let partitions = locate(context, progress, &mut management, &token).await?;

    let attachment = Arc::new(Notify::new());
    for (partition, progress) in &partitions {
        let reader = Reader {
            context: Arc::clone(context),
            partition: partition.clone(),
            progress: Arc::clone(progress),
            session: begin(context, connection).await?,
            attachment: Arc::clone(&attachment),
            stop: readers_stop.clone(),
        };
        readers.spawn(reader.run());
    }
    info!(
        event_hub.host = %context.hub.host,
        event_hub.name = %context.hub.event_hub,
        event_hub.consumer_group = %context.consumer_group,
        event_hub.partitions = partitions.len(),
        "connected to the event hub"
    );

    let mut watch = tokio::time::interval(context.timing.watch_interval);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    watch.reset();
    let mut renewal = renewal_time(context, &token);
    loop {
        tokio::select! {
            Some(ended) = readers.join_next() => {
                ended.unwrap_or_else(|error| Err(panicked(error)))?;
                return Err(Error::failed("reading a partition", &"its reader ended"));
            }
            () = attachment.notified() => judge(context, &partitions),
            () = tokio::time::sleep_until(renewal) => {
                token = put_token(context, &mut claims_session).await?;
                context.metrics.token_renewals.inc();
                renewal = renewal_time(context, &token);
            }
            _ = watch.tick() => look(context, &mut management, &token, &partitions).await?,
        }
    }
}

async fn begin<S>(
    context: &Context<S>,
    connection: &mut ConnectionHandle<()>,
) -> Result<SessionHandle<()>, Error> {
    let begin = async { Session::begin(connection).await.map_err(error::begin) };
    within(
        "beginning an AMQP session",
        context.timing.operation_limit,
        begin,
    )
    .await
}

/// Puts a token for the hub and for the consumer group. The links are closed again: the service cuts idle ones, and
/// allows one pair to a connection.
async fn put_token<S>(
    context: &Context<S>,
    session: &mut SessionHandle<()>,
) -> Result<Token, Error> {
    const DOING: &str = "presenting a token";
    let hub = format!("sb://{}/{}", context.hub.host, context.hub.event_hub);
    let group = format!("{hub}/ConsumerGroups/{}", context.consumer_group);
    let now = context.clock.unix_ms();
    let token = Token::issue(
        &context.hub.credential,
        &hub,
        now,
        context.timing.token_lifetime,
    );
    let put = async {
        let mut links = RequestLinks::attach(session, "$cbs", DOING).await?;
        for audience in [&hub, &group] {
            let properties = [
                ("operation", "put-token"),
                ("type", "servicebus.windows.net:sastoken"),
                ("name", audience.as_str()),
            ];
            let body = Value::String(token.text.expose().to_owned());
            links.request(&properties, body).await?;
        }
        links.close().await
    };
    within(DOING, context.timing.operation_limit, put).await?;
    Ok(token)
}

/// When three quarters of the token's life are over; never for a given token, which cannot be renewed.
fn renewal_time<S>(context: &Context<S>, token: &Token) -> Instant {
    const NEVER: Duration = Duration::from_hours(365 * 24);
    let wait = match token.expires_unix_s {
        Some(expires) if context.hub.credential.is_renewable() => {
            let left_ms = expires
                .saturating_mul(1000)
                .saturating_sub(context.clock.unix_ms());
            Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)) * 3 / 4
        }
        _ => NEVER,
    };
    Instant::now() + wait.min(NEVER)
}

/// Finds the partitions and where to go on in each.
async fn locate<S>(
    context: &Context<S>,
    progress: &Mutex<Progress>,
    management: &mut Management,
    token: &Token,
) -> Result<Vec<(String, Arc<PartitionProgress>)>, Error> {
    const DOING: &str = "reading the event hub's properties";
    let limit = context.timing.operation_limit;
    let hub = within(DOING, limit, management.hub(token.text.expose())).await?;
    let mut last_enqueued = Vec::with_capacity(hub.partition_ids.len());
    for partition in hub.partition_ids {
        let read = management.last_enqueued(&partition, token.text.expose());
        let last = within(DOING, limit, read).await?;
        last_enqueued.push((partition, last));
    }
    Ok(progress
        .lock()
        .resume(hub.created_at_unix_ms, &last_enqueued))
}

/// Compares what the hub holds with what was received: a link that is silent although there is more is given up.
async fn look<S>(
    context: &Context<S>,
    management: &mut Management,
    token: &Token,
    partitions: &[(String, Arc<PartitionProgress>)],
) -> Result<(), Error> {
    const DOING: &str = "watching the event hub";
    for (partition, progress) in partitions {
        let read = management.last_enqueued(partition, token.text.expose());
        let last_enqueued = match within(DOING, context.timing.watch_limit, read).await {
            Ok(last_enqueued) => last_enqueued,
            Err(error @ Error::Refused { .. }) => {
                warn!(partition.id = %partition, error.message = %error, "could not watch the partition: {}", error.advice());
                // The hub is there, but says nothing more for now.
                judge(context, partitions);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let position = progress.position();
        let lag = last_enqueued.saturating_sub(position).max(0);
        context.metrics.lag_messages.get(partition).set(lag);
        if progress.is_silent(last_enqueued, context.timing.silence_max) {
            context.metrics.stalled_links.inc();
            return Err(Error::Silent {
                partition: partition.clone(),
                last_enqueued,
                position,
            });
        }
        judge(context, partitions);
    }
    Ok(())
}

/// The source is there when every partition is. That one was lost is told by its reader.
fn judge<S>(context: &Context<S>, partitions: &[(String, Arc<PartitionProgress>)]) {
    if partitions
        .iter()
        .all(|(_, progress)| progress.is_attached())
    {
        context.status.confirm();
    }
}

pub(super) fn panicked(error: JoinError) -> Error {
    Error::Panicked(match error.try_into_panic() {
        Ok(panic) => panic_message(panic.as_ref()),
        Err(error) => error.to_string(),
    })
}
