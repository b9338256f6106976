//! The stand-in's IoT hub as services use it, over its REST API: the identity registry, twins, and what tests may ask of
//! it besides.

use std::time::Duration;

use devhub::sas::{SharedAccessKey, sign_for_iot_hub};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    Devhub, PATIENCE, POLL_INTERVAL, devhub::connection_string_member, node_script::NodeScript,
};

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
            let key = primary_key(&device);
            connection_strings.push(format!(
                "HostName={};DeviceId={device_id};SharedAccessKey={key}",
                self.device_host()
            ));
        }
        connection_strings
    }

    /// Registers a device with a module and returns the module's connection string.
    pub(crate) async fn register_module(&self, device_id: &str, module_id: &str) -> String {
        self.register(&[device_id.to_owned()]).await;
        let identity = json!({"deviceId": device_id, "moduleId": module_id});
        let path = format!("/devices/{device_id}/modules/{module_id}");
        let module = Service::new(self).put(&path, &identity).await;
        let key = primary_key(&module);
        let host = self.device_host();
        format!("HostName={host};DeviceId={device_id};ModuleId={module_id};SharedAccessKey={key}")
    }

    /// Registers a device and a module of it, and connects as the module; see [`connect_as`](Self::connect_as).
    pub(crate) async fn connect_module(
        &self,
        device_id: &str,
        module_id: &str,
        methods: Value,
    ) -> NodeScript {
        let connection_string = self.register_module(device_id, module_id).await;
        self.connect_as(&connection_string, methods).await
    }

    /// Registers a device and connects as it; see [`connect_as`](Self::connect_as).
    pub(crate) async fn connect_device(&self, device_id: &str, methods: Value) -> NodeScript {
        let connection_strings = self.register(&[device_id.to_owned()]).await;
        self.connect_as(&connection_strings[0], methods).await
    }

    /// Connects as a device or module, with Microsoft's SDK; see `tests/node/device.mjs`. `methods` says by name how it
    /// answers direct methods.
    pub(crate) async fn connect_as(&self, connection_string: &str, methods: Value) -> NodeScript {
        let input = json!({
            "connectionString": connection_string,
            "ca": self.ca_pem(),
            "methods": methods,
        });
        let mut device = NodeScript::start("device.mjs", &[&input.to_string()]);
        while device.next_line().await != json!({"connected": true}) {}
        device
    }

    /// The twin of a device as the hub has it.
    pub(crate) async fn twin(&self, device_id: &str) -> Value {
        let service = Service::new(self);
        let path = format!("/twins/{device_id}");
        service.call(Method::GET, &path, None).await
    }

    /// How many requests of a kind the hub has had.
    pub(crate) async fn hub_requests(&self, kind: &str) -> u64 {
        let service = Service::new(self);
        let counts = service.call(Method::GET, "/devhub/requests", None).await;
        let count = counts[kind].as_u64();
        count.unwrap_or_else(|| panic!("no {kind} in {counts}"))
    }

    /// Waits until the hub has had so many requests of a kind.
    pub(crate) async fn hub_requests_reach(&self, kind: &str, count: u64) {
        let reached = async {
            while self.hub_requests(kind).await < count {
                sleep(POLL_INTERVAL).await;
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("the hub did not get {count} of {kind}"));
    }

    /// What meets the next requests to the hub; `{}` is no fault. See `docs/devhub.md`.
    pub(crate) async fn hub_fault(&self, fault: Value) {
        let service = Service::new(self);
        let path = "/devhub/faults";
        service.call(Method::PUT, path, Some(&fault)).await;
    }
}

fn primary_key(identity: &Value) -> &str {
    identity["authentication"]["symmetricKey"]["primaryKey"]
        .as_str()
        .unwrap_or_else(|| panic!("no key in {identity}"))
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
        self.call(Method::PUT, path, Some(body)).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}{path}?api-version={API_VERSION}", self.url);
        let mut call = self
            .http
            .request(method, url)
            .header("Authorization", &self.token);
        if let Some(body) = body {
            call = call.json(body);
        }
        let answer = call.send().await.expect("the stand-in answers");
        let status = answer.status();
        let body = answer.text().await.expect("the answer is complete");
        assert!(status.is_success(), "{path}: {status} {body}");
        if body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
    }
}
