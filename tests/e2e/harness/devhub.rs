//! The stand-in for Event Hubs and IoT Hub as its own process.

use std::{fs, path::PathBuf, process::ExitStatus};

use serde_json::Value;
use tempfile::TempDir;

use super::Hubrelay;

const ANY_PORT: &str = "127.0.0.1:0";

/// A running `hubrelay devhub` without simulated devices.
pub(crate) struct Devhub {
    process: Hubrelay,
    tls_directory: TempDir,
    announcement: Value,
    /// Plain AMQP, `UseDevelopmentEmulator=true`.
    pub(crate) event_hub_connection_string: String,
}

impl Devhub {
    /// Starts one on free ports.
    pub(crate) async fn start() -> Self {
        let tls_directory = TempDir::new().expect("a temporary directory can be created");
        let (process, announcement) = launch(&tls_directory, ANY_PORT).await;
        Self {
            process,
            tls_directory,
            event_hub_connection_string: text(&announcement, "eventHubConnectionString"),
            announcement,
        }
    }

    /// Kills it and starts another, empty one on the same AMQP port.
    pub(crate) async fn restart(&mut self) {
        let address = self.amqp_address();
        self.process.kill().await;
        (self.process, self.announcement) = launch(&self.tls_directory, &address).await;
        assert_eq!(self.amqp_address(), address);
    }

    /// Sends it SIGTERM and waits for its end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.process.signal_termination().await;
        self.process.ended().await
    }

    /// Kills it.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Address of the plain AMQP listener.
    pub(crate) fn amqp_address(&self) -> String {
        let connection_string = text(&self.announcement, "eventHubConnectionString");
        connection_string
            .split_once("sb://")
            .and_then(|(_, rest)| rest.split(['/', ';']).next())
            .expect("the connection string names the listener")
            .replace("localhost", "127.0.0.1")
    }

    /// AMQP over TLS.
    pub(crate) fn tls_connection_string(&self) -> String {
        text(&self.announcement, "eventHubTlsConnectionString")
    }

    /// For services of the IoT hub.
    pub(crate) fn service_connection_string(&self) -> String {
        text(&self.announcement, "iotHubServiceConnectionString")
    }

    /// Host and port for devices that speak MQTT over TLS, as they stand in connection strings of devices.
    pub(crate) fn device_host(&self) -> String {
        let connection_string = text(&self.announcement["ownDevice"], "connectionString");
        connection_string_member(&connection_string, "HostName").to_owned()
    }

    /// The certificate authority that signed the certificates of its TLS listeners.
    pub(crate) fn ca_certificate(&self) -> PathBuf {
        PathBuf::from(text(&self.announcement, "caCertificate"))
    }

    /// The same as PEM text.
    pub(crate) fn ca_pem(&self) -> String {
        fs::read_to_string(self.ca_certificate()).expect("the certificate can be read")
    }
}

async fn launch(tls_directory: &TempDir, amqp: &str) -> (Hubrelay, Value) {
    let tls_directory = tls_directory.path().to_str().expect("the path is UTF-8");
    #[rustfmt::skip]
    let arguments = [
        "devhub", "--json", "--devices", "0",
        "--amqp", amqp, "--amqps", ANY_PORT, "--rest", ANY_PORT, "--mqtt", ANY_PORT, "--mqtts", ANY_PORT,
        "--tls-dir", tls_directory,
    ];
    let mut process = Hubrelay::start(&arguments, &[]);
    let announcement = process.json_line().await;
    (process, announcement)
}

/// What stands after `name=` in a connection string.
pub(crate) fn connection_string_member<'a>(connection_string: &'a str, name: &str) -> &'a str {
    connection_string
        .split(';')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name} in the connection string"))
}

fn text(announcement: &Value, member: &str) -> String {
    announcement[member]
        .as_str()
        .unwrap_or_else(|| panic!("no {member} in {announcement}"))
        .to_owned()
}
