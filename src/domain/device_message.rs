//! What comes in: one message about one device, as `ingest` decoded it.

use super::connection_state::ConnectionSequence;
use super::id::DeviceId;
use super::raw_json::RawJson;
use super::telemetry::Telemetry;
use super::time::Timestamp;

/// One message about one device.
#[derive(Clone, Debug)]
pub struct DeviceMessage {
    /// The device, or module of one, that it is about.
    pub device_id: DeviceId,
    /// Its time, by the order of precedence of the ux4iot documentation.
    pub timestamp: Timestamp,
    /// What it says.
    pub content: Content,
}

/// What a device message says.
#[derive(Clone, Debug)]
pub enum Content {
    /// The device sent data.
    Telemetry(TelemetryMessage),
    /// The hub saw the device connect or disconnect.
    ConnectionState {
        /// Whether it is connected.
        connected: bool,
        /// The event's place among those of the device, if it tells.
        sequence: Option<ConnectionSequence>,
    },
    /// The hub saw the device's twin change.
    Twin(TwinEvent),
}

impl Content {
    /// Reads a little of it, for nothing but that it is then at hand.
    pub(super) fn prefetch(&self) {
        if let Self::Telemetry(TelemetryMessage {
            telemetry: Some(telemetry),
            ..
        }) = self
        {
            telemetry.prefetch();
        }
    }
}

/// Data that a device sent. Its parts are published in this order.
#[derive(Clone, Debug, Default)]
pub struct TelemetryMessage {
    /// The top-level members of an object body, without the envelope members that were used.
    pub telemetry: Option<Telemetry>,
    /// What the message says about the device being connected.
    pub connection_state: Option<bool>,
    /// The complete decoded body, for subscribers of D2C messages.
    pub message: MessageText,
}

/// The complete body of a message. Few are subscribed to, so nothing is made of it before somebody wants it.
#[derive(Clone, Debug, Default)]
pub enum MessageText {
    /// Not to be shown with this message: the body is about others as well.
    #[default]
    Absent,
    /// The text that the message's telemetry was found in.
    OfTelemetry,
    /// A text of its own.
    Own(RawJson),
}

impl TelemetryMessage {
    /// The complete decoded body, unless it is not to be shown.
    pub fn text(&self) -> Option<RawJson> {
        match &self.message {
            MessageText::Absent => None,
            MessageText::OfTelemetry => self.telemetry.as_ref()?.text(),
            MessageText::Own(text) => Some(text.clone()),
        }
    }
}

/// A change of a device's twin.
#[derive(Clone, Debug)]
pub struct TwinEvent {
    /// How much of the twin the body holds.
    pub kind: TwinEventKind,
    /// The event's body: a JSON object.
    pub body: RawJson,
}

/// How much of the twin a twin event holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinEventKind {
    /// What changed; `null` removes.
    Update,
    /// All of it.
    Replace,
}
