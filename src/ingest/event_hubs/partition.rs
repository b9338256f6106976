//! Reads one partition: attach, receive, decode, hand over, grant credit; and attach again when only the link was lost.
//!
//! Credit is granted for what the sink has taken, so a sink that is behind stops the hub after one prefetch. A batch
//! that was begun is always handed over whole: the reader looks at its stop token only between batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fe2o3_amqp::Receiver;
use fe2o3_amqp::link::delivery::{Delivery, DeliveryInfo};
use fe2o3_amqp::link::{CreditMode, RecvError};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp_types::definitions::SenderSettleMode;
use fe2o3_amqp_types::messaging::{Body, Message, Source};
use fe2o3_amqp_types::primitives::{LazyValue, Symbol, Value};
use futures_util::FutureExt;
use prometheus_client::metrics::gauge::Gauge;
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::backoff::Backoff;
use super::error::{self, Error, READING};
use super::progress::{BEGINNING, PartitionProgress};
use super::{Context, event, within};
use crate::clock::whole_ms;
use crate::domain::device_message::DeviceMessage;
use crate::ingest::Sink;
use crate::ingest::decode::{Decoder, DropReason, Event, Tally};
use crate::telemetry::metrics::{IngestMetrics, MessageClass, MessageDrop};

/// Events that the hub may send ahead.
const PREFETCH: u32 = 2000;

/// Room for all sections of an event beside its body.
const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// Bounds of one batch. What was received already is taken, nothing is waited for.
const BATCH_EVENTS_MAX: usize = 1000;
const BATCH_BODY_BYTES_MAX: usize = 1024 * 1024;

/// A link that held this long was no accident.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Shortest time between two log lines about missing events of one partition.
const MISSING_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Reads a partition until told to stop.
pub(super) struct Reader<S> {
    pub(super) context: Arc<Context<S>>,
    pub(super) partition: String,
    pub(super) progress: Arc<PartitionProgress>,
    pub(super) session: SessionHandle<()>,
    /// Told when the link is attached or lost.
    pub(super) attachment: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl<S: Sink> Reader<S> {
    /// Returns when told to stop, or with the error that makes a new connection necessary.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut backoff = Backoff::new();
        loop {
            let begun = Instant::now();
            let ended = self.attach_and_read().await;
            self.note_attached(false);
            let Err(error) = ended else { return Ok(()) };
            if matches!(error, Error::EventTooLarge) {
                self.pass_over_next();
                continue;
            }
            if !error.concerns_link_only() {
                return Err(error);
            }
            self.context.status.lose();
            if begun.elapsed() >= HEALTHY_AFTER {
                backoff.reset();
            }
            let wait = backoff.next();
            warn!(
                partition.id = %self.partition,
                event_hub.consumer_group = %self.context.consumer_group,
                error.message = %error,
                retry.wait_ms = whole_ms(wait),
                "lost the link to a partition: {}",
                error.advice()
            );
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn attach_and_read(&mut self) -> Result<(), Error> {
        let attach = attach(
            &mut self.session,
            source_address(&self.context, &self.partition),
            self.progress.position(),
            self.context.decoding.message_bytes_max,
        );
        let receiver = within(READING, self.context.timing.operation_limit, attach).await?;
        self.note_attached(true);
        debug!(partition.id = %self.partition, partition.position = self.progress.position(), "attached to a partition");
        let batch = Batch::new(&self.context, &self.partition);
        self.receive(receiver, batch).await
    }

    async fn receive(&self, mut receiver: Receiver, mut batch: Batch) -> Result<(), Error> {
        loop {
            self.progress.wait_begins();
            let first = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                delivery = receiver.recv() => delivery,
            };
            self.progress.wait_ends();
            batch.begin(self.progress.position(), self.context.clock.unix_ms());
            let mut next = Some(first);
            let mut failure = None;
            while let Some(delivery) = next {
                failure = batch.add(delivery);
                next = if failure.is_some() || batch.is_full() {
                    None
                } else {
                    receiver.recv().now_or_never()
                };
            }
            batch.count(&self.context.metrics);
            if !batch.messages.is_empty() {
                let messages = std::mem::take(&mut batch.messages);
                self.context.sink.ingest(messages).await;
            }
            self.progress.advance(batch.position);
            if let Some(failure) = failure {
                return Err(error::receive(READING, failure));
            }
            // Event Hubs sends settled; then this costs no frame and only counts towards the credit.
            let accept = receiver.accept_all(std::mem::take(&mut batch.deliveries));
            let accepted = async { accept.await.map_err(|error| Error::failed(READING, &error)) };
            within(READING, self.context.timing.operation_limit, accepted).await?;
        }
    }

    /// An event over the size limit costs the link, and would again: the next attach begins behind it. Numbers have no
    /// gaps, so it is the one after the last that arrived.
    fn pass_over_next(&self) {
        let sequence = self.progress.position() + 1;
        warn!(partition.id = %self.partition, event.sequence_number = sequence, "passed over an event that is too large");
        self.progress.advance(sequence);
        self.context.metrics.dropped.inc(MessageDrop::TooLarge);
    }

    fn note_attached(&self, attached: bool) {
        if self.progress.is_attached() != attached {
            let connected = &self.context.metrics.connected;
            if attached {
                connected.inc();
            } else {
                connected.dec();
            }
        }
        self.progress.set_attached(attached);
        self.attachment.notify_one();
    }
}

/// What was received at once, on its way to the sink.
struct Batch {
    decoder: Decoder,
    messages: Vec<DeviceMessage>,
    deliveries: Vec<DeliveryInfo>,
    position: i64,
    consumed_unix_ms: i64,
    body_bytes: usize,
    malformed: u64,
    /// Events that the hub gave up before they were read.
    missing: u64,
    missing_unlogged: u64,
    missing_logged_at: Option<Instant>,
    last_sequence: Gauge,
    partition: String,
}

impl Batch {
    fn new<S>(context: &Context<S>, partition: &str) -> Self {
        Self {
            decoder: Decoder::new(context.decoding.clone()),
            messages: Vec::new(),
            deliveries: Vec::new(),
            position: BEGINNING,
            consumed_unix_ms: 0,
            body_bytes: 0,
            malformed: 0,
            missing: 0,
            missing_unlogged: 0,
            missing_logged_at: None,
            last_sequence: context.metrics.last_sequence.get(partition),
            partition: partition.to_owned(),
        }
    }

    fn begin(&mut self, position: i64, consumed_unix_ms: i64) {
        self.position = position;
        self.consumed_unix_ms = consumed_unix_ms;
        self.body_bytes = 0;
    }

    fn is_full(&self) -> bool {
        self.deliveries.len() >= BATCH_EVENTS_MAX || self.body_bytes >= BATCH_BODY_BYTES_MAX
    }

    /// Takes one delivery in; returns the error that ends the link.
    fn add(&mut self, delivery: Result<Delivery<Body<LazyValue>>, RecvError>) -> Option<RecvError> {
        match delivery {
            Ok(delivery) => {
                let (info, message) = delivery.into_parts();
                self.deliveries.push(info);
                self.decode(&message);
                None
            }
            // One event that is no AMQP message does not stop those behind it. Numbers have no gaps, so its own is the
            // next.
            Err(RecvError::MessageDecode(undecodable)) => {
                debug!(partition.id = %self.partition, error.message = %undecodable.source, "an event is not a valid AMQP message");
                self.deliveries.push(undecodable.info);
                self.position += 1;
                self.malformed += 1;
                None
            }
            Err(error) => Some(error),
        }
    }

    fn decode(&mut self, message: &Message<Body<LazyValue>>) {
        let sequence = event::sequence_number(message).unwrap_or(self.position + 1);
        if sequence <= self.position {
            debug!(partition.id = %self.partition, event.sequence_number = sequence, "passed over an event that was received before");
            return;
        }
        if self.position != BEGINNING && sequence > self.position + 1 {
            self.missing += u64::try_from(sequence - self.position - 1).unwrap_or(u64::MAX);
        }
        self.position = sequence;
        let Some(body) = event::body(message) else {
            self.malformed += 1;
            return;
        };
        self.body_bytes += body.len();
        let event = Event {
            annotations: event::annotations(message),
            application_properties: event::application_properties(message),
            body: &body,
        };
        self.decoder
            .decode(&event, self.consumed_unix_ms, &mut self.messages);
    }

    fn count(&mut self, metrics: &IngestMetrics) {
        self.last_sequence.set(self.position);
        count(metrics, &self.decoder.take_tally());
        let malformed = std::mem::take(&mut self.malformed);
        metrics.dropped.inc_by(MessageDrop::Malformed, malformed);
        let missing = std::mem::take(&mut self.missing);
        metrics.missing_events.inc_by(missing);
        self.log_missing(missing);
    }

    /// A relay that cannot keep up misses events in batch after batch; the log says so now and then, with their number.
    fn log_missing(&mut self, missing: u64) {
        self.missing_unlogged += missing;
        let logged_lately = self
            .missing_logged_at
            .is_some_and(|logged_at| logged_at.elapsed() < MISSING_LOG_INTERVAL);
        if self.missing_unlogged > 0 && !logged_lately {
            warn!(
                partition.id = %self.partition,
                partition.missing_events = std::mem::take(&mut self.missing_unlogged),
                "events are missing: the hub no longer holds them"
            );
            self.missing_logged_at = Some(Instant::now());
        }
    }
}

fn count(metrics: &IngestMetrics, tally: &Tally) {
    metrics.body_bytes.inc_by(tally.body_bytes);
    for (class, number) in [
        (MessageClass::Telemetry, tally.telemetry),
        (MessageClass::ConnectionState, tally.connection_state),
        (MessageClass::DeviceTwin, tally.twin),
        (MessageClass::Ignored, tally.ignored),
    ] {
        metrics.messages.inc_by(class, number);
    }
    for reason in DropReason::ALL {
        let number = tally.dropped(reason);
        let label = match reason {
            DropReason::MissingDeviceId => MessageDrop::NoDeviceId,
            DropReason::TooLarge => MessageDrop::TooLarge,
            DropReason::TooDeep => MessageDrop::TooDeep,
            DropReason::InvalidDeviceId | DropReason::UnknownOperation => MessageDrop::Malformed,
            DropReason::Undecodable => {
                metrics.decode_failures.inc_by(number);
                continue;
            }
            // Counted as ignored.
            DropReason::ConnectionStateUnused
            | DropReason::OtherEvent
            | DropReason::UnknownEvent => continue,
        };
        metrics.dropped.inc_by(label, number);
    }
}

fn source_address<S>(context: &Context<S>, partition: &str) -> String {
    format!(
        "{}/ConsumerGroups/{}/Partitions/{partition}",
        context.hub.event_hub, context.consumer_group
    )
}

async fn attach(
    session: &mut SessionHandle<()>,
    address: String,
    position: i64,
    body_bytes_max: usize,
) -> Result<Receiver, Error> {
    let filter = Described {
        descriptor: Descriptor::Code(SELECTOR_FILTER_CODE),
        value: Value::String(selector(position)),
    };
    let source = Source::builder()
        .address(address)
        .add_to_filter(Symbol::from(SELECTOR_FILTER), filter)
        .build();
    Receiver::builder()
        .name(format!("hubrelay-{}", Uuid::new_v4()))
        .source(source)
        .sender_settle_mode(SenderSettleMode::Settled)
        .credit_mode(CreditMode::Auto(PREFETCH))
        .max_message_size((body_bytes_max + ENVELOPE_BYTES_MAX) as u64)
        .attach(session)
        .await
        .map_err(|error| error::attach_receiver(READING, error))
}

/// The selector filter as Event Hubs knows it.
const SELECTOR_FILTER: &str = "apache.org:selector-filter:string";
const SELECTOR_FILTER_CODE: u64 = 0x0000_468C_0000_0004;

fn selector(position: i64) -> String {
    if position <= BEGINNING {
        "amqp.annotation.x-opt-offset > '-1'".to_owned()
    } else {
        format!("amqp.annotation.x-opt-sequence-number > '{position}'")
    }
}
