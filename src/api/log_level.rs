//! The log level, changed while running.

use axum::extract;
use axum::http::StatusCode;

use super::State;
use super::auth::Admin;
use super::error::Error;
use super::path::Rest;
use crate::config::LogLevel;

/// `PUT /logLevel/:level`. It holds at once, until the next change or start.
pub(super) async fn set(
    _: Admin,
    extract::State(state): extract::State<State>,
    level: Rest,
) -> Result<StatusCode, Error> {
    let level = LogLevel::from_word(&level.name()).ok_or(Error::UnknownLogLevel)?;
    state.log_filter.set(level);
    Ok(StatusCode::NO_CONTENT)
}
