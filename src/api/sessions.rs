//! Sessions: anybody may create one, the security backend may end one or all.

use axum::Extension;
use axum::extract;
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use super::auth::Admin;
use super::error::Error;
use super::json_response;
use super::path::Rest;
use crate::domain::id::SessionId;
use crate::http::ClientAddress;
use crate::telemetry::metrics::SessionRefusal;

/// `POST /session`. The body and any key are ignored.
pub(super) async fn create(
    extract::State(state): extract::State<State>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
) -> Result<Response, Error> {
    if let Err(refused) = state
        .session_rate
        .take(address.ip(), state.clock.monotonic())
    {
        state.metrics.sessions.refused.inc(SessionRefusal::Rate);
        return Err(Error::TooManySessionRequests {
            retry_after_s: refused.retry_after_s,
        });
    }
    let session = state
        .relay
        .create_session()
        .map_err(|_| Error::TooManySessions)?;
    Ok(json_response(format!(r#"{{"sessionId":"{session}"}}"#)))
}

/// `DELETE /sessions/:sessionId`. Ending a session that does not exist is fine.
pub(super) async fn delete(
    _: Admin,
    extract::State(state): extract::State<State>,
    id: Rest,
) -> StatusCode {
    if let Some(session) = SessionId::parse(&id.name()) {
        state.relay.delete_session(session).await;
    }
    StatusCode::NO_CONTENT
}

/// `DELETE /sessions`.
pub(super) async fn delete_all(
    _: Admin,
    extract::State(state): extract::State<State>,
) -> StatusCode {
    state.relay.delete_all_sessions().await;
    StatusCode::NO_CONTENT
}
