//! What services ask of the hub, and how often they have asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::iot_hub::Right;

/// The kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Identities and statistics are read.
    ReadRegistry,
    /// Identities are created, updated or deleted.
    WriteRegistry,
    /// A twin is read.
    ReadTwin,
    /// A twin is patched.
    UpdateTwin,
    /// A twin is replaced.
    ReplaceTwin,
    /// Twins are queried.
    Query,
    /// A direct method is called.
    InvokeMethod,
    /// devhub itself is asked; not counted, and never met by a fault.
    Control,
}

impl Operation {
    const COUNTED: [Self; 7] = [
        Self::ReadRegistry,
        Self::WriteRegistry,
        Self::ReadTwin,
        Self::UpdateTwin,
        Self::ReplaceTwin,
        Self::Query,
        Self::InvokeMethod,
    ];

    /// What a token must allow; all of it.
    pub(super) fn rights(self) -> &'static [Right] {
        match self {
            Self::ReadRegistry => &[Right::RegistryRead],
            Self::WriteRegistry => &[Right::RegistryWrite],
            Self::ReadTwin
            | Self::UpdateTwin
            | Self::ReplaceTwin
            | Self::Query
            | Self::InvokeMethod => &[Right::ServiceConnect],
            Self::Control => &[Right::RegistryWrite, Right::ServiceConnect],
        }
    }
}

/// How many requests of each kind have come in, those included that were refused or met by a fault. Kinds that were never
/// asked for are there with 0.
pub type RequestCounts = BTreeMap<Operation, u64>;

#[derive(Debug, Default)]
pub(crate) struct Requests([AtomicU64; Operation::COUNTED.len()]);

impl Requests {
    pub(super) fn count(&self, operation: Operation) {
        let at = Operation::COUNTED.iter().position(|own| *own == operation);
        if let Some(at) = at {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> RequestCounts {
        Operation::COUNTED
            .into_iter()
            .zip(&self.0)
            .map(|(operation, count)| (operation, count.load(Ordering::Relaxed)))
            .collect()
    }
}
