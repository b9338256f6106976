//! A local stand-in for Azure Event Hubs and IoT Hub.
//!
//! [`Devhub::start`] serves one event hub over AMQP 1.0 such that Microsoft's own SDKs take it for the
//! real one: tokens are verified, partitions keep their events in bounded logs, receivers have
//! positions, credit and epochs. Beside it is one IoT hub ([`iot_hub`]) whose events go into that event
//! hub: devices connect by MQTT, services by REST ([`service_api`]), both also in process.
//! [`faults::Faults`] makes all of it misbehave on demand.
//!
//! Nothing outlives the process but keys and certificates: sequence numbers start at 0 with every start.

mod address;
mod amqp;
mod cbs;
pub mod clock;
pub mod event;
pub mod event_hub;
pub mod faults;
pub mod iot_hub;
mod kept_file;
mod listeners;
mod management;
mod mqtt;
mod options;
mod partition_log;
mod readers;
pub mod sas;
mod selector;
pub mod service_api;
pub mod simulation;
mod stand_in;
pub mod tls;

pub use kept_file::Error as FileError;
pub use options::Options;
pub use partition_log::{LogBounds, PartitionProperties};
pub use stand_in::{Devhub, Error};
