//! What a grant token allows, once it has been found right.

use crate::domain::grant::Grant;
use crate::domain::id::DeviceId;

/// What a session may see and do, and within which bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorization {
    /// Its grants.
    pub grants: Vec<TimedGrant>,
    /// Its bounds.
    pub constraints: SessionConstraints,
}

/// A grant that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedGrant {
    /// The device.
    pub device: DeviceId,
    /// What is granted.
    pub grant: Grant,
    /// When it ends; `None` means never.
    pub expires_at_unix_ms: Option<i64>,
}

/// The bounds of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionConstraints {
    /// Subscriptions that it may have.
    pub subscriptions_max: Option<usize>,
    /// Least time between two telemetry updates of one device.
    pub min_interval_ms: Option<u64>,
    /// When it ends; `None` means never.
    pub expires_at_unix_ms: Option<i64>,
}
