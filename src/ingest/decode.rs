//! From one event of an event hub to device messages, or to a counted reason why there is none.
//!
//! Follows the documented rules of ux4iot for classification, device id, time and connection state. It is pure: no I/O,
//! no clock. Values are never parsed, only found: every part of a result is a slice of one shared copy of the body, so
//! integers of any size and members of any kind pass through as they were written. A body costs at most a small
//! multiple of its bounded size, however it is made up.
//!
//! Not done: `content-encoding` gzip and deflate. Such a body is not UTF-8 and arrives as base64 text at subscribers of
//! D2C messages.

mod class;
mod device_ids;
mod json;
mod layouts;
mod properties;
mod tally;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use self::class::Class;
use self::device_ids::DeviceIds;
use self::json::{Kind, Unusable};
use self::layouts::{Layouts, Taken};
pub use self::properties::{Properties, Property};
pub use self::tally::{DropReason, Tally};
use crate::config::DecodingConfig;
use crate::domain::connection_state::ConnectionSequence;
use crate::domain::device_message::{
    Content, DeviceMessage, MessageText, TelemetryMessage, TwinEvent,
};
use crate::domain::id::{DeviceId, DeviceName};
use crate::domain::raw_json::{RawJson, Span};
use crate::domain::time::Timestamp;

/// One event as it came: what its property bags say, and its body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    /// Message annotations, where IoT Hub writes.
    pub annotations: Properties<'a>,
    /// Application properties, where senders write.
    pub application_properties: Properties<'a>,
    /// The data section.
    pub body: &'a [u8],
}

/// Decodes events one after the other and keeps count.
#[derive(Debug)]
pub struct Decoder {
    options: DecodingConfig,
    device_ids: DeviceIds,
    tally: Tally,
    layouts: Layouts,
    elements: Vec<Span>,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new(options: DecodingConfig) -> Self {
        Self {
            options,
            device_ids: DeviceIds::default(),
            tally: Tally::default(),
            layouts: Layouts::default(),
            elements: Vec::new(),
        }
    }

    /// Appends the device messages of one event to `messages`: usually one, none when it is dropped, several when the
    /// body is an array. `consumed_unix_ms` is the time of messages that carry none.
    pub fn decode(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
        messages: &mut Vec<DeviceMessage>,
    ) {
        let class = class::classify(event, self.may_claim());
        self.tally.count(class, event.body.len());
        let decoded = match class {
            Class::Ignored(_) => Ok(()),
            _ if event.body.len() > self.options.message_bytes_max => Err(DropReason::TooLarge),
            Class::Telemetry => self.telemetry(event, consumed_unix_ms, messages),
            Class::ConnectionState => self
                .connection_state(event, consumed_unix_ms)
                .map(|message| messages.push(message)),
            Class::Twin => self
                .twin(event, consumed_unix_ms)
                .map(|message| messages.push(message)),
        };
        if let Err(reason) = decoded {
            self.tally.drop(reason);
        }
    }

    /// What was counted since the last call.
    pub fn take_tally(&mut self) -> Tally {
        self.tally.take()
    }

    fn connection_state(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
    ) -> Result<DeviceMessage, DropReason> {
        if self.options.custom_connection_state_key.is_some() {
            return Err(DropReason::ConnectionStateUnused);
        }
        let connected = class::connection_state(event).ok_or(DropReason::UnknownOperation)?;
        Ok(DeviceMessage {
            device_id: self.envelope_device_id(event, Class::ConnectionState)?,
            timestamp: hub_event_time(event, consumed_unix_ms),
            content: Content::ConnectionState {
                connected,
                // Numbers of a sender's own could put the hub's out of use.
                sequence: connection_sequence(event.body).filter(|_| !class::is_by_a_device(event)),
            },
        })
    }

    fn twin(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
    ) -> Result<DeviceMessage, DropReason> {
        let kind = class::twin_event_kind(event).ok_or(DropReason::UnknownOperation)?;
        let text = std::str::from_utf8(event.body)
            .map_err(|_| DropReason::Undecodable)?
            .trim_ascii();
        if json::kind(text) != Kind::Object {
            return Err(DropReason::Undecodable);
        }
        json::validate(text, self.options.json_depth_max).map_err(drop_reason)?;
        Ok(DeviceMessage {
            device_id: self.envelope_device_id(event, Class::Twin)?,
            timestamp: hub_event_time(event, consumed_unix_ms),
            content: Content::Twin(TwinEvent {
                kind,
                body: RawJson::from_valid(text),
            }),
        })
    }

    fn telemetry(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
        messages: &mut Vec<DeviceMessage>,
    ) -> Result<(), DropReason> {
        let Ok(text) = std::str::from_utf8(event.body) else {
            self.tally.drop(DropReason::Undecodable);
            let message = json::literal(&STANDARD.encode(event.body));
            return self.message_only(
                event,
                consumed_unix_ms,
                RawJson::from_valid(message),
                messages,
            );
        };
        let body: Arc<str> = Arc::from(text.trim_ascii());
        let decoded = match json::kind(&body) {
            Kind::Object => self.object(event, consumed_unix_ms, body, messages),
            Kind::Array => self.array(event, consumed_unix_ms, &body, messages),
            Kind::Scalar => json::validate(&body, self.options.json_depth_max).map(|()| {
                self.message_only(event, consumed_unix_ms, RawJson::from_valid(body), messages)
            }),
        };
        decoded.unwrap_or_else(|unusable| {
            self.tally.drop(drop_reason(unusable));
            let message = json::literal(text);
            self.message_only(
                event,
                consumed_unix_ms,
                RawJson::from_valid(message),
                messages,
            )
        })
    }

    /// The inner result is about the device id: JSON without one is still JSON.
    fn object(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
        body: Arc<str>,
        messages: &mut Vec<DeviceMessage>,
    ) -> Result<Result<(), DropReason>, Unusable> {
        self.layouts
            .read(&body, Span::whole(&body), &self.options)?;
        Ok(self.object_message(event, consumed_unix_ms, (body, true), messages))
    }

    /// Each element that is an object becomes a message of its own; the array as a whole goes to subscribers of D2C
    /// messages of the one device that all elements are about, otherwise of the device that sent it. So nobody is shown
    /// values of a device through another that only shares an array with it, unless that other one sent them.
    fn array(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
        body: &Arc<str>,
        messages: &mut Vec<DeviceMessage>,
    ) -> Result<Result<(), DropReason>, Unusable> {
        let mut elements = std::mem::take(&mut self.elements);
        elements.clear();
        let parsed = json::elements(body, self.options.json_depth_max, &mut elements);
        let first = messages.len();
        if parsed.is_ok() {
            for element in elements
                .iter()
                .filter(|element| json::kind(element.of(body)) == Kind::Object)
            {
                self.layouts
                    .read(body, *element, &self.options)
                    .expect("the element was validated with the array");
                let part = (Arc::clone(body), false);
                let decoded = self.object_message(event, consumed_unix_ms, part, messages);
                if let Err(reason) = decoded {
                    self.tally.drop(reason);
                }
            }
        }
        self.elements = elements;
        parsed?;
        let message = RawJson::from_valid(Arc::clone(body));
        let device_id = match &messages[first..] {
            [one, others @ ..] if others.iter().all(|other| other.device_id == one.device_id) => {
                Ok(one.device_id.clone())
            }
            _ => self.envelope_device_id(event, Class::Telemetry),
        };
        Ok(device_id.map(|device_id| {
            let timestamp = telemetry_time(event, consumed_unix_ms);
            messages.push(whole_message(device_id, timestamp, message));
        }))
    }

    /// One message of the object that was read last, which is the whole body or a part of it. The members that are used up as
    /// device id and time are no telemetry.
    fn object_message(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
        (body, is_whole): (Arc<str>, bool),
        messages: &mut Vec<DeviceMessage>,
    ) -> Result<(), DropReason> {
        let mut taken = Taken::default();
        let named = self.layouts.object(&body).device_id();
        let device_id = match named.and_then(|literal| self.device_id_in(literal)) {
            Some(device_id) => {
                taken.device_id = true;
                device_id?
            }
            None => self.envelope_device_id(event, Class::Telemetry)?,
        };
        let object = self.layouts.object(&body);
        let timestamp = match object.time().and_then(time_in) {
            Some(timestamp) => {
                taken.time = true;
                timestamp
            }
            None => telemetry_time(event, consumed_unix_ms),
        };
        let connection_state = self.connection_state_in(object.connection_state());
        let (telemetry, message) = match self.layouts.telemetry(taken, body) {
            Ok(telemetry) => (Some(telemetry), MessageText::OfTelemetry),
            Err(body) => (None, MessageText::Own(RawJson::from_valid(body))),
        };
        let content = Content::Telemetry(TelemetryMessage {
            telemetry,
            connection_state,
            message: if is_whole {
                message
            } else {
                MessageText::Absent
            },
        });
        messages.push(DeviceMessage {
            device_id,
            timestamp,
            content,
        });
        Ok(())
    }

    fn device_id_in(&mut self, literal: &str) -> Option<Result<DeviceId, DropReason>> {
        if !literal.starts_with('"') || literal == "\"\"" {
            return None;
        }
        let device = if literal.contains('\\') {
            Cow::Owned(json::unescape(literal))
        } else {
            Cow::Borrowed(json::inner(literal))
        };
        let device_id = self.device_ids.get(DeviceName {
            device: &device,
            module: None,
        });
        Some(device_id.ok_or(DropReason::InvalidDeviceId))
    }

    /// What an object says that holds this in the configured member.
    fn connection_state_in(&self, value: Option<&str>) -> Option<bool> {
        if self.options.custom_connection_state_key.is_none() {
            return self.options.connection_state_on_telemetry.then_some(true);
        }
        match value? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn message_only(
        &mut self,
        event: &Event<'_>,
        consumed_unix_ms: i64,
        message: RawJson,
        messages: &mut Vec<DeviceMessage>,
    ) -> Result<(), DropReason> {
        let device_id = self.envelope_device_id(event, Class::Telemetry)?;
        messages.push(whole_message(
            device_id,
            telemetry_time(event, consumed_unix_ms),
            message,
        ));
        Ok(())
    }

    fn envelope_device_id(
        &mut self,
        event: &Event<'_>,
        class: Class,
    ) -> Result<DeviceId, DropReason> {
        let name =
            class::about(event, class, self.may_claim()).ok_or(DropReason::MissingDeviceId)?;
        self.device_ids.get(name).ok_or(DropReason::InvalidDeviceId)
    }

    /// Whether devices may speak for others, as gateways do: in the body or in application properties, or in neither.
    fn may_claim(&self) -> bool {
        self.options.custom_device_id_key.is_some()
    }
}

/// The place of a connection-state event among those of its device.
fn connection_sequence(body: &[u8]) -> Option<ConnectionSequence> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        #[serde(borrow)]
        sequence_number: Cow<'a, str>,
    }

    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    ConnectionSequence::parse(&body.sequence_number)
}

fn time_in(value: &str) -> Option<Timestamp> {
    match value.as_bytes().first()? {
        // With escapes it is no time as it stands.
        b'"' => Timestamp::iso_8601(json::inner(value)).or_else(|| {
            let escaped = value.contains('\\');
            escaped.then(|| Timestamp::iso_8601(&json::unescape(value)))?
        }),
        b'-' | b'0'..=b'9' => value.parse().ok().and_then(Timestamp::number),
        _ => None,
    }
}

fn whole_message(device_id: DeviceId, timestamp: Timestamp, message: RawJson) -> DeviceMessage {
    let content = Content::Telemetry(TelemetryMessage {
        message: MessageText::Own(message),
        ..TelemetryMessage::default()
    });
    DeviceMessage {
        device_id,
        timestamp,
        content,
    }
}

fn drop_reason(unusable: Unusable) -> DropReason {
    match unusable {
        Unusable::Malformed => DropReason::Undecodable,
        Unusable::TooDeep => DropReason::TooDeep,
    }
}

/// The first usable time of the envelope. The hub's own names are looked up in both bags.
fn envelope_time(event: &Event<'_>) -> Option<Timestamp> {
    let application = &event.application_properties;
    let annotations = &event.annotations;
    [
        &application.creation_time,
        &annotations.creation_time,
        &application.app_creation_time,
        &annotations.app_creation_time,
        &annotations.enqueued_time,
        &application.enqueued_time,
    ]
    .into_iter()
    .find_map(|property| property.time())
}

fn telemetry_time(event: &Event<'_>, consumed_unix_ms: i64) -> Timestamp {
    envelope_time(event).unwrap_or(Timestamp::UnixMs(consumed_unix_ms))
}

fn hub_event_time(event: &Event<'_>, consumed_unix_ms: i64) -> Timestamp {
    envelope_time(event)
        .or_else(|| event.application_properties.operation_timestamp.time())
        .unwrap_or(Timestamp::UnixMs(consumed_unix_ms))
}
