//! hubrelay: a realtime relay for IoT device data.
//!
//! It consumes the device messages of an IoT hub, keeps the last value of every telemetry key, and pushes updates to the
//! sessions that subscribed to them and were granted them.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod ingest;
pub mod lifecycle;
pub mod relay;
pub mod telemetry;
