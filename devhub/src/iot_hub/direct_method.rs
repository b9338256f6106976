//! Calls of direct methods: one request to a connected device, one answer, both within their time-outs.
//!
//! A call is given to the device at most once and never queued beyond its connect time-out. See "Understand and invoke
//! direct methods from IoT Hub" in the Azure documentation.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::Hub;
use super::device_link::ToDevice;
use super::error::{ErrorCode, HubError};
use super::identity::Identity;

/// How many calls of one identity may be under way, those included that wait for it to connect.
pub(super) const PENDING_CALLS_MAX: usize = 128;

/// The longest name. It stands in a topic, which can neither be of any length nor hold a NUL: a device would lose its
/// connection for the name that a caller chose.
const NAME_BYTES_MAX: usize = 1024;

/// The largest payload, of a call as of an answer.
const PAYLOAD_BYTES_MAX: usize = 128 * 1024;

const RESPONSE_TIMEOUT_S: RangeInclusive<u64> = 5..=300;
const CONNECT_TIMEOUT_S: RangeInclusive<u64> = 0..=300;

/// What is asked of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodCall {
    pub(super) name: String,
    pub(super) payload: Bytes,
    pub(super) response_timeout: Duration,
    pub(super) connect_timeout: Duration,
}

impl MethodCall {
    /// A call with a payload of JSON text; refused when the payload is not JSON or too large, the name no name, or a time-out out of
    /// range.
    pub fn new(
        name: impl Into<String>,
        payload: Bytes,
        response_timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, HubError> {
        let name = name.into();
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(HubError::invalid(
                "methodName must have 1 to 1024 bytes and no control characters",
            ));
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(HubError::new(
                ErrorCode::MessageTooLarge,
                "payload may have 128 KB",
            ));
        }
        if !is_json(&payload) {
            return Err(HubError::invalid("payload must be JSON"));
        }
        if !RESPONSE_TIMEOUT_S.contains(&response_timeout.as_secs()) {
            return Err(HubError::invalid(
                "responseTimeoutInSeconds must be from 5 to 300",
            ));
        }
        if !CONNECT_TIMEOUT_S.contains(&connect_timeout.as_secs()) {
            return Err(HubError::invalid(
                "connectTimeoutInSeconds must be from 0 to 300",
            ));
        }
        Ok(Self {
            name,
            payload,
            response_timeout,
            connect_timeout,
        })
    }
}

/// What a device answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodAnswer {
    /// Chosen by the device.
    pub status: i64,
    /// JSON text.
    pub payload: Bytes,
}

/// Calls a method and waits for the answer. When the future is dropped the call is forgotten, though the device may
/// still carry it out.
pub(super) async fn invoke(
    hub: &Hub,
    identity: &Arc<Identity>,
    call: MethodCall,
) -> Result<MethodAnswer, HubError> {
    let _place = identity.call_places.try_acquire().map_err(|_| {
        HubError::new(
            ErrorCode::DeviceMaximumInflightMethodExceeded,
            "too many direct methods are under way",
        )
    })?;
    let (connect_timeout, response_timeout) = (call.connect_timeout, call.response_timeout);
    let waits_until = Instant::now() + connect_timeout;
    let pending = loop {
        let reachable = identity.reachable.notified();
        if let Some(pending) = give(hub, identity, &call)? {
            break pending;
        }
        if timeout_at(waits_until, reachable).await.is_err() {
            return Err(not_online(connect_timeout));
        }
    };
    let answer = pending.answered(response_timeout).await?;
    if answer.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(HubError::new(
            ErrorCode::BadDeviceResponse,
            "the device's answer is larger than 128 KB",
        ));
    }
    if !is_json(&answer.payload) {
        return Err(HubError::new(
            ErrorCode::BadDeviceResponse,
            "the device's answer is not JSON",
        ));
    }
    Ok(answer)
}

/// Gives the call to the device, if that listens for direct methods now.
fn give<'a>(
    hub: &'a Hub,
    identity: &'a Identity,
    call: &MethodCall,
) -> Result<Option<PendingCall<'a>>, HubError> {
    let mut locked = identity.lock(hub)?;
    let Some(connection) = &mut locked.state.connection else {
        return Ok(None);
    };
    if !connection.listening.methods {
        return Ok(None);
    }
    let request_id = hub.next_request_id();
    let (caller, answer) = oneshot::channel();
    connection.calls.insert(request_id.clone(), caller);
    locked.post(ToDevice::Method {
        request_id: request_id.clone(),
        name: call.name.clone(),
        payload: call.payload.clone(),
    });
    Ok(Some(PendingCall {
        hub,
        identity,
        request_id,
        answer,
    }))
}

/// A call that the device was given. When it is dropped, an answer is not waited for any more.
struct PendingCall<'a> {
    hub: &'a Hub,
    identity: &'a Identity,
    request_id: String,
    answer: oneshot::Receiver<MethodAnswer>,
}

impl PendingCall<'_> {
    async fn answered(mut self, response_timeout: Duration) -> Result<MethodAnswer, HubError> {
        match timeout(response_timeout, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(HubError::new(
                ErrorCode::DeviceConnectionClosedRemotely,
                "the device's connection was closed during the call",
            )),
            Err(_) => Err(HubError::new(
                ErrorCode::GatewayTimeout,
                "Timed out waiting for the response from device.",
            )
            .after(response_timeout)),
        }
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        if let Ok(mut locked) = self.identity.lock(self.hub)
            && let Some(connection) = &mut locked.state.connection
        {
            connection.calls.remove(&self.request_id);
        }
    }
}

fn not_online(waited: Duration) -> HubError {
    HubError::new(
        ErrorCode::DeviceNotOnline,
        "The operation failed because the requested device isn't online. To learn more, see \
         https://aka.ms/iothub404103",
    )
    .after(waited)
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}
