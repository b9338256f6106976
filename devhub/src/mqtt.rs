//! devhub's MQTT 3.1.1 endpoint for devices, as IoT Hub offers it: Microsoft's device SDKs take it for
//! the real one.
//!
//! It is no broker: what clients publish are commands to the hub, and what they receive comes from the
//! hub. Everything that has a meaning is in [`crate::iot_hub`]; here is how it is said in MQTT.

pub(crate) mod client_certificate;
mod connection;
mod conversation;
mod credentials;
mod end;
mod messages;
mod packets;
mod property_bag;
pub(crate) mod server;
mod sessions;
mod topic;

#[cfg(test)]
mod tests;
