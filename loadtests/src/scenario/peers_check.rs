//! `peers-check`: that each installed peer is spoken to as it should be. A few devices and subscribers, 10,000 messages,
//! every delivery once and in order. A check of the adapters, and no measurement.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::contender::{self, Contender, Deliver, NotInstalled, Publisher, Subscriber, Wish};
use crate::cores::Cores;
use crate::message::{Body, Delivery};
use crate::progress::Progress;
use crate::report::Report;
use crate::websocket_client::{Frame, opcode, write_frame};

const DEVICES: usize = 20;
const SUBSCRIBERS: usize = 10;
/// Each subscriber wants this many devices, so half of those of all.
const WISHES: usize = 10;
const MESSAGES: usize = 10_000;
/// So many messages are written at once.
const BATCH: usize = 50;

/// Each device is wanted by so many subscribers.
const RECIPIENTS: usize = SUBSCRIBERS * WISHES / DEVICES;

const BUFFER_BYTES: usize = 16 * 1024;

const PEER_LIMIT: Duration = Duration::from_mins(1);

pub(super) async fn run(mut report: Report, progress: &Progress) -> anyhow::Result<Report> {
    let cores = Cores::claim()?;
    for peer in contender::peers() {
        let name = peer.name();
        match timeout(PEER_LIMIT, check(peer.as_ref(), &cores)).await {
            Ok(Ok(checked)) => {
                progress.step(&format!("{name} {}: as it should be", checked.version));
                report.count(format!("{name}_deliveries"), (MESSAGES * RECIPIENTS) as u64);
                report.measure(format!("{name}_ms"), checked.took.as_secs_f64() * 1000.0);
            }
            Ok(Err(error)) if error.is::<NotInstalled>() => {
                progress.step(&format!("{name} is skipped: {error}"));
            }
            Ok(Err(error)) => return Err(error.context(format!("{name} is not as it should be"))),
            Err(_) => bail!("{name} was not done in {PEER_LIMIT:?}"),
        }
    }
    Ok(report)
}

struct Checked {
    version: String,
    took: Duration,
}

async fn check(peer: &dyn Contender, cores: &Cores) -> anyhow::Result<Checked> {
    let running = peer.start(cores, DEVICES).await?;
    ensure!(!running.pids().is_empty(), "no process is told");
    let mut listeners = Vec::with_capacity(SUBSCRIBERS);
    for number in 0..SUBSCRIBERS {
        let wishes: Vec<Wish> = (0..WISHES)
            .map(|wish| Wish {
                device: (number + wish * (DEVICES / WISHES)) % DEVICES,
                key: None,
            })
            .collect();
        let subscriber = running.subscriber(number, &wishes).await?;
        listeners.push(Listener::new(subscriber, &wishes));
    }
    let publisher = running.publisher().await?;

    let started = Instant::now();
    let mut listeners = tokio::select! {
        listeners = try_join_all(listeners.into_iter().map(Listener::listen)) => listeners?,
        ended = publish(publisher) => return Err(ended.err().context("publishing ended")?),
    };
    let took = started.elapsed();
    for listener in &mut listeners {
        listener.hears_nothing_more()?;
    }
    let version = running.about().version.clone();
    drop(listeners);
    running.stop().await?;
    Ok(Checked { version, took })
}

/// Publishes all messages, the devices in turn, and answers the server for as long as it is asked to.
async fn publish(publisher: Publisher) -> anyhow::Result<()> {
    let Publisher {
        stream,
        mut protocol,
    } = publisher;
    let unacknowledged_max = protocol.unacknowledged_max().unwrap_or(usize::MAX);
    let mut body = Body::new();
    let (mut sent, mut acknowledged) = (0, 0);
    let mut out = Vec::new();
    let mut answer = vec![0; BUFFER_BYTES];
    loop {
        if out.is_empty() && sent - acknowledged < unacknowledged_max {
            let batch = BATCH.min(MESSAGES - sent).min(unacknowledged_max);
            for message in sent..sent + batch {
                let device = message % DEVICES;
                let sequence = (message / DEVICES + 1) as u64;
                protocol.encode(device, body.set(device, sequence), &mut out);
            }
            protocol.finish(&mut out);
            sent += batch;
        }
        let interest = if out.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        let ready = stream.ready(interest).await?;
        if ready.is_writable()
            && let Some(written) = unless_blocked(stream.try_write(&out))?
        {
            out.drain(..written);
        }
        if ready.is_readable()
            && let Some(read) = unless_blocked(stream.try_read(&mut answer))?
        {
            ensure!(read > 0, "the server hung up on the publisher");
            acknowledged += protocol.on_bytes(&answer[..read], &mut out)?;
        }
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// A subscriber that follows the numbers of its devices.
struct Listener {
    stream: TcpStream,
    read_ahead: Vec<u8>,
    protocol: Box<dyn Deliver>,
    /// The next number of each device; `None` for those it did not ask for.
    next: [Option<u64>; DEVICES],
    missing: usize,
}

impl Listener {
    fn new(subscriber: Subscriber, wishes: &[Wish]) -> Self {
        let mut next = [None; DEVICES];
        for wish in wishes {
            next[wish.device] = Some(1);
        }
        Self {
            stream: subscriber.stream,
            read_ahead: subscriber.read_ahead,
            protocol: subscriber.protocol,
            next,
            missing: wishes.len() * MESSAGES / DEVICES,
        }
    }

    /// Takes deliveries until all have come.
    async fn listen(mut self) -> anyhow::Result<Self> {
        loop {
            let mut reply = Vec::new();
            self.take_frames(&mut reply)?;
            self.stream.write_all(&reply).await?;
            if self.missing == 0 {
                return Ok(self);
            }
            let read = self.stream.read_buf(&mut self.read_ahead).await?;
            ensure!(read > 0, "the server hung up on a subscriber");
        }
    }

    /// Fails when another delivery has come.
    fn hears_nothing_more(&mut self) -> anyhow::Result<()> {
        unless_blocked(self.stream.try_read_buf(&mut self.read_ahead))?;
        self.take_frames(&mut Vec::new())
    }

    fn take_frames(&mut self, reply: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut bytes = self.read_ahead.as_slice();
        while let Some(frame) = Frame::take(&mut bytes)? {
            match frame.opcode {
                opcode::TEXT | opcode::BINARY => {
                    let mut wrong = None;
                    let mut payload = |body: &[u8]| {
                        let is_next = Delivery::read(body, None).is_some_and(|delivery| {
                            let next = self.next.get_mut(delivery.device);
                            next.and_then(Option::as_mut).is_some_and(|next| {
                                let is_next = *next == delivery.sequence;
                                *next += 1;
                                is_next
                            })
                        });
                        if is_next && self.missing > 0 {
                            self.missing -= 1;
                        } else {
                            wrong.get_or_insert_with(|| body.to_vec());
                        }
                    };
                    self.protocol
                        .on_message(frame.payload, &mut payload, reply)?;
                    if let Some(body) = wrong {
                        bail!("not the delivery that is due: {}", body.escape_ascii());
                    }
                }
                opcode::PING => write_frame(opcode::PONG, frame.payload, reply),
                opcode::PONG => {}
                _ => bail!("the server closed a subscriber"),
            }
        }
        let taken = self.read_ahead.len() - bytes.len();
        self.read_ahead.drain(..taken);
        Ok(())
    }
}
