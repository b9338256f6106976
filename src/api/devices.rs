//! Connection states and twins of devices: as they are known here, and otherwise as the IoT hub tells them.

use std::fmt::Write as _;

use axum::extract;
use axum::response::Response;

use super::State;
use super::auth::Reader;
use super::error::Error;
use super::json_response;
use super::last_values::envelope;
use super::path::DevicePath;
use crate::domain::grant::Access;
use crate::domain::id::DeviceId;
use crate::domain::time::Timestamp;
use crate::domain::twin_view::TwinView;
use crate::relay::TwinReadError;

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
    if let Some(known) = state.relay.connection_state(&device).await {
        return Ok(connection_response(
            &device,
            known.value,
            &known.stamp.timestamp,
        ));
    }
    if state.config.decoding.custom_connection_state_key.is_some() {
        // Telemetry alone decides; the hub knows of another kind of connection.
        return Err(Error::NoDevice);
    }
    let read = state.relay.read_twin(&device, reader.session()).await;
    let read =
        read.map_err(|error| unread(error, Error::ConnectionStateNeedsHub, Error::NoDevice))?;
    // The hub may have taken its time, and a revocation meanwhile been answered.
    state
        .check_read(&reader, &device, &Access::ConnectionState)
        .await?;
    let timestamp = read.last_activity.unwrap_or_else(|| state.now());
    Ok(connection_response(&device, read.connected, &timestamp))
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
    let (twin, timestamp) = if let Some(known) = state.relay.device_twin(&device).await {
        (known.value, known.stamp.timestamp)
    } else {
        let read = state.relay.read_twin(&device, reader.session()).await;
        let read =
            read.map_err(|error| unread(error, Error::DeviceTwinNeedsHub, Error::NoDeviceTwin))?;
        (read.twin, state.now())
    };
    // What may be seen is what is granted now: the hub may have taken its time.
    let view = match reader {
        Reader::Admin => TwinView::Whole,
        Reader::Session(session) => {
            let view = state.relay.twin_view(session, &device).await?;
            view.ok_or(Error::ReadNotGranted)?
        }
    };
    let seen = view.cut(&twin);
    Ok(device_response(&device, seen.as_str(), &timestamp))
}

/// The answer when the hub could not be read: what is read says how it is put that there is no hub, or no such device.
fn unread(error: TwinReadError, without_hub: Error, unknown: Error) -> Error {
    match error {
        TwinReadError::Disabled => without_hub,
        TwinReadError::NoSuchDevice => unknown,
        TwinReadError::Throttled { retry_after_s } => Error::HubThrottled { retry_after_s },
        TwinReadError::Unavailable => Error::HubFailed,
    }
}

fn connection_response(device: &DeviceId, connected: bool, timestamp: &Timestamp) -> Response {
    let connected = if connected { "true" } else { "false" };
    device_response(device, connected, timestamp)
}

fn device_response(device: &DeviceId, data: &str, timestamp: &Timestamp) -> Response {
    let mut json = envelope(device);
    json.push_str(data);
    let _ = write!(json, ",\"timestamp\":\"{timestamp}\"}}");
    json_response(json)
}
