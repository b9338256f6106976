//! The load generator: one thread that publishes, receives and checks, with as little work of its own as it can.
//!
//! Sockets are raw and non-blocking and wait in one epoll set; a read brings up to 64 KiB into a buffer that all of them
//! share, and frames are checked where they lie. So a delivery costs the generator well below what it costs any server,
//! and the server is what is measured.
//!
//! With a given rate every message has a moment at which it is due, and its latency counts from then, whenever it was
//! really sent: a stall shows in every message that it delayed (no coordinated omission).

mod feeder;
mod receiver;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

pub(crate) use self::feeder::Feeder;
use self::receiver::READ_BYTES;
pub(crate) use self::receiver::Receiver;
use crate::latency::Latencies;
use crate::message::Delivery;
use crate::pace::{Pace, Schedule, Traffic};
use crate::progress::Progress;
use crate::stop_signal::StopSignal;
use crate::tally::Tally;

/// Events that one look at the sockets takes in.
const EVENTS: usize = 1024;

/// The token of the publisher's socket; receivers have their places.
const FEEDER: u64 = u64::MAX;

/// How long to wait for sockets when there is nothing else to do.
const IDLE_WAIT: Duration = Duration::from_millis(5);

/// How long deliveries may go on without any coming before the rest counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How a slow reader reads.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Messages that are sent before received ones are looked at again.
const SEND_AT_ONCE: u64 = 512;

/// Publishes to a server and follows all of its subscribers.
pub(crate) struct Generator {
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    receivers: Vec<Receiver>,
    slow: Vec<SlowReader>,
    feeder: Option<Feeder>,
    is_blocked: bool,
    pace: Pace,
    /// Deliveries that a message has on average.
    recipients: f64,
    schedule: Option<Schedule>,
    latencies: Latencies,
    /// Shared with a sender on another thread, when messages go through an event hub.
    traffic: Arc<Traffic>,
    accounted: u64,
    /// Receivers that may be slow and that the server has hung up on, and how.
    cut_off: Vec<(usize, anyhow::Error)>,
    spins: bool,
    stop: StopSignal,
}

/// What a generator is to do.
pub(crate) struct Task {
    pub(crate) receivers: Vec<Receiver>,
    /// The publisher; without one a sender on another thread publishes.
    pub(crate) feeder: Option<Feeder>,
    pub(crate) pace: Pace,
    /// Deliveries that a message has on average.
    pub(crate) recipients: f64,
    /// Messages that arrive later than planned do so because of the server, if nothing sleeps here: with a core of its
    /// own the generator looks at its sockets all the time.
    pub(crate) has_own_core: bool,
}

/// A receiver that is read in small pieces at given times.
struct SlowReader {
    place: usize,
    bytes_per_read: usize,
    interval: Duration,
    next_at: Instant,
}

impl Generator {
    pub(crate) fn new(task: Task, stop: StopSignal) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("cannot watch sockets")?;
        for (place, receiver) in task.receivers.iter().enumerate() {
            let data = EventData::new_u64(place as u64);
            epoll::add(&epoll, &receiver.stream, data, EventFlags::IN)?;
        }
        if let Some(feeder) = &task.feeder {
            let data = EventData::new_u64(FEEDER);
            epoll::add(&epoll, &feeder.stream, data, EventFlags::IN)?;
        }
        Ok(Self {
            epoll,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES],
            receivers: task.receivers,
            slow: Vec::new(),
            feeder: task.feeder,
            is_blocked: false,
            spins: task.has_own_core && matches!(task.pace, Pace::Rate(_)),
            pace: task.pace,
            recipients: task.recipients,
            schedule: None,
            latencies: Latencies::default(),
            traffic: Arc::default(),
            accounted: 0,
            cut_off: Vec::new(),
            stop,
        })
    }

    /// Reads those that may be slow only ten times a second from here on, so many bytes at a time.
    pub(crate) fn slow_down(&mut self, bytes_per_read: usize) -> anyhow::Result<()> {
        for (place, receiver) in self.receivers.iter().enumerate() {
            if receiver.may_be_slow && !self.is_cut_off(place) {
                epoll::delete(&self.epoll, &receiver.stream)?;
                self.slow.push(SlowReader {
                    place,
                    bytes_per_read,
                    interval: SLOW_INTERVAL,
                    next_at: Instant::now(),
                });
            }
        }
        Ok(())
    }

    /// Reads everybody as it comes again.
    pub(crate) fn speed_up(&mut self) -> anyhow::Result<()> {
        for SlowReader { place, .. } in self.slow.drain(..) {
            let data = EventData::new_u64(place as u64);
            let stream = &self.receivers[place].stream;
            epoll::add(&self.epoll, stream, data, EventFlags::IN)?;
        }
        Ok(())
    }

    /// Receivers that may be slow and that the server has hung up on, by their places, and how.
    pub(crate) fn cut_off(&self) -> &[(usize, anyhow::Error)] {
        &self.cut_off
    }

    /// Whether the server has hung up on a receiver that may be slow.
    pub(crate) fn is_cut_off(&self, place: usize) -> bool {
        self.cut_off.iter().any(|(cut_off, _)| *cut_off == place)
    }

    /// What a sender on another thread has to know.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// When each message is due, counted from now on. Only then there are latencies.
    pub(crate) fn begin(&mut self, schedule: Option<Schedule>) {
        self.schedule = schedule;
    }

    /// Forgets the latencies so far.
    pub(crate) fn forget_latencies(&mut self) {
        self.latencies.clear();
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        match &self.feeder {
            Some(feeder) => feeder.sent(),
            None => self.traffic.sent.load(Ordering::Relaxed),
        }
    }

    /// Deliveries accounted for so far.
    pub(crate) fn accounted(&self) -> u64 {
        self.accounted
    }

    /// Latencies since they were last forgotten.
    pub(crate) fn latencies(&mut self) -> &mut Latencies {
        &mut self.latencies
    }

    /// The receivers, in their order.
    pub(crate) fn receivers(&self) -> &[Receiver] {
        &self.receivers
    }

    /// Publishes and receives until then, and tells how it goes.
    pub(crate) fn run(&mut self, until: Instant, progress: Progress) -> anyhow::Result<()> {
        const TELL: Duration = Duration::from_secs(1);
        while Instant::now() < until {
            let (begun, accounted, sent) = (Instant::now(), self.accounted, self.sent());
            let tell_at = (begun + TELL).min(until);
            while Instant::now() < tell_at {
                self.turn(true, tell_at)?;
            }
            self.stop.check()?;
            let elapsed_ms = begun.elapsed().as_millis().max(1);
            let per_s = |count: u64| u128::from(count) * 1000 / elapsed_ms;
            progress.tick(&format!(
                "{} messages/s, {} deliveries/s",
                per_s(self.sent() - sent),
                per_s(self.accounted - accounted),
            ));
        }
        Ok(())
    }

    /// Publishes so many messages at once, whatever the pace; [`drain`](Self::drain) sees to it that they leave.
    pub(crate) fn publish_once(&mut self, messages: u64) -> anyhow::Result<()> {
        if let Some(feeder) = &mut self.feeder {
            let until = feeder.sent() + messages;
            while feeder.sent() < until {
                feeder.send(until - feeder.sent())?;
            }
        }
        Ok(())
    }

    /// Receives until so many deliveries are accounted for, or nothing comes any more.
    pub(crate) fn drain(&mut self, expected: u64) -> anyhow::Result<()> {
        let mut last = (self.accounted, Instant::now());
        while self.accounted < expected && last.1.elapsed() < SILENCE_MAX {
            self.turn(false, Instant::now() + IDLE_WAIT)?;
            self.stop.check()?;
            if self.accounted > last.0 {
                last = (self.accounted, Instant::now());
            }
        }
        Ok(())
    }

    /// Adds up what the receivers got.
    pub(crate) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for receiver in &self.receivers {
            sum.add(&receiver.follower.tally);
        }
        sum
    }

    /// Sends what may be sent, and takes in what has come.
    fn turn(&mut self, publishes: bool, until: Instant) -> anyhow::Result<()> {
        let more = self.publish(publishes)?;
        // Whoever sends on another thread, on the same core, needs it.
        let wait = if more || (self.spins && self.feeder.is_some()) {
            Duration::ZERO
        } else {
            IDLE_WAIT.min(until.saturating_duration_since(Instant::now()))
        };
        self.receive(wait)?;
        if !self.slow.is_empty() {
            self.read_slowly()?;
        }
        Ok(())
    }

    /// Sends what may be sent now. Returns whether there is more that could be sent at once.
    fn publish(&mut self, publishes: bool) -> anyhow::Result<bool> {
        let accounted = self.accounted;
        let Some(feeder) = &mut self.feeder else {
            return Ok(false);
        };
        let allowed = match (publishes, self.pace, self.schedule) {
            (false, ..) | (true, Pace::Rate(_), None) => 0,
            (true, Pace::InFlight(messages), _) => {
                let done = done(accounted, self.recipients);
                (done + messages).saturating_sub(feeder.sent())
            }
            (true, Pace::Rate(_), Some(schedule)) => schedule
                .due_by(Instant::now())
                .saturating_sub(feeder.sent()),
        };
        let is_blocked = feeder.send(allowed.min(SEND_AT_ONCE))?;
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            let flags = if is_blocked {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            let data = EventData::new_u64(FEEDER);
            epoll::modify(&self.epoll, &feeder.stream, data, flags)?;
        }
        Ok(allowed > SEND_AT_ONCE && !is_blocked)
    }

    fn receive(&mut self, wait: Duration) -> anyhow::Result<()> {
        let timeout = Timespec::try_from(wait).context("a wait is too long")?;
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot watch sockets"),
        }
        for place in 0..self.events.len() {
            let Event { flags, data } = self.events[place];
            if data.u64() == FEEDER {
                let is_readable = flags.contains(EventFlags::IN);
                if let Some(feeder) = self.feeder.as_mut().filter(|_| is_readable) {
                    feeder.read(&mut self.buffer)?;
                }
            } else {
                self.read(usize::try_from(data.u64())?, READ_BYTES)?;
            }
        }
        self.traffic
            .accounted
            .store(self.accounted, Ordering::Relaxed);
        Ok(())
    }

    fn read(&mut self, place: usize, bytes_max: usize) -> anyhow::Result<()> {
        let receiver = &mut self.receivers[place];
        let before = receiver.follower.tally.accounted;
        let schedule = self.schedule.filter(|_| !receiver.may_be_slow);
        let latencies = &mut self.latencies;
        let read = receiver.read(
            &mut self.buffer,
            bytes_max,
            |delivery: Delivery, read_at| {
                if let Some(schedule) = schedule {
                    let due_at = schedule.due_at(delivery.device, delivery.sequence);
                    latencies.add(read_at.saturating_duration_since(due_at));
                }
            },
        );
        self.accounted += receiver.follower.tally.accounted - before;
        match read {
            Ok(_) => Ok(()),
            Err(error) if receiver.may_be_slow => {
                // One that is read slowly is not watched.
                let _ = epoll::delete(&self.epoll, &receiver.stream);
                self.slow.retain(|reader| reader.place != place);
                self.cut_off.push((place, error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads slow readers that are due.
    fn read_slowly(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut due = Vec::new();
        for reader in &mut self.slow {
            if reader.next_at <= now {
                reader.next_at += reader.interval;
                due.push((reader.place, reader.bytes_per_read));
            }
        }
        for (place, bytes_max) in due {
            self.read(place, bytes_max)?;
        }
        Ok(())
    }
}

/// Messages that are accounted for, when each has so many deliveries.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of one run are far below 2^53"
)]
fn done(accounted: u64, recipients: f64) -> u64 {
    (accounted as f64 / recipients) as u64
}
