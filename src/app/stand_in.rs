//! The embedded stand-in for Event Hubs and IoT Hub with its simulated devices, as `devhub` and `demo` run it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use devhub::Devhub;
use devhub::clock::SystemClock;
use devhub::simulation::{Simulation, SimulationConfig, device_ids};
use serde::Serialize;
use tempfile::TempDir;

use crate::cli::DevhubOptions;

/// How long the stand-in alone may take to end its own tasks.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);

/// The IoT hub that events name as their origin.
const IOT_HUB_NAME: &str = "devhub";

/// What scripts read on standard output: connection strings, in the shape that `--json` promises.
///
/// Strings of the IoT Hub side are empty as long as the stand-in has none, which is how a relay is told that there is
/// no service API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready<'a> {
    event_hub_connection_string: &'a str,
    event_hub_tls_connection_string: &'a str,
    iot_hub_service_connection_string: &'a str,
    pub(super) ca_certificate: &'a Path,
    devices: Vec<Device<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device<'a> {
    device_id: &'a str,
    connection_string: &'a str,
}

/// The running stand-in.
pub(super) struct StandIn {
    devhub: Devhub,
    simulation: Simulation,
    device_ids: Vec<String>,
    event_hub_connection_string: String,
    event_hub_tls_connection_string: String,
    ca_certificate: PathBuf,
    /// Removed with everything in it when the stand-in ends.
    _temporary_tls_dir: Option<TempDir>,
}

impl StandIn {
    pub(super) async fn start(options: &DevhubOptions) -> anyhow::Result<Self> {
        let temporary = match options.tls_dir {
            Some(_) => None,
            None => Some(
                TempDir::with_prefix("hubrelay-")
                    .context("cannot make a directory for certificates")?,
            ),
        };
        let tls_dir = options
            .tls_dir
            .clone()
            .or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
        let devhub = Devhub::start(devhub::Options {
            amqp: options.amqp,
            amqp_tls: Some(options.amqps),
            tls_dir,
            partitions: options.partitions,
            ..devhub::Options::default()
        })
        .await
        .context("cannot start the stand-in")?;
        let simulated = SimulationConfig {
            hub_name: IOT_HUB_NAME.to_owned(),
            device_count: options.devices as usize,
            rate: options.rate,
            seed: rand::random(),
        };
        let simulation = Simulation::start(
            &simulated,
            devhub.event_hub().clone(),
            Arc::new(SystemClock),
        );
        Ok(Self {
            event_hub_connection_string: devhub.event_hub_connection_string(),
            event_hub_tls_connection_string: devhub
                .tls_connection_string()
                .context("the stand-in has no TLS listener")?,
            ca_certificate: devhub
                .ca_path()
                .context("the stand-in has no certificates")?
                .to_owned(),
            device_ids: device_ids(simulated.device_count).collect(),
            devhub,
            simulation,
            _temporary_tls_dir: temporary,
        })
    }

    pub(super) fn event_hub_connection_string(&self) -> &str {
        &self.event_hub_connection_string
    }

    pub(super) fn event_hub_tls_connection_string(&self) -> &str {
        &self.event_hub_tls_connection_string
    }

    pub(super) fn device_ids(&self) -> &[String] {
        &self.device_ids
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready {
            event_hub_connection_string: &self.event_hub_connection_string,
            event_hub_tls_connection_string: &self.event_hub_tls_connection_string,
            iot_hub_service_connection_string: "",
            ca_certificate: &self.ca_certificate,
            devices: self
                .device_ids
                .iter()
                .map(|device_id| Device {
                    device_id,
                    connection_string: "",
                })
                .collect(),
        }
    }

    pub(super) async fn stop(self) {
        self.simulation.stop().await;
        self.devhub.stop().await;
    }
}
