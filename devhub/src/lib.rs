//! A local stand-in for Azure Event Hubs and IoT Hub.

mod amqp;
pub mod clock;
pub mod event;
pub mod event_hub;
pub mod iot_hub;
mod partition_log;
mod readers;
mod selector;
pub mod simulation;

pub use partition_log::{LogBounds, PartitionProperties};
