//! Devices: connection state and twin as far as they are known here, and the calls to a device.
//!
//! This release does not call the IoT hub, so whatever would need an answer from it is refused the way ux4iot refuses
//! it with the hub API disabled.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::extract;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::State;
use super::auth::{Reader, SessionHeader};
use super::body::{self, RequestBody};
use super::error::Error;
use super::json_response;
use super::last_values::envelope;
use super::path::DevicePath;
use crate::domain::grant::Access;
use crate::domain::id::DeviceId;
use crate::domain::time::Timestamp;

/// `GET /connectionState/:deviceId`.
pub(super) async fn connection_state(
    reader: Reader,
    extract::State(state): extract::State<State>,
    path: DevicePath,
) -> Result<Response, Error> {
    let device = path.device;
    state
        .check_read(&reader, &device, &Access::ConnectionState)
        .await?;
    match state.relay.connection_state(&device).await {
        Some(state) => Ok(device_response(
            &device,
            if state.value { "true" } else { "false" },
            &state.stamp.timestamp,
        )),
        // With a custom key telemetry alone decides, so the hub would not be asked either.
        None if state.config.decoding.custom_connection_state_key.is_some() => Err(Error::NoDevice),
        None => Err(Error::ConnectionStateNeedsHub),
    }
}

/// `GET /deviceTwin/:deviceId`.
pub(super) async fn device_twin(
    reader: Reader,
    extract::State(state): extract::State<State>,
    path: DevicePath,
) -> Result<Response, Error> {
    let device = path.device;
    state
        .check_read(&reader, &device, &Access::DeviceTwin)
        .await?;
    let known = state.relay.device_twin(&device).await;
    let twin = known.ok_or(Error::DeviceTwinNeedsHub)?;
    Ok(device_response(
        &device,
        twin.value.as_str(),
        &twin.stamp.timestamp,
    ))
}

/// `POST /directMethod`.
pub(super) async fn direct_method(
    extract::State(state): extract::State<State>,
    session: SessionHeader,
    body: RequestBody,
) -> Result<Response, Error> {
    state.check_session(session.required()?)?;
    let request: Result<DirectMethodRequest<'_>, _> = body.text().and_then(body::object);
    if !request.is_ok_and(|request| request.is_valid()) {
        return Err(Error::MalformedDirectMethod);
    }
    Err(Error::HubApiDisabled)
}

/// `PATCH /deviceTwinDesiredProperties`.
pub(super) async fn patch_desired_properties(
    extract::State(state): extract::State<State>,
    session: SessionHeader,
    body: RequestBody,
) -> Result<Response, Error> {
    state.check_session(session.required()?)?;
    let request: Result<DesiredPropertiesRequest<'_>, _> = body.text().and_then(body::object);
    if !request.is_ok_and(|request| request.is_valid()) {
        return Err(Error::MalformedDesiredProperties);
    }
    Err(Error::HubApiDisabled)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectMethodRequest<'a> {
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow)]
    method_params: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MethodParams<'a> {
    #[serde(borrow)]
    method_name: Cow<'a, str>,
    #[serde(default, rename = "responseTimeoutInSeconds")]
    _response_timeout_s: Option<u32>,
    #[serde(default, rename = "connectTimeoutInSeconds")]
    _connect_timeout_s: Option<u32>,
}

impl DirectMethodRequest<'_> {
    fn is_valid(&self) -> bool {
        let params: Result<MethodParams<'_>, _> = body::object(self.method_params.get());
        DeviceId::new(&self.device_id).is_some()
            && params.is_ok_and(|params| !params.method_name.is_empty())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DesiredPropertiesRequest<'a> {
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow)]
    desired_property_patch: &'a RawValue,
}

impl DesiredPropertiesRequest<'_> {
    fn is_valid(&self) -> bool {
        DeviceId::new(&self.device_id).is_some()
            && self.desired_property_patch.get().starts_with('{')
    }
}

fn device_response(device: &DeviceId, data: &str, timestamp: &Timestamp) -> Response {
    let mut json = envelope(device);
    json.push_str(data);
    let _ = write!(json, ",\"timestamp\":\"{timestamp}\"}}");
    json_response(json)
}
