//! devhub's IoT Hub side: what an IoT hub puts on its built-in endpoint about its devices.

pub mod built_in_endpoint;
pub mod connection_sequence;
pub mod twin_change;
