//! One registered device or module: what the registry says of it, its twin, its connection, what waits for it.
//!
//! All of it changes under one lock, and what a change gives to tell is published before the lock is let go, so the
//! events of one identity are in the order of its changes. The lock is never held across an await.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, Semaphore};

use super::Hub;
use super::authentication::Authentication;
use super::built_in_endpoint::{TwinOperation, timestamp_text};
use super::connection::Connection;
use super::connection_sequence::ConnectionSequence;
use super::device_link::ToDevice;
use super::direct_method::PENDING_CALLS_MAX;
use super::error::{ErrorCode, HubError};
use super::identity_id::IdentityId;
use super::message_queue::MessageQueue;
use super::twin::{DesiredPatch, Twin, TwinChange, etag_text};

/// Whether an identity may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentityStatus {
    /// It may.
    #[default]
    Enabled,
    /// It may not.
    Disabled,
}

impl IdentityStatus {
    /// `enabled` or `disabled`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

/// What the registry says of an identity. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct IdentityDescription {
    /// Its id.
    pub id: IdentityId,
    /// Decimal digits; others when an identity of the same id is created anew.
    pub generation_id: String,
    /// Another one after each change of the registration; without quotes.
    pub etag: String,
    /// Whether it may connect.
    pub status: IdentityStatus,
    /// Why not, in the words of whoever set the status.
    pub status_reason: Option<String>,
    /// When the status was last set.
    pub status_updated_ms: Option<i64>,
    /// What it is registered with.
    pub authentication: Authentication,
    /// Whether it is connected.
    pub is_connected: bool,
    /// When it last connected or disconnected.
    pub connection_updated_ms: Option<i64>,
    /// When it last connected or sent something.
    pub last_activity_ms: Option<i64>,
    /// How many messages from the cloud wait for it.
    pub message_count: usize,
}

#[derive(Debug)]
pub(super) struct Identity {
    pub(super) id: IdentityId,
    pub(super) generation_id: String,
    /// Places for calls of direct methods.
    pub(super) call_places: Arc<Semaphore>,
    /// Woken when it may have begun to listen for direct methods, or is gone.
    pub(super) reachable: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) is_deleted: bool,
    pub(super) registration: Registration,
    pub(super) twin: Twin,
    pub(super) connection: Option<Connection>,
    pub(super) messages: MessageQueue,
    /// What a Plug-and-Play device has said that it is.
    pub(super) model_id: Option<String>,
    pub(super) connection_sequence: ConnectionSequence,
    pub(super) connection_updated_ms: Option<i64>,
    pub(super) last_activity_ms: Option<i64>,
}

/// What the registry's users set.
#[derive(Debug)]
pub(super) struct Registration {
    /// Counts the changes.
    pub(super) etag: u64,
    pub(super) status: IdentityStatus,
    pub(super) status_reason: Option<String>,
    pub(super) status_updated_ms: Option<i64>,
    pub(super) authentication: Authentication,
}

impl Registration {
    pub(super) fn etag_text(&self) -> String {
        etag_text(self.etag)
    }
}

impl Identity {
    pub(super) fn new(
        id: IdentityId,
        generation_id: String,
        registration: Registration,
        now_ms: i64,
    ) -> Self {
        Self {
            id,
            generation_id,
            call_places: Arc::new(Semaphore::new(PENDING_CALLS_MAX)),
            reachable: Notify::new(),
            state: Mutex::new(State {
                is_deleted: false,
                registration,
                twin: Twin::new(now_ms),
                connection: None,
                messages: MessageQueue::default(),
                model_id: None,
                connection_sequence: ConnectionSequence::default(),
                connection_updated_ms: None,
                last_activity_ms: None,
            }),
        }
    }

    /// Locks the identity for one change at a time; refused once it is deleted.
    pub(super) fn lock<'a>(&'a self, hub: &'a Hub) -> Result<Locked<'a>, HubError> {
        let state = self.state.lock();
        if state.is_deleted {
            return Err(not_found(&self.id));
        }
        Ok(Locked {
            identity: self,
            hub,
            now_ms: hub.clock.now_ms(),
            state,
        })
    }
}

pub(super) fn not_found(id: &IdentityId) -> HubError {
    match id.module_id() {
        None => HubError::new(
            ErrorCode::DeviceNotFound,
            format!("device '{}' is not registered", id.device_id()),
        ),
        Some(module_id) => HubError::new(
            ErrorCode::ModuleNotFound,
            format!(
                "module '{module_id}' is not registered on device '{}'",
                id.device_id()
            ),
        ),
    }
}

/// An identity that is being read or changed.
pub(super) struct Locked<'a> {
    pub(super) identity: &'a Identity,
    pub(super) hub: &'a Hub,
    /// The time of the change.
    pub(super) now_ms: i64,
    pub(super) state: MutexGuard<'a, State>,
}

impl Locked<'_> {
    pub(super) fn description(&self) -> IdentityDescription {
        let State {
            registration,
            connection,
            messages,
            ..
        } = &*self.state;
        IdentityDescription {
            id: self.identity.id.clone(),
            generation_id: self.identity.generation_id.clone(),
            etag: registration.etag_text(),
            status: registration.status,
            status_reason: registration.status_reason.clone(),
            status_updated_ms: registration.status_updated_ms,
            authentication: registration.authentication.clone(),
            is_connected: connection.is_some(),
            connection_updated_ms: self.state.connection_updated_ms,
            last_activity_ms: self.state.last_activity_ms,
            message_count: messages.len(),
        }
    }

    /// The twin document as a service reads it.
    pub(super) fn twin_document(&self) -> Value {
        let State {
            registration,
            connection,
            messages,
            twin,
            model_id,
            ..
        } = &*self.state;
        let (kind, thumbprints) = match &registration.authentication {
            Authentication::Sas(_) => ("sas", (None, None)),
            Authentication::SelfSigned(thumbprints) => (
                "selfSigned",
                (thumbprints.primary.clone(), thumbprints.secondary.clone()),
            ),
        };
        let mut document = self.named_twin();
        document.extend(members(json!({
            "deviceEtag": registration.etag_text(),
            "status": registration.status.text(),
            "statusUpdateTime": time_text(registration.status_updated_ms),
            "connectionState": connection_state(connection.is_some()),
            "lastActivityTime": time_text(self.state.last_activity_ms),
            "cloudToDeviceMessageCount": messages.len(),
            "authenticationType": kind,
            "x509Thumbprint": {
                "primaryThumbprint": thumbprints.0,
                "secondaryThumbprint": thumbprints.1,
            },
            "modelId": model_id.as_deref().unwrap_or_default(),
            "capabilities": { "iotEdge": false },
        })));
        if let Some(reason) = &registration.status_reason {
            document.insert("statusReason".to_owned(), reason.clone().into());
        }
        document.extend(twin.document());
        document.into()
    }

    /// The twin as events hold it: with its id and without what the registry adds.
    pub(super) fn twin_event_body(&self) -> Value {
        let mut document = self.named_twin();
        document.extend(self.state.twin.document());
        document.into()
    }

    fn named_twin(&self) -> Map<String, Value> {
        let mut document = Map::new();
        let id = &self.identity.id;
        document.insert("deviceId".to_owned(), id.device_id().into());
        if let Some(module_id) = id.module_id() {
            document.insert("moduleId".to_owned(), module_id.into());
        }
        document
    }

    /// Tells of a change of the twin that has just been made.
    pub(super) fn twin_changed(&mut self, change: TwinChange) {
        let TwinChange {
            event_body,
            desired,
        } = change;
        self.publish_twin(TwinOperation::Update, &event_body);
        if let Some(desired) = desired {
            self.notify_device(desired);
        }
    }

    /// Tells of a twin that has just been replaced.
    pub(super) fn twin_replaced(&mut self, desired: DesiredPatch) {
        let body = self.twin_event_body();
        self.publish_twin(TwinOperation::Replace, &body);
        self.notify_device(desired);
    }

    fn publish_twin(&self, operation: TwinOperation, body: &Value) {
        self.hub
            .endpoint
            .twin_change(&self.identity.id, operation, body, self.now_ms);
    }

    fn notify_device(&mut self, DesiredPatch { version, patch }: DesiredPatch) {
        let is_listening = self
            .state
            .connection
            .as_ref()
            .is_some_and(|connection| connection.listening.desired_properties);
        if is_listening {
            self.post(ToDevice::DesiredProperties { version, patch });
        }
    }

    pub(super) fn note_activity(&mut self) {
        self.state.last_activity_ms = Some(self.now_ms);
    }
}

/// `Connected` or `Disconnected`.
pub(crate) fn connection_state(is_connected: bool) -> &'static str {
    if is_connected {
        "Connected"
    } else {
        "Disconnected"
    }
}

/// A time as the registry tells it; the first of January of year 1 means never.
pub(crate) fn time_text(at_ms: Option<i64>) -> String {
    at_ms.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), timestamp_text)
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => unreachable!("built as an object"),
    }
}
