//! Reads an event hub over AMQP 1.0: all partitions, one consumer group.
//!
//! The AMQP library runs on a thread of its own with a single-threaded runtime: it is faster there than on a shared
//! one, and whatever it does, the rest of the relay goes on. Every wait for the hub has a limit; whatever goes wrong
//! ends in a new connection that goes on after the last event handed over.

mod backoff;
mod connection;
mod error;
mod event;
mod management;
mod partition;
mod progress;
mod request;
#[cfg(test)]
mod tests;
mod token;
mod transport;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::backoff::Backoff;
use self::error::Error;
use self::progress::Progress;
use super::{Sink, Status};
use crate::clock::{SharedClock, whole_ms};
use crate::config::connection_string::EventHubConnectionString;
use crate::config::{DecodingConfig, EventHubStart, EventHubTransport};
use crate::telemetry::metrics::IngestMetrics;

/// A connection that held this long was a success: the next loss is met with the shortest wait again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Stack of the thread, of which only what is used takes memory. The AMQP library decodes nested values by recursion,
/// at about 400 bytes of stack for a byte of input, and a sender may nest an annotation as deep as an event is long: 1
/// MiB.
const STACK_BYTES: usize = 512 * 1024 * 1024;

/// Limits and intervals of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Longest wait for the hub to do one thing: connect, attach, answer.
    pub operation_limit: Duration,
    /// Time between two looks at what the partitions hold.
    pub watch_interval: Duration,
    /// Longest wait for one answer during such a look. With the interval it bounds how long a dead peer goes unnoticed.
    pub watch_limit: Duration,
    /// How long a link may stay silent while its partition has newer events.
    pub silence_max: Duration,
    /// Life of the tokens that are signed here; renewed after three quarters of it.
    pub token_lifetime: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            operation_limit: Duration::from_secs(15),
            watch_interval: Duration::from_secs(5),
            watch_limit: Duration::from_secs(5),
            silence_max: Duration::from_secs(10),
            token_lifetime: Duration::from_hours(1),
        }
    }
}

/// A consumer of one event hub.
#[derive(Clone, Debug)]
pub struct Consumer<S> {
    /// Where the event hub is.
    pub hub: EventHubConnectionString,
    /// The consumer group to read with.
    pub consumer_group: String,
    /// How AMQP is carried.
    pub transport: EventHubTransport,
    /// Where reading starts.
    pub start: EventHubStart,
    /// How events are understood.
    pub decoding: DecodingConfig,
    /// Limits and intervals.
    pub timing: Timing,
    /// Where device messages go.
    pub sink: S,
    /// Told how the source is.
    pub status: Status,
    /// What is counted.
    pub metrics: Arc<IngestMetrics>,
    /// Wall time, for messages without a time and for tokens.
    pub clock: SharedClock,
}

/// What every part of a consumer needs.
type Context<S> = Consumer<S>;

impl<S: Sink> Consumer<S> {
    /// Reads until `stop` is cancelled; a lost source is tried again for ever. A batch that was begun is handed over
    /// first.
    ///
    /// # Errors
    ///
    /// Only when there can be no thread to read on, or when it panicked.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let stop = stop.child_token();
        let _stop_when_dropped = stop.clone().drop_guard();
        let (ending, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("event-hubs".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let _ending = ending;
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(supervise(Arc::new(self), stop));
                io::Result::Ok(())
            })?;
        // The sender is dropped when the thread ends, in whatever way.
        let _ = ended.await;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the event hub thread panicked")))
    }
}

async fn supervise<S: Sink>(context: Arc<Context<S>>, stop: CancellationToken) {
    let progress = Arc::new(Mutex::new(Progress::new(context.start)));
    let mut backoff = Backoff::new();
    loop {
        let begun = Instant::now();
        let run = connection::run(Arc::clone(&context), Arc::clone(&progress), stop.clone());
        let ended = tokio::spawn(run).await;
        let lost = match ended.unwrap_or_else(|error| Err(connection::panicked(error))) {
            Ok(()) => return,
            Err(lost) => lost,
        };
        context.status.lose();
        if begun.elapsed() >= HEALTHY_AFTER {
            backoff.reset();
        }
        let wait = backoff.next();
        let retry_ms = whole_ms(wait);
        if matches!(lost, Error::Panicked(_)) {
            error!(error.message = %lost, retry.wait_ms = retry_ms, "the connection to the event hub crashed");
        } else {
            warn!(error.message = %lost, retry.wait_ms = retry_ms, "the event hub cannot be read: {}", lost.advice());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        context.metrics.reconnects.inc();
    }
}

/// Bounds a wait for the hub.
async fn within<T>(
    doing: &'static str,
    limit: Duration,
    operation: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, operation)
        .await
        .unwrap_or(Err(Error::TimedOut { doing, limit }))
}
