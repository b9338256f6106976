//! hubrelay fed directly: all of `hubrelay serve`, with a raw feed in the place of the AMQP consumer.
//!
//! What AMQP costs is left out and nothing else. The feed is read on a thread of its own with a single-threaded runtime,
//! like the event hub; each message goes through the decoder with the properties that IoT Hub stamps, and what is there
//! at once goes to the relay as one batch, within the bounds that the consumer has for a batch.
//!
//! The process does not listen for the feed: it fetches it from the program that started it.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use hubrelay::app::Intake;
use hubrelay::cli;
use hubrelay::domain::device_message::DeviceMessage;
use hubrelay::ingest::decode::{Decoder, Event, Properties, Property};
use hubrelay::lifecycle::Lifecycle;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::feed::FeedMessage;

/// Bounds of one batch, as the consumer of event hubs has them.
const BATCH_EVENTS_MAX: usize = 1000;
const BATCH_BODY_BYTES_MAX: usize = 1024 * 1024;

const READ_BYTES: usize = 64 * 1024;

/// Runs the relay until it is told to stop. Its configuration comes from the environment, device messages from the feed
/// at `feed`.
pub(crate) fn run(feed: SocketAddr) -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing ran before that could have installed a provider");
    cli::serve_from(|intake, lifecycle| start(feed, intake, lifecycle))
}

fn start(feed: SocketAddr, intake: Intake, lifecycle: &Lifecycle) {
    let stop = lifecycle.stop.clone();
    lifecycle.spawn("feed", async move {
        let (ending, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || {
                let _ending = ending;
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(read(feed, &intake, &stop))
            })?;
        // The sender is dropped when the thread ends, in whatever way.
        let _ = ended.await;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the feed's thread panicked")))
    });
}

/// Reads feeds, one after the other, until told to stop.
async fn read(feed: SocketAddr, intake: &Intake, stop: &CancellationToken) -> io::Result<()> {
    let mut decoding = Decoding::new(intake);
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            stream = TcpStream::connect(feed) => stream?,
        };
        intake.status.confirm();
        intake.metrics.connected.inc();
        let to_its_end = decoding.read_to_end(stream, intake);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            read = to_its_end => read?,
        }
        intake.metrics.connected.dec();
    }
}

/// Makes batches of device messages.
struct Decoding {
    decoder: Decoder,
    messages: Vec<DeviceMessage>,
    body_bytes: usize,
}

impl Decoding {
    fn new(intake: &Intake) -> Self {
        Self {
            decoder: Decoder::new(intake.config.decoding.clone()),
            messages: Vec::new(),
            body_bytes: 0,
        }
    }

    async fn read_to_end(&mut self, stream: TcpStream, intake: &Intake) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        loop {
            stream.readable().await?;
            let is_at_end = loop {
                let consumed_unix_ms = intake.clock.unix_ms();
                let at_hand = self.gather(&stream, &mut buffer, consumed_unix_ms)?;
                if !self.messages.is_empty() {
                    let messages = std::mem::take(&mut self.messages);
                    intake.relay.ingest(messages).await;
                }
                self.body_bytes = 0;
                let tally = self.decoder.take_tally();
                intake.metrics.body_bytes.inc_by(tally.body_bytes);
                match at_hand {
                    AtHand::More => {}
                    AtHand::Nothing => break false,
                    AtHand::End => break true,
                }
            };
            if is_at_end {
                return Ok(());
            }
        }
    }

    /// Decodes what is there, up to the bounds of a batch.
    fn gather(
        &mut self,
        stream: &TcpStream,
        buffer: &mut Vec<u8>,
        consumed_unix_ms: i64,
    ) -> io::Result<AtHand> {
        loop {
            let mut bytes = buffer.as_slice();
            while !self.is_full() {
                let message = FeedMessage::take(&mut bytes)
                    .map_err(|_| io::Error::other("the feed is malformed"))?;
                let Some(message) = message else { break };
                self.decode(message, consumed_unix_ms)?;
            }
            let taken = buffer.len() - bytes.len();
            buffer.drain(..taken);
            if self.is_full() {
                return Ok(AtHand::More);
            }
            buffer.reserve(READ_BYTES);
            match stream.try_read_buf(buffer) {
                Ok(0) => return Ok(AtHand::End),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(AtHand::Nothing);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_EVENTS_MAX || self.body_bytes >= BATCH_BODY_BYTES_MAX
    }

    fn decode(&mut self, message: FeedMessage<'_>, consumed_unix_ms: i64) -> io::Result<()> {
        let device_id = std::str::from_utf8(message.device_id)
            .context("a device id is no text")
            .map_err(io::Error::other)?;
        let mut annotations = Properties::default();
        for (name, value) in [
            ("x-opt-sequence-number", Property::Other),
            ("x-opt-offset", Property::Other),
            ("x-opt-enqueued-time", Property::Other),
            ("iothub-connection-device-id", Property::Text(device_id)),
            ("iothub-connection-auth-method", Property::Other),
            ("iothub-connection-auth-generation-id", Property::Other),
            (
                "iothub-enqueuedtime",
                Property::TimestampMs(consumed_unix_ms),
            ),
            ("iothub-message-source", Property::Text("Telemetry")),
        ] {
            annotations.set(name, value);
        }
        let event = Event {
            annotations,
            application_properties: Properties::default(),
            body: message.body,
        };
        self.body_bytes += message.body.len();
        self.decoder
            .decode(&event, consumed_unix_ms, &mut self.messages);
        Ok(())
    }
}

/// What the feed has after a batch.
enum AtHand {
    More,
    Nothing,
    End,
}
