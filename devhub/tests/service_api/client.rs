//! A back end for these tests, and devices in process.

use std::time::Duration;

use devhub::iot_hub::{
    AuthKind, AuthMethod, AuthScope, DeviceLink, IdentityId, IdentitySettings, Listen, OWNER_POLICY,
};
use devhub::sas;
use devhub::{
    Devhub, Options,
    clock::{Clock, SystemClock},
};
use reqwest::{Certificate, Method, RequestBuilder, Response};
use serde_json::Value;

/// A devhub with its service API, and a client that trusts it.
pub(crate) struct Fixture {
    pub(crate) devhub: Devhub,
    http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) error_code: Option<String>,
    pub(crate) continuation: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        let devhub = Devhub::start(Options {
            rest: Some("127.0.0.1:0".parse().unwrap()),
            ..Options::default()
        })
        .await
        .unwrap();
        let authority = Certificate::from_pem(devhub.ca_pem().unwrap().as_bytes()).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self { devhub, http }
    }

    /// A token of a policy, for an hour.
    pub(crate) fn token(&self, policy: &str) -> String {
        self.token_until(policy, Duration::from_hours(1))
    }

    pub(crate) fn token_until(&self, policy: &str, lifetime: Duration) -> String {
        let key = self.devhub.iot_hub().policy_key(policy).unwrap();
        let now = Duration::from_millis(SystemClock.now_ms().try_into().unwrap());
        sas::sign_for_iot_hub("localhost", Some(policy), &key, now + lifetime).unwrap()
    }

    /// A request without token and API version.
    pub(crate) fn bare(&self, method: &Method, path: &str) -> RequestBuilder {
        let port = self.devhub.rest_address().unwrap().port();
        let url = format!("https://localhost:{port}{path}");
        self.http.request(method.clone(), url)
    }

    pub(crate) fn request(&self, method: &Method, path: &str) -> RequestBuilder {
        let separator = if path.contains('?') { '&' } else { '?' };
        self.bare(method, &format!("{path}{separator}api-version=2021-04-12"))
            .header("authorization", self.token(OWNER_POLICY))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        sent(self.request(&Method::GET, path)).await
    }

    pub(crate) async fn send(&self, method: &Method, path: &str, body: &Value) -> Answer {
        sent(self.request(method, path).json(body)).await
    }

    pub(crate) async fn send_if_match(
        &self,
        method: &Method,
        path: &str,
        if_match: &str,
        body: &Value,
    ) -> Answer {
        let request = self.request(method, path).header("if-match", if_match);
        sent(request.json(body)).await
    }

    pub(crate) fn create(&self, id: &IdentityId) {
        let settings = IdentitySettings::default();
        self.devhub.iot_hub().create_identity(id, settings).unwrap();
    }

    /// Connects a device that listens for direct methods and desired properties.
    pub(crate) fn connect(&self, id: &IdentityId) -> DeviceLink {
        let auth = AuthMethod {
            scope: AuthScope::Device,
            kind: AuthKind::Sas,
            expires_at_ms: None,
        };
        let link = self.devhub.iot_hub().connect(id, auth).unwrap();
        link.listen(Listen::Methods, true).unwrap();
        link.listen(Listen::DesiredProperties, true).unwrap();
        link
    }
}

pub(crate) async fn sent(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await
}

async fn read(response: Response) -> Answer {
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (status, etag, error_code) = (
        response.status().as_u16(),
        header("etag"),
        header("iothub-errorcode"),
    );
    let (continuation, retry_after) = (header("x-ms-continuation"), header("retry-after"));
    let is_json = header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    let text = response.text().await.unwrap();
    let body = if is_json {
        serde_json::from_str(&text).unwrap()
    } else {
        assert_eq!(text, "");
        Value::Null
    };
    Answer {
        status,
        etag,
        error_code,
        continuation,
        retry_after,
        body,
    }
}

impl Answer {
    /// Status and name of the error.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status, self.error_code.as_deref().unwrap_or_default())
    }

    /// What the body of a refused direct method holds as text.
    pub(crate) fn method_error(&self) -> Value {
        serde_json::from_str(self.body["Message"].as_str().unwrap()).unwrap()
    }
}

pub(crate) fn device(id: &str) -> IdentityId {
    IdentityId::device(id).unwrap()
}

pub(crate) fn module(device_id: &str, id: &str) -> IdentityId {
    IdentityId::module(device_id, id).unwrap()
}
