//! The task of one event stream.
//!
//! What is being written holds up the relay's revocations until it is written, so that nothing follows them. Nothing
//! is taken from the relay while anything is being written.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use relay_protocol::native::{Goodbye, GoodbyeCode, ServerMessage};
use tokio::time::{Instant, sleep_until, timeout};

use super::event::{Event, HEARTBEAT};
use super::query::EventId;
use super::stream::{self, Stream};
use crate::push::ended::ended_messages;
use crate::push::goodbye::{code_of, goodbye};
use crate::push::{BURST, Place, Push, frame};
use crate::relay::{self, Batch, Hold, Next, Resume, Takes};
use crate::telemetry::metrics::TransportKind;

/// Longest time without a byte: many proxies give up a connection after 30 or 60 seconds.
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(15);

/// How long clients wait until they come back after a loss.
const RETRY_MS: u32 = 2_000;

/// The same after a goodbye that says not to: an `EventSource` comes back all the same.
const RETRY_AFTER_GOODBYE_MS: u32 = 60_000;

/// Which connections these are counted among.
const COUNTED_AS: TransportKind = TransportKind::ServerSentEvents;

/// A stream that is about to begin.
#[derive(Debug)]
pub(super) struct Beginning {
    /// The session's connection.
    pub(super) connection: relay::Connection,
    /// Where it begins.
    pub(super) resume: Resume,
    /// The first event.
    pub(super) json: Bytes,
    /// Kept until that is written.
    pub(super) hold: Option<Hold>,
}

/// One stream and all it owns.
#[derive(Debug)]
pub(super) struct Driver {
    push: Push,
    stream: Stream,
    connection: relay::Connection,
    /// Where a client that got all so far may resume.
    resume: Resume,
    /// What the socket has not written yet.
    in_flight: Option<InFlight>,
    /// When the client must have taken more of what is written to it, or gets a sign of life.
    deadline: Instant,
    _place: Place,
}

/// Device values on their way to the client. While it is held, revocations wait.
#[derive(Debug)]
#[expect(dead_code, reason = "held until it is written, which is all it is for")]
enum InFlight {
    Batch(Batch),
    Snapshot(Hold),
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CloseReason {
    /// The client went away.
    Closed,
    /// The client did not read what was written to it.
    WriteTimeout,
    /// A revocation could not wait any longer for a stuck write.
    Cut,
    /// The time for a graceful end is over.
    Stopped,
    /// The client is told that the relay ends the stream.
    Goodbye(GoodbyeCode),
}

impl Driver {
    /// A stream whose first event is on its way.
    pub(super) fn new(push: Push, stream: Stream, beginning: Beginning, place: Place) -> Self {
        let Beginning {
            connection,
            resume,
            json,
            hold,
        } = beginning;
        let mut driver = Self {
            push,
            stream,
            connection,
            resume,
            in_flight: hold.map(InFlight::Snapshot),
            deadline: Instant::now(),
            _place: place,
        };
        driver.send("snapshot", true, Some(RETRY_MS), &json);
        driver
    }

    /// Runs the stream to its end.
    pub(super) async fn run(mut self) {
        let metrics = Arc::clone(&self.push.0.metrics);
        metrics.opened.inc(COUNTED_AS);
        metrics.connections.get(COUNTED_AS).inc();
        let reason = self.serve().await;
        tracing::debug!(
            session.id = ?self.connection.session_id(),
            connection.transport = "sse",
            connection.close_reason = reason.as_str(),
            "a client's connection ends"
        );
        if reason == CloseReason::WriteTimeout {
            metrics.slow_closes.inc();
        }
        self.end(reason).await;
        metrics.connections.get(COUNTED_AS).dec();
    }

    async fn serve(&mut self) -> CloseReason {
        let stop = self.push.0.stop.clone();
        let mut stop = pin!(stop.cancelled());
        let mut timer = pin!(sleep_until(self.deadline));
        // The relay tells those that have a session when the drain begins; this one came after.
        let is_late = self.push.0.drain.is_cancelled();
        loop {
            if self.deadline < timer.deadline() {
                timer.as_mut().reset(self.deadline);
            }
            let is_written = self.stream.is_written();
            let takes = if is_written { BURST } else { Takes::Nothing };
            tokio::select! {
                biased;
                () = stop.as_mut() => return CloseReason::Stopped,
                event = self.stream.event() => match event {
                    stream::Event::Closed => return CloseReason::Closed,
                    stream::Event::Progress => self.deadline = self.write_deadline(),
                    stream::Event::Written => self.on_written(),
                },
                next = self.connection.next(takes) => match next {
                    Next::Updates(batch) => self.send_updates(batch),
                    Next::Ended(ended) => self.send_ended(ended),
                    Next::Disconnect(disconnect) => {
                        return CloseReason::Goodbye(code_of(disconnect));
                    }
                    Next::Cut => return CloseReason::Cut,
                },
                () = timer.as_mut() => {
                    if Instant::now() < self.deadline {
                        timer.as_mut().reset(self.deadline);
                    } else if is_written {
                        self.write(HEARTBEAT);
                    } else {
                        return CloseReason::WriteTimeout;
                    }
                }
            }
            if is_late && self.stream.is_written() {
                return CloseReason::Goodbye(GoodbyeCode::ShuttingDown);
            }
        }
    }

    fn on_written(&mut self) {
        self.in_flight = None;
        let heartbeat = self
            .push
            .0
            .settings
            .ping_interval
            .min(HEARTBEAT_INTERVAL_MAX);
        self.deadline = Instant::now() + heartbeat;
    }

    fn write_deadline(&self) -> Instant {
        Instant::now() + self.push.0.settings.write_timeout
    }

    fn send_updates(&mut self, batch: Batch) {
        let time = self.push.0.relay.unix_ms();
        self.resume.sequence = batch.sequence;
        let mut json = Vec::new();
        let Batch {
            updates,
            sequence,
            skipped,
            ..
        } = &batch;
        frame::push_updates(&mut json, updates, *sequence, *skipped, time);
        self.in_flight = Some(InFlight::Batch(batch));
        self.push.0.metrics.writes.inc();
        self.send("updates", true, None, &json);
    }

    /// One event for each reason, in one write.
    fn send_ended(&mut self, ended: Vec<relay::EndedSubscription>) {
        let mut text = Vec::new();
        for ended in ended_messages(ended) {
            let json = frame::message(&ServerMessage::Ended(ended));
            let event = Event {
                name: "ended",
                id: None,
                retry_ms: None,
                json: &json,
            };
            text.extend_from_slice(&event.text());
            self.push.0.metrics.frames.inc();
        }
        self.write(text.into());
    }

    fn send(&mut self, name: &'static str, has_id: bool, retry_ms: Option<u32>, json: &[u8]) {
        let id = EventId {
            session: self.connection.session_id(),
            resume: self.resume,
        };
        let event = Event {
            name,
            id: has_id.then_some(id),
            retry_ms,
            json,
        };
        self.push.0.metrics.frames.inc();
        self.write(event.text());
    }

    fn write(&mut self, text: Bytes) {
        self.push.0.metrics.bytes.inc_by(text.len() as u64);
        self.stream.write(text);
        self.deadline = self.write_deadline();
    }

    /// Ends the stream. For the relay the end of the session's side is the end of its writes as well, so what is on its
    /// way is waited for or kept back first.
    async fn end(mut self, reason: CloseReason) {
        let close_timeout = self.push.0.settings.close_timeout;
        let CloseReason::Goodbye(code) = reason else {
            let _ = timeout(close_timeout, self.stream.abort()).await;
            drop(self.in_flight);
            self.connection.close().await;
            return;
        };
        let last_word = goodbye(code);
        let stop = self.push.0.stop.clone();
        let write = async {
            self.send_goodbye(last_word);
            self.stream.written().await
        };
        let is_written = tokio::select! {
            () = stop.cancelled() => false,
            written = timeout(close_timeout, write) => written.unwrap_or(false),
        };
        if !is_written {
            let _ = timeout(close_timeout, self.stream.abort()).await;
        }
        self.connection.close().await;
    }

    fn send_goodbye(&mut self, last_word: Goodbye) {
        let retry_ms = (!last_word.reconnect).then_some(RETRY_AFTER_GOODBYE_MS);
        let json = frame::message(&ServerMessage::Goodbye(last_word));
        self.send("goodbye", false, retry_ms, &json);
    }
}

impl CloseReason {
    /// The reason as a word for logs.
    fn as_str(&self) -> &str {
        match self {
            Self::Closed => "closedByClient",
            Self::WriteTimeout => "writeTimeout",
            Self::Cut => "cut",
            Self::Stopped => "stopped",
            Self::Goodbye(code) => code.as_str(),
        }
    }
}
