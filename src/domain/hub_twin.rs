//! What the hub answers when it is asked for a twin.

use super::raw_json::RawJson;
use super::time::Timestamp;

/// A device, or a module of one, as the hub's service API tells it with its twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubTwin {
    /// The twin, a JSON object, as the hub wrote it.
    pub twin: RawJson,
    /// Whether the hub takes the device for connected; that may lag behind by a minute.
    pub connected: bool,
    /// When the device was last heard of, if ever.
    pub last_activity: Option<Timestamp>,
}
