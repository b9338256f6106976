//! Sessions: anybody may create one, and bring its grants in a token; the security backend may end one or all.

use axum::Extension;
use axum::extract;
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use super::auth::{Admin, BearerToken};
use super::error::Error;
use super::json_response;
use super::path::Rest;
use crate::domain::id::SessionId;
use crate::http::ClientAddress;
use crate::telemetry::metrics::SessionRefusal;

/// `POST /session`. The body and any key are ignored. A grant token gives the session its grants; one that is refused
/// leaves no session behind.
pub(super) async fn create(
    extract::State(state): extract::State<State>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    BearerToken(token): BearerToken,
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
    let authorization = match token {
        Some(token) => Some(state.grant_tokens.verify(&token).await?),
        None => None,
    };
    let session = state
        .relay
        .create_session()
        .map_err(|_| Error::TooManySessions)?;
    if let Some(authorization) = authorization
        && let Err(error) = state.relay.authorize(session, authorization).await
    {
        state.relay.delete_session(session).await;
        return Err(error.into());
    }
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
