//! The events that devhub's own IoT Hub side puts into the hub: what is said about a device, in the
//! three property bags of an Event Hubs event. Events that arrive over AMQP never take this form;
//! they stay encoded.

use bytes::Bytes;

/// One event as a producer describes it, before the partition stamps sequence number, offset and
/// enqueued time on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Message annotations beside the `x-opt-*` ones that the partition adds.
    pub annotations: Vec<(String, AnnotationValue)>,
    /// AMQP properties section: message-id.
    pub message_id: Option<String>,
    /// AMQP properties section: to.
    pub to: Option<String>,
    /// AMQP properties section: content-type.
    pub content_type: Option<String>,
    /// AMQP properties section: content-encoding.
    pub content_encoding: Option<String>,
    /// AMQP properties section: correlation-id.
    pub correlation_id: Option<String>,
    /// AMQP properties section: user-id, as bytes.
    pub user_id: Option<Bytes>,
    /// AMQP properties section: absolute-expiry-time, in milliseconds since the Unix epoch.
    pub absolute_expiry_time_ms: Option<i64>,
    /// AMQP properties section: creation-time, in milliseconds since the Unix epoch.
    pub creation_time_ms: Option<i64>,
    /// Application properties; IoT Hub writes strings only.
    pub application_properties: Vec<(String, String)>,
    /// The data section.
    pub body: Bytes,
}

/// The types of annotation value that IoT Hub writes.
#[derive(Clone, Debug, PartialEq)]
pub enum AnnotationValue {
    /// AMQP string.
    String(String),
    /// AMQP timestamp, in milliseconds since the Unix epoch.
    TimestampMs(i64),
}
