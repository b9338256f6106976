//! The live connection of an identity: how it begins, what it is given, what is told of it, how it ends.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::authentication::AuthMethod;
use super::built_in_endpoint::{ConnectionChange, Sender};
use super::device_link::{EndReason, ToDevice};
use super::direct_method::MethodAnswer;
use super::identity::Locked;
use super::mailbox::Mailbox;
use super::telemetry_message::TelemetryMessage;

/// The live connection of an identity.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link_id: u64,
    pub(super) auth_method: AuthMethod,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) listening: Listening,
    /// Whether its event was published: the hub tells of a connection once it is used.
    is_announced: bool,
    /// What is published when the connection ends.
    pub(super) will: Option<TelemetryMessage>,
    /// Direct methods that the device was given and has not answered, by request id.
    pub(super) calls: HashMap<String, oneshot::Sender<MethodAnswer>>,
}

/// What a connection wants to be given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Listening {
    pub(super) methods: bool,
    pub(super) desired_properties: bool,
    pub(super) messages: bool,
}

impl Locked<'_> {
    /// Gives the connection something, if there is one; one that has let its mailbox fill up is ended instead.
    pub(super) fn post(&mut self, item: ToDevice) {
        if let Some(connection) = &self.state.connection
            && connection.mailbox.post(item).is_err()
        {
            self.end_connection(EndReason::Stuck);
        }
    }

    /// Gives the connection all messages that wait, if it listens for them.
    pub(super) fn deliver_messages(&mut self) {
        while let Some(connection) = &self.state.connection
            && connection.listening.messages
            && let Some(locked) = self.state.messages.lock_next(self.now_ms)
        {
            self.post(ToDevice::Message(locked));
        }
    }

    /// Replaces the connection by a new one.
    pub(super) fn connect(&mut self, link_id: u64, auth_method: AuthMethod) -> Arc<Mailbox> {
        self.end_connection(EndReason::Evicted);
        let mailbox = Arc::<Mailbox>::default();
        self.state.connection = Some(Connection {
            link_id,
            auth_method,
            mailbox: Arc::clone(&mailbox),
            listening: Listening::default(),
            is_announced: false,
            will: None,
            calls: HashMap::new(),
        });
        self.state.connection_updated_ms = Some(self.now_ms);
        self.state.last_activity_ms = Some(self.now_ms);
        mailbox
    }

    /// Publishes that the identity is connected, once for each connection. IoT Hub does so when the device sends
    /// telemetry or asks for messages from the cloud for the first time.
    pub(super) fn announce_connection(&mut self) {
        let Some(connection) = &mut self.state.connection else {
            return;
        };
        if !std::mem::replace(&mut connection.is_announced, true) {
            self.publish_connection(ConnectionChange::Connected);
        }
    }

    /// Ends the connection, if there is one, and tells its link why.
    pub(super) fn end_connection(&mut self, reason: EndReason) {
        if let Some(connection) = self.disconnect() {
            connection.mailbox.end(reason);
        }
    }

    /// Takes the connection away, if there is one. Its will is published, the calls under way fail; messages that it
    /// has not completed wait again.
    pub(super) fn disconnect(&mut self) -> Option<Connection> {
        if let Some(will) = self.state.connection.as_mut()?.will.take() {
            self.publish_telemetry(will);
        }
        let connection = self.state.connection.take()?;
        self.state.messages.unlock_all();
        self.state.connection_updated_ms = Some(self.now_ms);
        if connection.is_announced {
            self.publish_connection(ConnectionChange::Disconnected);
        }
        Some(connection)
    }

    /// Publishes a message of the connection, stamped with who sent it.
    pub(super) fn publish_telemetry(&mut self, message: TelemetryMessage) {
        self.announce_connection();
        self.note_activity();
        if let Some(connection) = &self.state.connection {
            let sender = Sender {
                id: &self.identity.id,
                generation_id: &self.identity.generation_id,
                auth_method: connection.auth_method,
            };
            self.hub.endpoint.telemetry(sender, message, self.now_ms);
        }
    }

    fn publish_connection(&mut self, change: ConnectionChange) {
        let number = self.state.connection_sequence.next(self.now_ms);
        self.hub
            .endpoint
            .connection_state(&self.identity.id, change, number, self.now_ms);
    }
}
