//! Creating a session.

use serde::{Deserialize, Serialize};

use crate::SessionId;

/// Answer of `POST /session`: `{"sessionId":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedSession {
    /// The new session.
    pub session_id: SessionId,
}
