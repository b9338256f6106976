//! The AMQP 1.0 server that stands in for Event Hubs.

pub(crate) mod codec;
pub(crate) mod error;
pub(crate) mod mailbox;
pub(crate) mod message;
