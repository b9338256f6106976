//! The identity registry of the stand-in, as services use it: over its REST API.

use std::time::Duration;

use devhub::sas::{SharedAccessKey, sign_for_iot_hub};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};

use super::{Devhub, PATIENCE, devhub::connection_string_member, node_script::NodeScript};

const API_VERSION: &str = "2021-04-12";

/// The year 2100, since the Unix epoch.
const NEVER: Duration = Duration::from_hours(130 * 365 * 24);

impl Devhub {
    /// Registers devices and returns their connection strings.
    pub(crate) async fn register(&self, device_ids: &[String]) -> Vec<String> {
        let service = Service::new(self);
        let mut connection_strings = Vec::new();
        for device_id in device_ids {
            let device = service
                .put(
                    &format!("/devices/{device_id}"),
                    &json!({"deviceId": device_id}),
                )
                .await;
            let key = device["authentication"]["symmetricKey"]["primaryKey"]
                .as_str()
                .unwrap_or_else(|| panic!("no key in {device}"));
            connection_strings.push(format!(
                "HostName={};DeviceId={device_id};SharedAccessKey={key}",
                self.device_host()
            ));
        }
        connection_strings
    }

    /// Registers a device and connects as it, with Microsoft's SDK; see `tests/node/device.mjs`. `methods` says by name
    /// how it answers direct methods.
    pub(crate) async fn connect_device(&self, device_id: &str, methods: Value) -> NodeScript {
        let connection_strings = self.register(&[device_id.to_owned()]).await;
        let input = json!({
            "connectionString": connection_strings[0],
            "ca": self.ca_pem(),
            "methods": methods,
        });
        let mut device = NodeScript::start("device.mjs", &[&input.to_string()]);
        while device.next_line().await != json!({"connected": true}) {}
        device
    }
}

/// The service API with the rights of the hub's owner.
struct Service {
    http: Client,
    url: String,
    token: String,
}

impl Service {
    fn new(devhub: &Devhub) -> Self {
        let connection_string = devhub.service_connection_string();
        let member = |name| connection_string_member(&connection_string, name);
        let host = member("HostName");
        let policy = member("SharedAccessKeyName");
        let key = SharedAccessKey::new(member("SharedAccessKey"));
        let authority = Certificate::from_pem(devhub.ca_pem().as_bytes());
        Self {
            http: Client::builder()
                .timeout(PATIENCE)
                .tls_certs_merge([authority.expect("the stand-in writes PEM")])
                .build()
                .expect("an HTTP client can be set up"),
            url: format!("https://{host}"),
            token: sign_for_iot_hub(host, Some(policy), &key, NEVER).expect("the key is base64"),
        }
    }

    async fn put(&self, path: &str, body: &Value) -> Value {
        let answer = self
            .http
            .put(format!("{}{path}?api-version={API_VERSION}", self.url))
            .header("Authorization", &self.token)
            .json(body)
            .send()
            .await
            .expect("the stand-in answers");
        let status = answer.status();
        let body = answer.text().await.expect("the answer is complete");
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
    }
}
