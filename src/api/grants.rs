//! Grants: the security backend says what a session may see and do.
//!
//! A request that tells its type as `grantType`, and not as `type`, is one of ux4iot 2.x. It is understood when that
//! protocol is switched on, and then makes the session one of a 2.x client.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::State;
use super::auth::Admin;
use super::body::{self, Malformed, RequestBody};
use super::error::Error;
use crate::domain::grant::{Grant, METHOD_NAME_BYTES_MAX};
use crate::domain::id::{DeviceId, SessionId, TelemetryKey};
use crate::domain::session::Dialect;

/// `PUT /grants`. Granting what is granted already changes nothing.
pub(super) async fn add(
    _: Admin,
    extract::State(state): extract::State<State>,
    body: RequestBody,
) -> Result<StatusCode, Error> {
    let GrantRequest {
        session,
        device,
        grant,
        dialect,
    } = read(&body, state.config.legacy_v2)?;
    check_available(&state, session, &grant)?;
    match dialect {
        Dialect::V3 => state.relay.grant(session, device, grant).await?,
        Dialect::V2 => state.relay.grant_v2(session, device, grant).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /grants`. Revoking what is not granted changes nothing. When this answers, nothing that only the revoked
/// grant allowed is sent any more. Without a body it is the 2.x call to revoke everything, which ends every session.
pub(super) async fn remove(
    _: Admin,
    extract::State(state): extract::State<State>,
    body: RequestBody,
) -> Result<StatusCode, Error> {
    if state.config.legacy_v2 && body.is_empty() {
        state.relay.delete_all_sessions().await;
        return Ok(StatusCode::NO_CONTENT);
    }
    let GrantRequest {
        session,
        device,
        grant,
        dialect: _,
    } = read(&body, state.config.legacy_v2)?;
    check_available(&state, session, &grant)?;
    state.relay.revoke(session, device, grant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body of both calls.
struct GrantRequest {
    session: SessionId,
    device: DeviceId,
    grant: Grant,
    dialect: Dialect,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    /// What 2.x has instead of `type`.
    #[serde(borrow)]
    grant_type: Option<&'a RawValue>,
    #[serde(borrow)]
    telemetry_key: Option<&'a RawValue>,
    #[serde(borrow)]
    direct_method_name: Option<&'a RawValue>,
}

/// A malformed body is answered before an unknown session.
fn read(body: &RequestBody, legacy_v2: bool) -> Result<GrantRequest, Error> {
    let (session, device, grant, dialect) =
        parse(body, legacy_v2).map_err(|Malformed| Error::UnknownGrantType)?;
    let session = SessionId::parse(&session).ok_or(Error::NoSuchSession)?;
    Ok(GrantRequest {
        session,
        device,
        grant,
        dialect,
    })
}

fn parse(
    body: &RequestBody,
    legacy_v2: bool,
) -> Result<(Cow<'_, str>, DeviceId, Grant, Dialect), Malformed> {
    let members: Members<'_> = body::object(body.text()?)?;
    if members.session_id.is_empty() {
        return Err(Malformed);
    }
    let device = DeviceId::new(&members.device_id).ok_or(Malformed)?;
    let (kind, dialect) = match body::optional_string(members.kind)? {
        Some(kind) => (kind, Dialect::V3),
        None if legacy_v2 => {
            let kind = body::optional_string(members.grant_type)?.ok_or(Malformed)?;
            (current_type(&kind)?.to_owned(), Dialect::V2)
        }
        None => return Err(Malformed),
    };
    let grant = match &*kind {
        "telemetry" => Grant::Telemetry(telemetry_key(members.telemetry_key)?),
        "deviceTwin" => Grant::DeviceTwin(None),
        "connectionState" => Grant::ConnectionState,
        "d2cMessages" => Grant::D2cMessages,
        "desiredProperties" => Grant::DesiredProperties(None),
        "directMethod" => Grant::DirectMethod(method_name(members.direct_method_name)?, None),
        _ => return Err(Malformed),
    };
    Ok((members.session_id, device, grant, dialect))
}

/// What today's protocol calls a grant of 2.x.
fn current_type(grant_type: &str) -> Result<&'static str, Malformed> {
    match grant_type {
        "subscribeToTelemetry" => Ok("telemetry"),
        "subscribeToDeviceTwin" => Ok("deviceTwin"),
        "subscribeToConnectionState" => Ok("connectionState"),
        // The singular is what 0.1.x sends.
        "subscribeToD2CMessages" | "subscribeToD2CMessage" => Ok("d2cMessages"),
        "modifyDesiredProperties" => Ok("desiredProperties"),
        "invokeDirectMethod" => Ok("directMethod"),
        _ => Err(Malformed),
    }
}

/// `null` and absent mean every key.
pub(super) fn telemetry_key(member: Option<&RawValue>) -> Result<Option<TelemetryKey>, Malformed> {
    body::optional_string(member)?
        .map(|key| TelemetryKey::new(&key).ok_or(Malformed))
        .transpose()
}

/// `null` and absent mean every method.
fn method_name(member: Option<&RawValue>) -> Result<Option<Arc<str>>, Malformed> {
    match body::optional_string(member)? {
        Some(name) if name.is_empty() || name.len() > METHOD_NAME_BYTES_MAX => Err(Malformed),
        name => Ok(name.map(Arc::from)),
    }
}

/// Grants that only the hub API can make use of are refused while it is disabled, after an unknown session is.
fn check_available(state: &State, session: SessionId, grant: &Grant) -> Result<(), Error> {
    let needs_hub = match grant {
        Grant::DesiredProperties(_) | Grant::Tags(_) | Grant::DirectMethod(..) => true,
        Grant::Telemetry(_)
        | Grant::DeviceTwin(_)
        | Grant::ConnectionState
        | Grant::D2cMessages => false,
    };
    if needs_hub && !state.hub_api_enabled() {
        state.check_session(session)?;
        return Err(Error::GrantUnavailable);
    }
    Ok(())
}
