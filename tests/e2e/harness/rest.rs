//! Calls of the relay's REST API, and what came back.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
};

use admin_client::{AdminClient, ConnectionString, Error, RetryPolicy, Settings};
use relay_protocol::DeviceId;
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{PATIENCE, POLL_INTERVAL, PRIMARY_KEY};

/// The REST API of one relay.
#[derive(Clone)]
pub(crate) struct Rest {
    /// Origin, without a slash at its end.
    pub(crate) url: String,
    http: Client,
}

impl Rest {
    pub(crate) fn new(url: &str) -> Self {
        let http = Client::builder()
            .timeout(PATIENCE)
            .build()
            .expect("an HTTP client can be set up");
        Self {
            url: url.trim_end_matches('/').to_owned(),
            http,
        }
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> &str {
        self.url
            .strip_prefix("http://")
            .expect("the relay announces plain HTTP")
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        Call(self.http.request(method, format!("{}{path}", self.url)))
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub(crate) fn patch(&self, path: &str) -> Call {
        self.call(Method::PATCH, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// The typed client of whoever holds `key`. It makes each call once: a test must see what failed.
    pub(crate) fn admin(&self, key: &str) -> AdminClient {
        let connection = format!("Endpoint={};SharedAccessKey={key}", self.url);
        let connection: ConnectionString = connection.parse().expect("the documented form");
        let settings = Settings::default()
            .request_timeout(PATIENCE)
            .retry(RetryPolicy::NEVER)
            .http_client(self.http.clone());
        AdminClient::with_settings(&connection, settings).expect("a client can be set up")
    }

    /// Waits until the relay consumes device messages.
    pub(crate) async fn ready(&self) {
        let admin = self.admin(PRIMARY_KEY);
        self.eventually("the relay becomes ready", || async {
            match admin.relay().status().await {
                Ok(()) => Some(()),
                Err(Error::Status { status: 503, .. }) => None,
                Err(error) => panic!("unexpected while starting: {error}"),
            }
        })
        .await;
    }

    /// Waits until the last value of a telemetry key is `value`.
    pub(crate) async fn last_value_becomes(&self, device_id: &str, key: &str, value: &Value) {
        let admin = self.admin(PRIMARY_KEY);
        let id = DeviceId::from(device_id);
        let expectation = format!("the last value of {key} of {device_id} becomes {value}");
        self.eventually(&expectation, || async {
            match admin.last_value(&id, key).await {
                Ok(last) => (last.data[key].to_value() == *value).then_some(()),
                Err(Error::Status { status: 404, .. }) => None,
                Err(error) => panic!("unexpected for a last value: {error}"),
            }
        })
        .await;
    }

    /// Asks until there is an answer, for at most [`PATIENCE`].
    pub(crate) async fn eventually<T, F>(&self, expectation: &str, mut ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "expected that {expectation}");
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// A call being put together; awaiting it sends it.
#[must_use = "a call is sent when awaited"]
pub(crate) struct Call(RequestBuilder);

impl Call {
    /// With the header `Shared-Access-Key`.
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Shared-Access-Key", key)
    }

    /// With the header `sessionId`.
    pub(crate) fn session(self, session_id: &str) -> Self {
        self.header("sessionId", session_id)
    }

    /// With a token in the header `Authorization`.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// With a JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    /// With a body that claims to be JSON.
    pub(crate) fn json_text(self, body: impl Into<String>) -> Self {
        Self(
            self.0
                .header("Content-Type", "application/json")
                .body(body.into()),
        )
    }

    /// With a body of no declared type.
    pub(crate) fn body(self, body: impl Into<String>) -> Self {
        Self(self.0.body(body.into()))
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async {
            let response = self.0.send().await.expect("the relay answers");
            Answer {
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                body: response.text().await.expect("the answer is complete"),
            }
        })
    }
}

/// What the relay answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Requires a status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "body: {}", self.body);
        self
    }

    /// Requires a status and the whole body. Letter case does not matter: the published documentation prints some
    /// messages in two spellings.
    #[track_caller]
    pub(crate) fn says(self, status: u16, body: &str) -> Self {
        let answer = self.is(status);
        assert!(
            answer.body.eq_ignore_ascii_case(body),
            "expected {body:?}, got {:?}",
            answer.body
        );
        answer
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in a {} answer: {}", self.status, self.body))
    }

    /// The value of a header; empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("the header is ASCII"))
    }
}
