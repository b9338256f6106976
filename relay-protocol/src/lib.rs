//! Wire types of the hubrelay REST API and its sockets.
//!
//! Serialization only: nothing here decides, validates or does I/O. The types are what clients, tests and tools
//! put on the wire and read from it; the shapes are those of the published ux4iot documentation, so a client built
//! on them also talks to ux4iot. What only hubrelay has (modules, `tags`, narrowed grants, the native protocol) is in
//! optional members and types that are absent unless they are used.
//!
//! Device values are never rebuilt from a parsed tree: [`RawJson`] keeps the text a device wrote, so integers beyond
//! 2^53 and the digits of decimals survive a round trip.
//!
//! | module | what it describes |
//! |---|---|
//! | [`session`] | `POST /session` |
//! | [`grant`] | `PUT` and `DELETE /grants` |
//! | [`payload_policy`] | which payloads a grant for a direct method allows |
//! | [`subscription`] | `PUT` and `DELETE /subscription` and `/subscriptions` |
//! | [`last_value`] | `GET` and `DELETE /lastValue`, `GET /connectionState`, `GET /deviceTwin` |
//! | [`device_call`] | `POST /directMethod`, `PATCH /deviceTwinDesiredProperties` and `/deviceTwinTags` |
//! | [`data_event`] | the Socket.IO event `data` |
//! | [`native`] | the WebSocket at `/ws` |

pub mod data_event;
pub mod device_call;
pub mod grant;
mod id;
mod identity;
pub mod last_value;
pub mod native;
pub mod payload_policy;
mod raw_json;
pub mod session;
pub mod subscription;

pub use data_event::{DataEvent, Update};
pub use device_call::{
    DesiredPropertyPatch, DirectMethodRequest, HubResponse, MethodParams, TagPatch,
};
pub use grant::{Grant, GrantRequest};
pub use id::{DeviceId, ModuleId, SessionId};
pub use identity::Identity;
pub use last_value::{
    LastValue, TelemetrySnapshot, TelemetryValues, TimedValue, Twin, TwinProperties,
};
pub use payload_policy::{Condition, Scalar, Test};
pub use raw_json::RawJson;
pub use session::CreatedSession;
pub use subscription::{Subscription, SubscriptionList, SubscriptionRequest};

/// Header that carries the shared access key of a security backend.
pub const SHARED_ACCESS_KEY_HEADER: &str = "Shared-Access-Key";

/// Header that names the session a request acts for.
pub const SESSION_ID_HEADER: &str = "sessionId";
