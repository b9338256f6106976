//! A local stand-in for Azure Event Hubs and IoT Hub.

pub mod event;
pub mod iot_hub;
