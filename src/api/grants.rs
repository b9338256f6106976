//! Grants: the security backend says what a session may see and do.

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
use crate::domain::grant::Grant;
use crate::domain::id::{DeviceId, SessionId, TelemetryKey};

/// Longest name of a direct method in bytes.
const METHOD_NAME_BYTES_MAX: usize = 1024;

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
    } = read(&body)?;
    check_available(&state, session, &grant)?;
    state.relay.grant(session, device, grant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /grants`. Revoking what is not granted changes nothing. When this answers, nothing that only the revoked
/// grant allowed is sent any more.
pub(super) async fn remove(
    _: Admin,
    extract::State(state): extract::State<State>,
    body: RequestBody,
) -> Result<StatusCode, Error> {
    let GrantRequest {
        session,
        device,
        grant,
    } = read(&body)?;
    check_available(&state, session, &grant)?;
    state.relay.revoke(session, device, grant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body of both calls.
struct GrantRequest {
    session: SessionId,
    device: DeviceId,
    grant: Grant,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    telemetry_key: Option<&'a RawValue>,
    #[serde(borrow)]
    direct_method_name: Option<&'a RawValue>,
}

/// A malformed body is answered before an unknown session.
fn read(body: &RequestBody) -> Result<GrantRequest, Error> {
    let (session, device, grant) = parse(body).map_err(|Malformed| Error::UnknownGrantType)?;
    let session = SessionId::parse(&session).ok_or(Error::NoSuchSession)?;
    Ok(GrantRequest {
        session,
        device,
        grant,
    })
}

fn parse(body: &RequestBody) -> Result<(Cow<'_, str>, DeviceId, Grant), Malformed> {
    let members: Members<'_> = body::object(body.text()?)?;
    if members.session_id.is_empty() {
        return Err(Malformed);
    }
    let device = DeviceId::new(&members.device_id).ok_or(Malformed)?;
    let grant = match &*members.kind {
        "telemetry" => Grant::Telemetry(telemetry_key(members.telemetry_key)?),
        "deviceTwin" => Grant::DeviceTwin,
        "connectionState" => Grant::ConnectionState,
        "d2cMessages" => Grant::D2cMessages,
        "desiredProperties" => Grant::DesiredProperties,
        "directMethod" => Grant::DirectMethod(method_name(members.direct_method_name)?),
        _ => return Err(Malformed),
    };
    Ok((members.session_id, device, grant))
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
        Grant::DesiredProperties | Grant::DirectMethod(_) => true,
        Grant::Telemetry(_) | Grant::DeviceTwin | Grant::ConnectionState | Grant::D2cMessages => {
            false
        }
    };
    if needs_hub && !state.hub_api_enabled() {
        state.check_session(session)?;
        return Err(Error::GrantUnavailable);
    }
    Ok(())
}
