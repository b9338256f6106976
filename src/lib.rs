//! hubrelay: a realtime relay for IoT device data.
//!
//! It consumes the device messages of an IoT hub, keeps the last value of every telemetry key, and pushes updates to
//! the sessions that subscribed to them and were granted them.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod domain;
mod grant_members;
pub mod grant_token;
pub mod http;
pub mod ingest;
pub mod iot_hub;
pub mod lifecycle;
pub mod push;
pub mod relay;
pub mod session_rate;
mod shared_access_signature;
pub mod telemetry;
mod trust;

#[cfg(test)]
mod committed_document;
