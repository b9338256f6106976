//! One live connection of a device or module, as a transport holds it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Hub;
use super::authentication::AuthMethod;
use super::direct_method::MethodAnswer;
use super::error::{ErrorCode, HubError};
use super::identity::{Identity, Locked};
use super::identity_id::IdentityId;
use super::mailbox::Mailbox;
use super::message_queue::LockedMessage;
use super::telemetry_message::TelemetryMessage;

/// The largest message to the cloud.
const TELEMETRY_BYTES_MAX: usize = 256 * 1024;

/// What a device is given.
#[derive(Clone, Debug, PartialEq)]
pub enum ToDevice {
    /// A direct method was called; see [`DeviceLink::answer_method`].
    Method {
        /// Opaque; names the call.
        request_id: String,
        /// The method.
        name: String,
        /// JSON text.
        payload: Bytes,
    },
    /// The desired properties have changed.
    DesiredProperties {
        /// Their `$version` from now on.
        version: u64,
        /// What changed, with `null` for what was removed; without `$version`.
        patch: Map<String, Value>,
    },
    /// A message from the cloud; see [`DeviceLink::complete_message`].
    Message(LockedMessage),
    /// The connection has ended. Nothing else follows.
    End(EndReason),
}

/// Why the hub ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The identity has connected anew.
    Evicted,
    /// The identity was deleted.
    Deleted,
    /// The identity was disabled.
    Disabled,
    /// The connection did not take what it was given.
    Stuck,
    /// A fault switch was used.
    Fault,
}

/// What a device can listen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Direct methods. Without it, the device counts as not online for them.
    Methods,
    /// Changes of desired properties.
    DesiredProperties,
    /// Messages from the cloud. Those that wait are given at once.
    Messages,
}

/// One live connection of an identity. When it is dropped, the identity is disconnected, and calls of direct methods
/// that are under way fail.
///
/// Once the hub has ended the connection (the identity connected anew, was deleted, ..), [`DeviceLink::next`] gives
/// [`ToDevice::End`], and everything else is refused.
#[derive(Debug)]
pub struct DeviceLink {
    hub: Arc<Hub>,
    identity: Arc<Identity>,
    link_id: u64,
    mailbox: Arc<Mailbox>,
}

impl DeviceLink {
    pub(super) fn new(
        hub: Arc<Hub>,
        identity: Arc<Identity>,
        auth_method: AuthMethod,
    ) -> Result<Self, HubError> {
        let link_id = hub.next_link_id();
        let mailbox = {
            let mut locked = identity.lock(&hub)?;
            if locked.state.registration.status == super::IdentityStatus::Disabled {
                return Err(HubError::new(
                    ErrorCode::DeviceDisabled,
                    format!("'{}' is disabled", identity.id),
                ));
            }
            locked.connect(link_id, auth_method)
        };
        Ok(Self {
            hub,
            identity,
            link_id,
            mailbox,
        })
    }

    /// Who is connected.
    pub fn id(&self) -> &IdentityId {
        &self.identity.id
    }

    /// Decimal digits; others when an identity of the same id is created anew.
    pub fn generation_id(&self) -> &str {
        &self.identity.generation_id
    }

    /// What comes next for the device. When the future is dropped, nothing is lost.
    pub async fn next(&mut self) -> ToDevice {
        self.mailbox.next().await
    }

    /// Begins or stops to listen; a new connection listens for nothing.
    pub fn listen(&self, what: Listen, on: bool) -> Result<(), HubError> {
        self.with(|locked| {
            let connection = locked.state.connection.as_mut().expect("it is this link's");
            match what {
                Listen::Methods => connection.listening.methods = on,
                Listen::DesiredProperties => connection.listening.desired_properties = on,
                Listen::Messages => connection.listening.messages = on,
            }
            if what == Listen::Messages && on {
                locked.announce_connection();
                locked.deliver_messages();
            }
        })?;
        if what == Listen::Methods && on {
            self.identity.reachable.notify_waiters();
        }
        Ok(())
    }

    /// Takes down which model a Plug-and-Play device implements; its twin tells.
    pub fn tell_model(&self, model_id: &str) -> Result<(), HubError> {
        self.with(|locked| locked.state.model_id = Some(model_id.to_owned()))
    }

    /// Publishes a message, stamped with who sent it.
    pub fn send_telemetry(&self, message: TelemetryMessage) -> Result<(), HubError> {
        if is_too_large(&message) {
            return Err(too_large());
        }
        self.with(|locked| locked.publish_telemetry(message))
    }

    /// Sets what is published when this connection ends, however that comes about; `None` takes it back.
    pub fn set_will(&self, will: Option<TelemetryMessage>) -> Result<(), HubError> {
        if will.as_ref().is_some_and(is_too_large) {
            return Err(too_large());
        }
        self.with(|locked| {
            let connection = locked.state.connection.as_mut().expect("it is this link's");
            connection.will = will;
        })
    }

    /// Answers a call. An answer that comes too late, or to no call, is ignored; one that is not JSON or too large fails
    /// the call. No payload at all means `null`.
    pub fn answer_method(
        &self,
        request_id: &str,
        status: i64,
        payload: Bytes,
    ) -> Result<(), HubError> {
        let payload = if payload.is_empty() {
            Bytes::from_static(b"null")
        } else {
            payload
        };
        self.with(|locked| {
            locked.note_activity();
            let connection = locked.state.connection.as_mut().expect("it is this link's");
            if let Some(caller) = connection.calls.remove(request_id) {
                // The caller may have given up in this moment.
                let _ = caller.send(MethodAnswer { status, payload });
            }
        })
    }

    /// Forgets a message that the device has taken. What is not completed is given again to the next connection.
    pub fn complete_message(&self, lock_token: u64) -> Result<(), HubError> {
        self.with(|locked| locked.state.messages.complete(lock_token))?
    }

    /// Desired and reported properties, `{"desired": {.., "$version"}, "reported": {.., "$version"}}`.
    pub fn twin(&self) -> Result<Value, HubError> {
        self.with(|locked| locked.state.twin.device_document())
    }

    /// Merges a JSON text into the reported properties and returns their `$version`.
    pub fn report(&self, patch: &[u8]) -> Result<u64, HubError> {
        let patch: Map<String, Value> = serde_json::from_slice(patch)
            .map_err(|_| HubError::invalid("reported properties must be a JSON object"))?;
        self.with(|locked| {
            let change = locked.state.twin.report(&patch, locked.now_ms)?;
            locked.note_activity();
            locked.twin_changed(change);
            Ok(locked.state.twin.reported_version())
        })?
    }

    /// Does something while this is the identity's connection.
    fn with<T>(&self, act: impl FnOnce(&mut Locked<'_>) -> T) -> Result<T, HubError> {
        let mut locked = self.identity.lock(&self.hub)?;
        match &locked.state.connection {
            Some(connection) if connection.link_id == self.link_id => Ok(act(&mut locked)),
            _ => Err(HubError::new(
                ErrorCode::DeviceConnectionClosedRemotely,
                "the connection has ended",
            )),
        }
    }
}

impl Drop for DeviceLink {
    fn drop(&mut self) {
        // Refused when another connection has taken its place, or the identity is gone: both have told of it.
        let _ = self.with(|locked| drop(locked.disconnect()));
    }
}

fn is_too_large(message: &TelemetryMessage) -> bool {
    message.size_bytes() > TELEMETRY_BYTES_MAX
}

fn too_large() -> HubError {
    HubError::new(ErrorCode::MessageTooLarge, "a message may have 256 KB")
}
