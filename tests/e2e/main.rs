//! End-to-end tests: the started binary, seen only from outside.
//!
//! Tests named `check_NN_…` prove the numbered checks of `docs/compatibility.md`, which lists what clients of ux4iot
//! rely on; the others prove what hubrelay promises on top of it. One file for each area, one test for each sentence.

mod harness;

mod admin_client;
mod admin_node;
mod bad_amqp;
mod bad_events;
mod bad_hub;
mod bad_requests;
mod bad_sockets;
mod concurrent_methods;
mod configuration;
mod connection_states;
mod cors;
mod delivery;
mod demo;
mod device_calls;
mod device_story;
mod direct_methods;
mod events;
mod grant_tokens;
mod grants;
mod hub_reads;
mod ingest;
mod last_values;
mod legacy_v2;
mod modules;
mod narrowed_calls;
mod narrowed_grants;
mod native;
mod operations;
mod page;
mod react_2;
mod react_client;
mod react_hooks;
mod react_recovery;
mod revocation;
mod security_backend;
mod sessions;
mod shutdown;
mod simulated_devices;
mod socket_io;
mod socket_io_client;
mod source_loss;
mod subscriptions;
mod throttling;
mod tls;
mod twin_patches;
mod twins;
mod updates;
