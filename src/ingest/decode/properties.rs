//! What ingest reads from the property bags of an event.
//!
//! A bag may hold anything; only the names below mean something to the relay, so the bags are read once, into one field
//! for each name. IoT Hub writes its own names into the message annotations; an event that passed another event hub, or
//! that a gateway sent, has them among the application properties. The AMQP properties section has a fixed set of
//! fields and none of these names, so it is not a bag here.

use crate::domain::time::Timestamp;

/// One property's value. The text is borrowed from the event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Property<'a> {
    /// The bag has no such property, or it is null.
    #[default]
    Absent,
    /// A string or symbol.
    Text(&'a str),
    /// A number of any width.
    Number(f64),
    /// A point in time, in milliseconds since the Unix epoch.
    TimestampMs(i64),
    /// A value that none of these names should have.
    Other,
}

impl<'a> Property<'a> {
    /// The text, unless it is empty.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            Self::Text(_) | Self::Absent | Self::Number(_) | Self::TimestampMs(_) | Self::Other => {
                None
            }
        }
    }

    /// The value as a time; `None` when it is zero, empty or no time.
    pub fn time(self) -> Option<Timestamp> {
        match self {
            Self::Text(text) => Timestamp::iso_8601(text),
            Self::Number(number) => Timestamp::number(number),
            Self::TimestampMs(unix_ms) => (unix_ms != 0).then_some(Timestamp::UnixMs(unix_ms)),
            Self::Absent | Self::Other => None,
        }
    }

    fn is_absent(self) -> bool {
        matches!(self, Self::Absent | Self::Text(""))
    }

    /// This value, or `other` when this one is absent.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self.is_absent() { other } else { self }
    }
}

/// The properties of one bag that mean something to the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Properties<'a> {
    /// `iothub-message-source`
    pub message_source: Property<'a>,
    /// `iothub-message-schema`
    pub message_schema: Property<'a>,
    /// `iothub-connection-device-id`
    pub connection_device_id: Property<'a>,
    /// `iothub-connection-module-id`
    pub connection_module_id: Property<'a>,
    /// `iothub-creation-time-utc`
    pub creation_time: Property<'a>,
    /// `iothub-app-iothub-creation-time-utc`: the same after ingestion in HTTP batches
    pub app_creation_time: Property<'a>,
    /// `iothub-enqueuedtime`
    pub enqueued_time: Property<'a>,
    /// `deviceId`
    pub device_id: Property<'a>,
    /// `moduleId`
    pub module_id: Property<'a>,
    /// `operationTimestamp`
    pub operation_timestamp: Property<'a>,
    /// `opType`
    pub operation_type: Property<'a>,
}

impl<'a> Properties<'a> {
    /// Takes note of one property of the bag; names without a meaning are passed over.
    pub fn set(&mut self, name: &str, value: Property<'a>) {
        let property = match name {
            "iothub-message-source" => &mut self.message_source,
            "iothub-message-schema" => &mut self.message_schema,
            "iothub-connection-device-id" => &mut self.connection_device_id,
            "iothub-connection-module-id" => &mut self.connection_module_id,
            "iothub-creation-time-utc" => &mut self.creation_time,
            "iothub-app-iothub-creation-time-utc" => &mut self.app_creation_time,
            "iothub-enqueuedtime" => &mut self.enqueued_time,
            "deviceId" => &mut self.device_id,
            "moduleId" => &mut self.module_id,
            "operationTimestamp" => &mut self.operation_timestamp,
            "opType" => &mut self.operation_type,
            _ => return,
        };
        *property = value;
    }
}
