//! AMQP error conditions, and the errors that end a link, a session or a connection.

use std::borrow::Cow;

use super::codec::DecodeError;

pub(crate) const DECODE_ERROR: &str = "amqp:decode-error";
pub(crate) const NOT_ALLOWED: &str = "amqp:not-allowed";
pub(crate) const NOT_FOUND: &str = "amqp:not-found";
pub(crate) const RESOURCE_LIMIT_EXCEEDED: &str = "amqp:resource-limit-exceeded";
pub(crate) const UNAUTHORIZED_ACCESS: &str = "amqp:unauthorized-access";
pub(crate) const CONNECTION_FORCED: &str = "amqp:connection:forced";
pub(crate) const FRAMING_ERROR: &str = "amqp:connection:framing-error";
pub(crate) const HANDLE_IN_USE: &str = "amqp:session:handle-in-use";
pub(crate) const UNATTACHED_HANDLE: &str = "amqp:session:unattached-handle";
pub(crate) const MESSAGE_SIZE_EXCEEDED: &str = "amqp:link:message-size-exceeded";
pub(crate) const STOLEN: &str = "amqp:link:stolen";
pub(crate) const TRANSFER_LIMIT_EXCEEDED: &str = "amqp:link:transfer-limit-exceeded";
pub(crate) const ARGUMENT_ERROR: &str = "com.microsoft:argument-error";
pub(crate) const SERVER_BUSY: &str = "com.microsoft:server-busy";

/// A condition with its description, as a peer is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{condition}: {description}")]
pub(crate) struct AmqpError {
    pub(crate) condition: Cow<'static, str>,
    pub(crate) description: String,
}

impl AmqpError {
    pub(crate) fn new(
        condition: impl Into<Cow<'static, str>>,
        description: impl Into<String>,
    ) -> Self {
        Self {
            condition: condition.into(),
            description: description.into(),
        }
    }
}

impl From<DecodeError> for AmqpError {
    fn from(error: DecodeError) -> Self {
        Self::new(DECODE_ERROR, error.to_string())
    }
}
