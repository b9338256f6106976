//! Grants: the security backend says what a session may see and do.
//!
//! A request that tells its type as `grantType`, and not as `type`, is one of ux4iot 2.x. It is understood when that
//! protocol is switched on, and then makes the session one of a 2.x client. It cannot be narrowed, nor be about a module.

use std::borrow::Cow;

use axum::extract;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::State;
use super::auth::Admin;
use super::body::{self, Malformed, RequestBody};
use super::error::Error;
use crate::domain::grant::Grant;
use crate::domain::id::{DeviceId, DeviceName, SessionId};
use crate::domain::session::Dialect;
use crate::grant_members::{GrantMembers, WrongMember, even_null};

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
    #[serde(borrow)]
    module_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    /// What 2.x has instead of `type`.
    #[serde(borrow)]
    grant_type: Option<&'a RawValue>,
    #[serde(borrow)]
    telemetry_key: Option<&'a RawValue>,
    #[serde(borrow)]
    direct_method_name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    pointers: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    payload_policy: Option<&'a RawValue>,
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
    let (kind, dialect) = match body::optional_string(members.kind)? {
        Some(kind) => (kind, Dialect::V3),
        None if legacy_v2 => {
            let kind = body::optional_string(members.grant_type)?.ok_or(Malformed)?;
            (current_type(&kind)?.to_owned(), Dialect::V2)
        }
        None => return Err(Malformed),
    };
    let is_of_today = members.module_id.is_some()
        || members.pointers.is_some()
        || members.payload_policy.is_some();
    if is_of_today && dialect == Dialect::V2 {
        return Err(Malformed);
    }
    let device = DeviceName {
        device: &members.device_id,
        module: members.module_id.as_deref(),
    };
    let device = device.to_id().ok_or(Malformed)?;
    let granted = GrantMembers {
        telemetry_key: members.telemetry_key,
        direct_method_name: members.direct_method_name,
        pointers: members.pointers,
        payload_policy: members.payload_policy,
    };
    let grant = granted
        .grant(&kind)
        .map_err(|WrongMember { .. }| Malformed)?;
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

/// Grants that only the hub API can make use of are refused while it is disabled, after an unknown session is.
fn check_available(state: &State, session: SessionId, grant: &Grant) -> Result<(), Error> {
    let needs_hub = match grant {
        Grant::DesiredProperties(_) | Grant::Tags(_) | Grant::DirectMethod(_, _) => true,
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
