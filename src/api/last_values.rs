//! Last values: the newest value of each telemetry key of a device, written as the device wrote it.
//!
//! The two forms of an answer differ on purpose. With a key in the path a value stands by itself; without one each
//! value is wrapped with its time, in an object of exactly two members, by which ux4iot's client recognises it.

use std::fmt::Write as _;

use axum::extract;
use axum::response::Response;

use super::State;
use super::auth::Reader;
use super::error::Error;
use super::json_response;
use super::path::DevicePath;
use crate::domain::grant::Access;
use crate::domain::id::{DeviceId, TelemetryKey};
use crate::domain::last_value::LastValue;
use crate::domain::subscription::Selection;

/// `GET /lastValue/:deviceId/:telemetryKey?`.
pub(super) async fn get(
    reader: Reader,
    extract::State(state): extract::State<State>,
    DevicePath { device, key }: DevicePath,
) -> Result<Response, Error> {
    match key {
        Some(key) => get_one(&state, &reader, &device, key).await,
        None => get_all(&state, &reader, &device).await,
    }
}

/// `DELETE /lastValue/:deviceId/:telemetryKey?`. Answers with what was removed. It changes what everybody sees, so a
/// session needs the grant for every key of the device even when only one is named.
pub(super) async fn delete(
    reader: Reader,
    extract::State(state): extract::State<State>,
    DevicePath { device, key }: DevicePath,
) -> Result<Response, Error> {
    state
        .check_read(&reader, &device, &Access::Telemetry(None))
        .await?;
    let removed = state.relay.delete_last_values(&device, key.as_ref()).await;
    Ok(wrapped(&device, &removed))
}

async fn get_one(
    state: &State,
    reader: &Reader,
    device: &DeviceId,
    key: TelemetryKey,
) -> Result<Response, Error> {
    let needed = Access::Telemetry(Some(key.as_str()));
    state.check_read(reader, device, &needed).await?;
    let last = state
        .relay
        .last_value(device, &key)
        .await
        .ok_or(Error::NoLastTelemetry)?;
    let mut json = envelope(device);
    json.push('{');
    push_string(&mut json, last.key.as_str());
    json.push(':');
    json.push_str(last.value.as_str());
    let _ = write!(json, "}},\"timestamp\":\"{}\"}}", last.stamp.timestamp);
    Ok(json_response(json))
}

/// A session sees the keys it was granted. A device that never sent anything has no values, which is not an error:
/// ux4iot's client would never subscribe after a 404.
async fn get_all(state: &State, reader: &Reader, device: &DeviceId) -> Result<Response, Error> {
    let visible = match reader {
        Reader::Admin => Selection {
            all: true,
            ..Selection::default()
        },
        Reader::Session(session) => state.relay.telemetry_access(*session, device).await?,
    };
    if visible.is_empty() {
        return Err(Error::ReadNotGranted);
    }
    let mut values = state.relay.last_values(device).await;
    values.retain(|last| visible.covers(Some(last.key.as_str())));
    Ok(wrapped(device, &values))
}

fn wrapped(device: &DeviceId, values: &[LastValue]) -> Response {
    let mut json = envelope(device);
    json.push('{');
    for (place, last) in values.iter().enumerate() {
        if place > 0 {
            json.push(',');
        }
        push_string(&mut json, last.key.as_str());
        json.push_str(":{\"value\":");
        json.push_str(last.value.as_str());
        let _ = write!(json, ",\"timestamp\":\"{}\"}}", last.stamp.timestamp);
    }
    json.push_str("},\"timestamp\":\"\"}");
    json_response(json)
}

/// The start of an answer about a device, or a module of one, up to the value of `data`.
pub(super) fn envelope(device: &DeviceId) -> String {
    let mut json = String::from("{\"deviceId\":");
    push_string(&mut json, device.as_str());
    if let Some(module) = device.module() {
        json.push_str(",\"moduleId\":");
        push_string(&mut json, module);
    }
    json.push_str(",\"data\":");
    json
}

fn push_string(json: &mut String, text: &str) {
    json.push_str(&serde_json::to_string(text).expect("a string can be written as JSON"));
}
