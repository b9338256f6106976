//! How the rest of devhub reaches the task of a connection.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::error::AmqpError;
use crate::readers::ReaderId;

/// What a connection is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Detach the link of this reader.
    Detach(ReaderId, AmqpError),
    /// Close the connection.
    Close(AmqpError),
}

/// The mailbox of one connection. Bounded by its readers: every one is detached once at most, since
/// a reader leaves the registry with its verdict; a close replaces everything.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Rung for verdicts, and by partitions that have more events.
    pub(crate) bell: Arc<Notify>,
    verdicts: Mutex<Vec<Verdict>>,
}

impl Mailbox {
    pub(crate) fn post(&self, verdict: Verdict) {
        let mut verdicts = self.verdicts.lock();
        if matches!(verdict, Verdict::Close(_)) {
            verdicts.clear();
        }
        verdicts.push(verdict);
        drop(verdicts);
        self.bell.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Verdict> {
        mem::take(&mut self.verdicts.lock())
    }
}
