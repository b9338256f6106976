//! The embedded stand-in for Event Hubs and IoT Hub with its simulated devices, as `devhub` and `demo` run it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use devhub::Devhub;
use devhub::clock::SystemClock;
use devhub::iot_hub::IdentityId;
use devhub::simulation::{Simulation, SimulationConfig, device_ids};
use serde::Serialize;
use tempfile::TempDir;

use crate::cli::DevhubOptions;

/// How long the stand-in alone may take to end its own tasks.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);

/// A device of the user's own: registered, and nobody connects as it.
const OWN_DEVICE_ID: &str = "my-device";

/// What scripts read on standard output: connection strings, in the shape that `--json` promises.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready<'a> {
    event_hub_connection_string: &'a str,
    event_hub_tls_connection_string: &'a str,
    iot_hub_service_connection_string: &'a str,
    ca_certificate: &'a Path,
    own_device: &'a Device,
    devices: &'a [Device],
}

/// A registered device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) device_id: String,
    pub(super) connection_string: String,
}

/// The running stand-in.
pub(super) struct StandIn {
    devhub: Devhub,
    simulation: Simulation,
    own_device: Device,
    devices: Vec<Device>,
    event_hub_connection_string: String,
    event_hub_tls_connection_string: String,
    iot_hub_service_connection_string: String,
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
        let device_count = options.devices as usize;
        let defaults = devhub::Options::default();
        let devhub = Devhub::start(devhub::Options {
            amqp: options.amqp,
            amqp_tls: Some(options.amqps),
            rest: Some(options.rest),
            mqtt: Some(options.mqtt),
            mqtt_tls: Some(options.mqtts),
            tls_dir,
            partitions: options.partitions,
            connections_max: defaults.connections_max + device_count,
            ..defaults
        })
        .await
        .context("cannot start the stand-in")?;
        let simulated = SimulationConfig {
            mqtt: devhub
                .mqtt_address()
                .context("the stand-in takes no MQTT")?,
            device_count,
            rate: options.rate,
            seed: rand::random(),
        };
        let simulation = Simulation::start(&simulated, devhub.iot_hub(), Arc::new(SystemClock))
            .context("cannot register the simulated devices")?;
        let own_device = IdentityId::device(OWN_DEVICE_ID)?;
        devhub
            .iot_hub()
            .create_identity_with_kept_keys(&own_device)?;
        let device = |device_id: String| {
            let connection_string = devhub
                .device_connection_string(&IdentityId::device(&device_id)?)
                .with_context(|| format!("the stand-in does not know {device_id}"))?;
            anyhow::Ok(Device {
                device_id,
                connection_string,
            })
        };
        Ok(Self {
            own_device: device(OWN_DEVICE_ID.to_owned())?,
            devices: device_ids(device_count)
                .map(device)
                .collect::<Result<_, _>>()?,
            event_hub_connection_string: devhub.event_hub_connection_string(),
            event_hub_tls_connection_string: devhub
                .tls_connection_string()
                .context("the stand-in has no TLS listener")?,
            iot_hub_service_connection_string: devhub
                .iot_hub_service_connection_string()
                .context("the stand-in has no service API")?,
            ca_certificate: devhub
                .ca_path()
                .context("the stand-in has no certificates")?
                .to_owned(),
            devhub,
            simulation,
            _temporary_tls_dir: temporary,
        })
    }

    pub(super) fn event_hub_connection_string(&self) -> &str {
        &self.event_hub_connection_string
    }

    pub(super) fn iot_hub_service_connection_string(&self) -> &str {
        &self.iot_hub_service_connection_string
    }

    /// The authority that signed the certificates of the TLS listeners.
    pub(super) fn ca_certificate(&self) -> &Path {
        &self.ca_certificate
    }

    /// A device for the user to connect as.
    pub(super) fn own_device(&self) -> &Device {
        &self.own_device
    }

    pub(super) fn simulated_device_ids(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| device.device_id.as_str())
    }

    pub(super) fn ready(&self) -> Ready<'_> {
        Ready {
            event_hub_connection_string: &self.event_hub_connection_string,
            event_hub_tls_connection_string: &self.event_hub_tls_connection_string,
            iot_hub_service_connection_string: &self.iot_hub_service_connection_string,
            ca_certificate: &self.ca_certificate,
            own_device: &self.own_device,
            devices: &self.devices,
        }
    }

    pub(super) async fn stop(self) {
        self.simulation.stop().await;
        self.devhub.stop().await;
    }
}
