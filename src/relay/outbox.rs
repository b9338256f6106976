//! A session's outbox, shared between the shards that fill it and the one connection that empties it.
//!
//! Nothing is kept while no connection is there: the updates of that time are gone, as the protocol says. The lock is
//! held for a push or a take only, never while writing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::{Batch, Next};
use crate::domain::disconnect::Disconnect;
use crate::domain::id::DeviceId;
use crate::domain::limits::OutboxLimits;
use crate::domain::outbox::{Outbox, Overflow, Skipped};
use crate::domain::session::ConnectionNumber;
use crate::domain::subscription::DeviceSubscriptions;
use crate::domain::update::Update;
use crate::telemetry::metrics::RelayMetrics;

/// How long a connection that was cut may take to be gone.
const CUT_WAIT: Duration = Duration::from_secs(5);

/// A session's outbox and the connection that empties it.
#[derive(Debug)]
pub(super) struct SharedOutbox {
    state: Mutex<State>,
    /// Something changed for the reader.
    ready: Notify,
    /// A write has ended, or its connection is gone.
    written: Notify,
    metrics: Arc<RelayMetrics>,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    reader: Option<Reader>,
}

#[derive(Debug)]
struct Reader {
    connection: ConnectionNumber,
    cut: CancellationToken,
    /// Waits for something to send.
    waiting: bool,
    /// Has taken updates and not finished writing them.
    writing: bool,
    disconnect: Option<Disconnect>,
}

impl SharedOutbox {
    pub(super) fn new(limits: OutboxLimits, metrics: Arc<RelayMetrics>) -> Self {
        let state = State {
            outbox: Outbox::new(limits),
            reader: None,
        };
        Self {
            state: Mutex::new(state),
            ready: Notify::new(),
            written: Notify::new(),
            metrics,
        }
    }

    /// Adds an update for the connection, if there is one. Returns whether the reader must be woken.
    pub(super) fn push(&self, update: &Arc<Update>) -> bool {
        let mut state = self.state.lock();
        let State {
            outbox,
            reader: Some(reader),
        } = &mut *state
        else {
            return false;
        };
        if reader.disconnect.is_some() {
            return false;
        }
        if outbox.push(update) == Err(Overflow) {
            outbox.clear();
            reader.disconnect = Some(Disconnect::SlowConsumer);
        }
        std::mem::take(&mut reader.waiting)
    }

    /// Wakes the reader after [`push`](Self::push) said so.
    pub(super) fn wake(&self) {
        self.ready.notify_waiters();
    }

    /// Makes a connection the one that empties the outbox; one that did before is told that it was replaced.
    /// Returns the token that is cancelled when the connection must drop its transport at once.
    pub(super) fn attach(&self, connection: ConnectionNumber) -> CancellationToken {
        let cut = CancellationToken::new();
        let reader = Reader {
            connection,
            cut: cut.clone(),
            waiting: false,
            writing: false,
            disconnect: None,
        };
        let mut state = self.state.lock();
        state.outbox.clear();
        state.reader = Some(reader);
        drop(state);
        self.ready.notify_waiters();
        self.written.notify_waiters();
        cut
    }

    /// The connection is gone.
    pub(super) fn detach(&self, connection: ConnectionNumber) {
        let mut state = self.state.lock();
        if state
            .reader
            .as_ref()
            .is_some_and(|reader| reader.connection == connection)
        {
            state.reader = None;
            state.outbox.clear();
            self.count_skipped(&mut state.outbox);
        }
        drop(state);
        self.written.notify_waiters();
    }

    /// Tells the connection to end, once what waits has been taken.
    pub(super) fn disconnect(&self, reason: Disconnect) {
        if let Some(reader) = &mut self.state.lock().reader {
            reader.disconnect.get_or_insert(reason);
            reader.waiting = false;
        }
        self.ready.notify_waiters();
    }

    /// Drops everything that waits.
    pub(super) fn clear(&self) {
        self.state.lock().outbox.clear();
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
        let Some(cut) = self
            .state
            .lock()
            .reader
            .as_ref()
            .map(|reader| reader.cut.clone())
        else {
            return;
        };
        tracing::info!("cutting a connection that holds up a revocation by not reading");
        self.metrics.cut_connections.inc();
        cut.cancel();
        if tokio::time::timeout(CUT_WAIT, self.write_ended())
            .await
            .is_err()
        {
            tracing::error!("a connection that was cut is still there");
        }
    }

    async fn write_ended(&self) {
        loop {
            let written = self.written.notified();
            if !self
                .state
                .lock()
                .reader
                .as_ref()
                .is_some_and(|reader| reader.writing)
            {
                return;
            }
            written.await;
        }
    }

    /// What the connection is to do next; waits until there is something.
    pub(super) async fn next(
        self: &Arc<Self>,
        connection: ConnectionNumber,
        bytes_max: usize,
    ) -> Next {
        loop {
            let ready = self.ready.notified();
            if let Some(next) = self.try_next(connection, bytes_max) {
                return next;
            }
            ready.await;
        }
    }

    fn try_next(self: &Arc<Self>, connection: ConnectionNumber, bytes_max: usize) -> Option<Next> {
        let mut state = self.state.lock();
        let State { outbox, reader } = &mut *state;
        let Some(reader) = reader
            .as_mut()
            .filter(|reader| reader.connection == connection)
        else {
            return Some(Next::Disconnect(Disconnect::Replaced));
        };
        let mut updates = Vec::new();
        outbox.take(bytes_max, &mut updates);
        self.count_skipped(outbox);
        if !updates.is_empty() {
            reader.writing = true;
            return Some(Next::Updates(Batch::new(updates, self.clone(), connection)));
        }
        reader.waiting = reader.disconnect.is_none();
        reader.disconnect.map(Next::Disconnect)
    }

    /// A batch has been written, or its transport is gone.
    pub(super) fn finish_write(&self, connection: ConnectionNumber) {
        let mut state = self.state.lock();
        if let Some(reader) = state
            .reader
            .as_mut()
            .filter(|reader| reader.connection == connection)
        {
            reader.writing = false;
        }
        drop(state);
        self.written.notify_waiters();
    }

    fn count_skipped(&self, outbox: &mut Outbox) {
        let skipped = outbox.take_skipped();
        if skipped != Skipped::default() {
            self.metrics.conflated.inc_by(skipped.conflated);
            self.metrics.dropped.inc_by(skipped.dropped);
        }
    }
}
