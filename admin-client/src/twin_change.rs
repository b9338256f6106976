//! A change of a twin, and the condition that it is for.

use relay_protocol::RawJson;
use serde_json::Value;

/// A change of desired properties or of tags: an object whose members are set, and deleted where they are `null`.
///
/// Any JSON object is a change of whatever the twin is by then. With an `etag` it is one of a known twin only, and fails
/// with [`DeviceFailure::TwinChanged`](crate::DeviceFailure::TwinChanged) when somebody else was faster:
///
/// ```
/// use admin_client::TwinChange;
/// use serde_json::json;
///
/// let change = TwinChange::new(json!({"telemetryInterval": 5000})).only_for_etag("AAAAAAAAAAE=");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct TwinChange {
    pub(crate) patch: RawJson,
    pub(crate) if_match: Option<String>,
}

impl TwinChange {
    /// A change of the twin, whatever it is by then.
    pub fn new(patch: impl Into<RawJson>) -> Self {
        Self {
            patch: patch.into(),
            if_match: None,
        }
    }

    /// Only when the twin still has this `etag`.
    pub fn only_for_etag(mut self, etag: impl Into<String>) -> Self {
        self.if_match = Some(etag.into());
        self
    }
}

impl From<RawJson> for TwinChange {
    fn from(patch: RawJson) -> Self {
        Self::new(patch)
    }
}

impl From<Value> for TwinChange {
    fn from(patch: Value) -> Self {
        Self::new(patch)
    }
}
