//! A session's outbox, shared between the shards that fill it and the one connection that empties it.
//!
//! Over Socket.IO nothing is kept while no connection is there: the updates of that time are gone, as the protocol says.
//! A native client's outbox goes on filling until the client comes back or its session is retired. The lock is held for a
//! push or a take only, never while writing.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::{Batch, EndedSubscription, Hold, Next, Resume, Takes};
use crate::domain::disconnect::Disconnect;
use crate::domain::id::DeviceId;
use crate::domain::limits::OutboxLimits;
use crate::domain::outbox::{Outbox, Overflow};
use crate::domain::session::{ConnectionNumber, Dialect, Session};
use crate::domain::subscription::DeviceSubscriptions;
use crate::domain::update::Update;
use crate::telemetry::metrics::RelayMetrics;

/// How long a connection that was cut may take to be gone.
const CUT_WAIT: Duration = Duration::from_secs(5);

/// Most ends of subscriptions that wait for a client to hear of them; one that lets more pile up does not read.
const ENDED_MAX: usize = 16_384;

/// A session's outbox and the connection that empties it.
#[derive(Debug)]
pub(super) struct SharedOutbox {
    state: Mutex<State>,
    /// A write has ended that somebody waited for, or its connection is gone.
    written: Notify,
    metrics: Arc<RelayMetrics>,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    reader: Option<Reader>,
    /// Somebody waits for the reader to end its write.
    is_awaited: bool,
    /// Its client speaks the native protocol: it comes back for what it missed, and wants to hear of subscriptions that
    /// ended.
    native: bool,
    /// Tells apart the streams of updates that were each numbered from 1.
    epoch: u64,
    ended: Vec<EndedSubscription>,
    /// Nothing until one was told.
    told: Option<Box<ToldEnds>>,
    dialect: Dialect,
}

/// Ends of subscriptions that left lately, each with the number of the last update before it: a client that lost its
/// connection may not have heard of them.
#[derive(Debug, Default)]
struct ToldEnds {
    ends: VecDeque<(u64, EndedSubscription)>,
    /// There were more than are remembered.
    is_incomplete: bool,
}

/// What an update that was pushed means for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing new: there is no reader, or it knows.
    Stored,
    /// It waits, and must be woken.
    ReaderWaits,
    /// It was woken and has not come yet, and there is now as much for it as it writes at once. To go on without letting it
    /// come would only fill its outbox. Said once until it comes.
    ReaderHasBurst,
}

/// What a connection gets when it takes an outbox over.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    /// Whether all that the client missed will be sent.
    pub(super) recovered: bool,
}

#[derive(Debug)]
struct Reader {
    connection: ConnectionNumber,
    /// Must drop its transport at once.
    is_cut: bool,
    /// Is to be woken when something changes for it.
    waker: Option<Waker>,
    /// Waits for something to send.
    waiting: bool,
    /// Was told that there is something and has not come for it yet.
    due: bool,
    /// What it has taken and not finished writing.
    writing: Option<Writing>,
    /// How many writes it has begun: tells one that is under way from the next.
    writes: u64,
    disconnect: Option<Disconnect>,
}

/// What a connection writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Updates,
    Snapshot,
}

impl SharedOutbox {
    pub(super) fn new(limits: Arc<OutboxLimits>, metrics: Arc<RelayMetrics>) -> Self {
        let state = State {
            outbox: Outbox::new(limits),
            reader: None,
            is_awaited: false,
            native: false,
            epoch: 0,
            ended: Vec::new(),
            told: None,
            dialect: Dialect::V3,
        };
        Self {
            state: Mutex::new(state),
            written: Notify::new(),
            metrics,
        }
    }

    /// Reads a little of it, for nothing but that it is then at hand.
    pub(super) fn prefetch(&self) {
        black_box(self.state.is_locked());
    }

    /// Adds an update for the connection, if there is one or will be. Returns what this means for the reader.
    pub(super) fn push(&self, update: Arc<Update>) -> Pushed {
        let mut state = self.state.lock();
        let State {
            outbox,
            reader,
            native,
            ..
        } = &mut *state;
        let Some(reader) = reader else {
            if *native && self.push_and_count(outbox, update) == Err(Overflow) {
                // Its client gets a snapshot instead when it comes back.
                outbox.clear();
                *native = false;
            }
            return Pushed::Stored;
        };
        if reader.disconnect.is_some() {
            return Pushed::Stored;
        }
        let was_burst = outbox.has_burst();
        if self.push_and_count(outbox, update) == Err(Overflow) {
            outbox.clear();
            reader.disconnect = Some(Disconnect::SlowConsumer);
        }
        if std::mem::take(&mut reader.waiting) {
            reader.due = true;
            return Pushed::ReaderWaits;
        }
        if reader.due && !was_burst && outbox.has_burst() {
            return Pushed::ReaderHasBurst;
        }
        Pushed::Stored
    }

    /// Wakes the reader after [`push`](Self::push) said so.
    pub(super) fn wake(&self) {
        let waker = self.state.lock().take_waker();
        wake(waker);
    }

    /// Makes a connection the one that empties the outbox, from empty. See [`take_over`](Self::take_over).
    pub(super) async fn attach(&self, connection: ConnectionNumber) {
        self.take_over(connection, |state| {
            state.outbox.clear();
            state.ended = Vec::new();
            state.told = None;
            state.native = false;
            false
        })
        .await;
    }

    /// Makes a native connection the one that empties the outbox: from where its client says that it was, if that can
    /// be, otherwise from empty. See [`take_over`](Self::take_over).
    pub(super) async fn attach_native(
        &self,
        connection: ConnectionNumber,
        resume: Option<Resume>,
    ) -> Attached {
        self.take_over(connection, |state| {
            let told = state.told.as_ref();
            let is_known = state.native && !told.is_some_and(|told| told.is_incomplete);
            let from = resume
                .filter(|resume| is_known && resume.epoch == state.epoch)
                .map(|resume| resume.sequence)
                .filter(|sequence| state.outbox.rewind(*sequence));
            if resume.is_some() {
                if let Some(told) = &mut state.told {
                    let missed = told.rewind(from.unwrap_or_default());
                    state.ended.splice(..0, missed);
                }
            } else {
                state.ended = Vec::new();
            }
            if from.is_none() {
                state.start_anew();
            }
            state.native = true;
            from.is_some()
        })
        .await
    }

    /// Empties the outbox and numbers anew what leaves it for a native connection. Returns the new epoch; `None` when
    /// another connection has taken the outbox over.
    pub(super) fn start_anew(&self, connection: ConnectionNumber) -> Option<u64> {
        let mut state = self.state.lock();
        state.reader_of(connection)?;
        state.start_anew();
        Some(state.epoch)
    }

    /// Makes a connection the one that empties the outbox; one that did before is told that it was replaced. While that
    /// one is writing it is cut and waited for: what it writes would be nobody's concern afterwards.
    async fn take_over(
        &self,
        connection: ConnectionNumber,
        prepare: impl Fn(&mut State) -> bool,
    ) -> Attached {
        loop {
            let written = self.written.notified();
            {
                let mut state = self.state.lock();
                if state.writing().is_some() {
                    state.is_awaited = true;
                    let waker = state.cut();
                    drop(state);
                    wake(waker);
                } else {
                    let replaced = state.take_waker();
                    let attached = state.attach(connection, &prepare);
                    drop(state);
                    wake(replaced);
                    self.written.notify_waiters();
                    return attached;
                }
            }
            if tokio::time::timeout(CUT_WAIT, written).await.is_err() {
                tracing::error!("a connection that was replaced is still there");
                self.state.lock().reader = None;
            }
        }
    }

    /// The connection is gone.
    pub(super) fn detach(&self, connection: ConnectionNumber) {
        let mut state = self.state.lock();
        if state.reader_of(connection).is_some() {
            state.reader = None;
            // A client that comes back is told what it did not get.
            if !state.native {
                state.outbox.clear();
                state.outbox.take_skipped();
            }
        }
        drop(state);
        self.written.notify_waiters();
    }

    /// What the session's client speaks over Socket.IO.
    pub(super) fn set_dialect(&self, dialect: Dialect) {
        self.state.lock().dialect = dialect;
    }

    /// Lets the client hear of subscriptions that ended without its doing, if its protocol can say so.
    pub(super) fn tell_ended(&self, ended: Vec<EndedSubscription>) {
        if ended.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        // A native client that was away for too long to be sent what it missed wants to hear of it all the same.
        let may_come_back = state.reader.is_none() && state.epoch > 0;
        if !state.native && !may_come_back {
            return;
        }
        state.ended.extend(ended);
        if state.ended.len() > ENDED_MAX {
            state.ended = Vec::new();
            state.outbox.clear();
            state.native = state.reader.is_some();
            if let Some(reader) = &mut state.reader {
                reader.disconnect.get_or_insert(Disconnect::SlowConsumer);
            }
        }
        let waker = state.take_waker();
        drop(state);
        wake(waker);
    }

    /// Of the ends that wait to be told, drops those of subscriptions that are there again: the client would take them
    /// for the end of the new ones. None is told twice.
    pub(super) fn retain_ended(&self, session: &Session) {
        let mut seen = HashSet::new();
        self.state.lock().ended.retain(|ended| {
            let wanted = session.subscriptions_of(&ended.device);
            !wanted.is_some_and(|wanted| wanted.contains(&ended.subscription))
                && seen.insert((ended.device.clone(), ended.subscription.clone()))
        });
    }

    /// Drops what is in a snapshot, or older than it.
    pub(super) fn supersede(&self, fresh: &BTreeMap<DeviceId, DeviceSubscriptions>) {
        self.state.lock().outbox.supersede(fresh);
    }

    /// Tells the connection to end, once what waits has been taken.
    pub(super) fn disconnect(&self, reason: Disconnect) {
        let mut state = self.state.lock();
        if let Some(reader) = &mut state.reader {
            reader.disconnect.get_or_insert(reason);
        }
        let waker = state.take_waker();
        drop(state);
        wake(waker);
    }

    /// Tells the connection to drop its transport at once.
    pub(super) fn cut(&self) {
        let waker = self.state.lock().cut();
        wake(waker);
    }

    /// Drops everything that waits, and keeps nothing for a client that comes back.
    pub(super) fn clear(&self) {
        let mut state = self.state.lock();
        state.outbox.clear();
        state.outbox.take_skipped();
        state.ended = Vec::new();
        state.told = None;
        state.native = false;
    }

    /// Drops what is not wanted any more of some devices.
    pub(super) fn retain(&self, wanted: &BTreeMap<DeviceId, DeviceSubscriptions>) {
        self.state.lock().outbox.retain(wanted);
    }

    /// Waits until a write that is under way has ended. After `write_wait` its connection is cut.
    pub(super) async fn settle(&self, write_wait: Duration) {
        if tokio::time::timeout(write_wait, self.write_ended())
            .await
            .is_ok()
        {
            return;
        }
        if self.state.lock().reader.is_none() {
            return;
        }
        tracing::info!("cutting a connection that holds up a revocation by not reading");
        self.metrics.cut_connections.inc();
        self.cut();
        if tokio::time::timeout(CUT_WAIT, self.write_ended())
            .await
            .is_err()
        {
            tracing::error!("a connection that was cut is still there");
        }
    }

    /// As [`settle`](Self::settle), when what is being written is a snapshot: it may hold what no subscription covers.
    pub(super) async fn settle_snapshot(&self, write_wait: Duration) {
        if self.is_writing_snapshot() {
            self.settle(write_wait).await;
        }
    }

    fn is_writing_snapshot(&self) -> bool {
        self.state.lock().writing() == Some(Writing::Snapshot)
    }

    /// Waits for the end of the write that is under way now. A connection with much to send begins the next one at once,
    /// which holds nothing that was taken away before.
    async fn write_ended(&self) {
        let Some(awaited) = self.state.lock().write_under_way() else {
            return;
        };
        loop {
            let written = self.written.notified();
            {
                let mut state = self.state.lock();
                if state.write_under_way() != Some(awaited) {
                    return;
                }
                state.is_awaited = true;
            }
            written.await;
        }
    }

    /// What the connection is to do next; waits until there is something. The task that asked last is woken.
    pub(super) fn poll_next(
        self: &Arc<Self>,
        connection: ConnectionNumber,
        takes: Takes,
        context: &mut Context<'_>,
    ) -> Poll<Next> {
        let mut state = self.state.lock();
        if let Some(next) = self.try_next(&mut state, connection, takes) {
            return Poll::Ready(next);
        }
        if let Some(reader) = state.reader_of(connection) {
            match &mut reader.waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => reader.waker = Some(context.waker().clone()),
            }
        }
        Poll::Pending
    }

    fn try_next(
        self: &Arc<Self>,
        state: &mut State,
        connection: ConnectionNumber,
        takes: Takes,
    ) -> Option<Next> {
        let is_cut = state.reader_of(connection).map(|reader| reader.is_cut);
        let bytes_max = match (is_cut, takes) {
            (Some(true), _) => return Some(Next::Cut),
            (_, Takes::Nothing) => return None,
            (None, Takes::BytesMax(_)) => return Some(Next::Disconnect(Disconnect::Replaced)),
            (Some(false), Takes::BytesMax(bytes_max)) => bytes_max,
        };
        let State {
            outbox,
            reader,
            ended,
            told,
            dialect,
            ..
        } = state;
        let reader = reader.as_mut()?;
        reader.due = false;
        if !ended.is_empty() {
            let ended = std::mem::take(ended);
            told.get_or_insert_default().add(&ended, outbox);
            return Some(Next::Ended(ended));
        }
        let updates = outbox.take(bytes_max);
        if !updates.is_empty() {
            reader.begin_write(Writing::Updates);
            return Some(Next::Updates(Batch {
                updates,
                sequence: outbox.sequence(),
                skipped: outbox.take_skipped(),
                dialect: *dialect,
                outbox: self.clone(),
                connection,
            }));
        }
        reader.waiting = reader.disconnect.is_none();
        reader.disconnect.map(Next::Disconnect)
    }

    /// Notes that the connection writes a snapshot, until the hold is dropped. `None` when another connection has taken
    /// the outbox over.
    pub(super) fn hold(self: &Arc<Self>, connection: ConnectionNumber) -> Option<Hold> {
        let mut state = self.state.lock();
        let reader = state.reader_of(connection)?;
        reader.begin_write(Writing::Snapshot);
        Some(Hold {
            outbox: self.clone(),
            connection,
        })
    }

    /// What the connection took has been written, or its transport is gone.
    pub(super) fn finish_write(&self, connection: ConnectionNumber) {
        let mut state = self.state.lock();
        if let Some(reader) = state.reader_of(connection) {
            reader.writing = None;
        }
        if std::mem::take(&mut state.is_awaited) {
            drop(state);
            self.written.notify_waiters();
        }
    }

    /// What is skipped is counted when it happens: a client that is stuck takes nothing for a long time.
    fn push_and_count(&self, outbox: &mut Outbox, update: Arc<Update>) -> Result<(), Overflow> {
        let before = outbox.skipped();
        let pushed = outbox.push(update);
        let after = outbox.skipped();
        if after != before {
            let conflated = after.conflated - before.conflated;
            self.metrics.conflated.inc_by(conflated);
            self.metrics.dropped.inc_by(after.dropped - before.dropped);
        }
        pushed
    }
}

impl Reader {
    fn begin_write(&mut self, writing: Writing) {
        self.writing = Some(writing);
        self.writes += 1;
    }
}

impl State {
    /// The reader, if it is this connection.
    fn reader_of(&mut self, connection: ConnectionNumber) -> Option<&mut Reader> {
        self.reader
            .as_mut()
            .filter(|reader| reader.connection == connection)
    }

    fn writing(&self) -> Option<Writing> {
        self.reader.as_ref()?.writing
    }

    /// Tells the write that is under way from all others.
    fn write_under_way(&self) -> Option<(ConnectionNumber, u64)> {
        let reader = self.reader.as_ref()?;
        reader.writing?;
        Some((reader.connection, reader.writes))
    }

    /// The waker of the reader, which has nothing to wait for any more.
    fn take_waker(&mut self) -> Option<Waker> {
        let reader = self.reader.as_mut()?;
        reader.waiting = false;
        reader.waker.take()
    }

    fn cut(&mut self) -> Option<Waker> {
        self.reader.as_mut()?.is_cut = true;
        self.take_waker()
    }

    fn start_anew(&mut self) {
        self.outbox.start_numbering();
        self.told = None;
        self.epoch += 1;
    }

    fn attach(
        &mut self,
        connection: ConnectionNumber,
        prepare: impl Fn(&mut Self) -> bool,
    ) -> Attached {
        let recovered = prepare(self);
        self.reader = Some(Reader {
            connection,
            is_cut: false,
            waker: None,
            waiting: false,
            due: false,
            writing: None,
            writes: 0,
            disconnect: None,
        });
        Attached {
            epoch: self.epoch,
            sequence: self.outbox.sequence(),
            recovered,
        }
    }
}

/// Wakes a task, outside of the lock that it will want first.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl ToldEnds {
    fn add(&mut self, ended: &[EndedSubscription], outbox: &Outbox) {
        // A client cannot come back to before what the outbox remembers.
        while (self.ends.front()).is_some_and(|(number, _)| *number < outbox.remembers_after()) {
            self.ends.pop_front();
        }
        if self.ends.len() + ended.len() > ENDED_MAX {
            self.ends = VecDeque::new();
            self.is_incomplete = true;
        } else {
            let number = outbox.sequence();
            self.ends
                .extend(ended.iter().map(|end| (number, end.clone())));
        }
    }

    /// Takes out what a client may have missed that saw the update with this number and none after it. An end that
    /// follows that update directly may have reached it.
    fn rewind(&mut self, sequence: u64) -> Vec<EndedSubscription> {
        let place = self.ends.partition_point(|(number, _)| *number < sequence);
        self.ends.drain(place..).map(|(_, end)| end).collect()
    }
}

#[cfg(test)]
mod tests;
