//! The client itself: one method for each call of the REST API that a key allows.

use std::time::Duration;

use relay_protocol::{
    CreatedSession, DeviceId, GrantRequest, LastValue, SESSION_ID_HEADER, SHARED_ACCESS_KEY_HEADER,
    SessionId, SubscriptionList, SubscriptionRequest, TelemetrySnapshot, TelemetryValues, Twin,
};
use reqwest::{Method, RequestBuilder, Url, header::HeaderValue};
use serde::de::DeserializeOwned;

use crate::{ConnectionString, Error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest message kept from an error answer.
const ERROR_MESSAGE_CHARS_MAX: usize = 4096;

/// A client of one relay. Cheap to clone; clones share their pooled connections.
#[derive(Clone, Debug)]
pub struct AdminClient {
    http: reqwest::Client,
    endpoint: Url,
    shared_access_key: HeaderValue,
}

/// How much the relay logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And what may become one.
    Warn,
    /// And the relay's ordinary life.
    Info,
    /// And the life of each session.
    Verbose,
    /// And each message.
    Debug,
}

impl LogLevel {
    /// The level's name in `PUT /logLevel/:level`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Verbose => "verbose",
            Self::Debug => "debug",
        }
    }
}

impl AdminClient {
    /// A client whose calls end after 30 seconds at the latest.
    pub fn new(connection: &ConnectionString) -> Result<Self, Error> {
        Self::with_timeout(connection, REQUEST_TIMEOUT)
    }

    /// A client whose calls end after `request_timeout` at the latest.
    pub fn with_timeout(
        connection: &ConnectionString,
        request_timeout: Duration,
    ) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(request_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::Setup)?;
        let mut shared_access_key =
            HeaderValue::from_bytes(connection.shared_access_key.expose().as_bytes())
                .map_err(|_| Error::UnusableKey)?;
        shared_access_key.set_sensitive(true);
        Ok(Self {
            http,
            endpoint: connection.endpoint.clone(),
            shared_access_key,
        })
    }

    /// Creates a session.
    pub async fn create_session(&self) -> Result<SessionId, Error> {
        let created: CreatedSession = read(self.request(Method::POST, &["session"])?).await?;
        Ok(created.session_id)
    }

    /// Ends a session: its grants and subscriptions are gone and its socket is disconnected. Unknown sessions are
    /// no error.
    pub async fn delete_session(&self, session_id: &SessionId) -> Result<(), Error> {
        acknowledge(self.request(Method::DELETE, &["sessions", session_id.as_str()])?).await
    }

    /// Ends every session.
    pub async fn delete_all_sessions(&self) -> Result<(), Error> {
        acknowledge(self.request(Method::DELETE, &["sessions"])?).await
    }

    /// Gives a session a right. Giving it again changes nothing.
    pub async fn grant(&self, request: &GrantRequest) -> Result<(), Error> {
        acknowledge(self.request(Method::PUT, &["grants"])?.json(request)).await
    }

    /// Takes a right away. Once this returns `Ok`, nothing more of it reaches the session.
    pub async fn revoke(&self, request: &GrantRequest) -> Result<(), Error> {
        acknowledge(self.request(Method::DELETE, &["grants"])?.json(request)).await
    }

    /// Subscribes a session to something it was granted.
    pub async fn subscribe(&self, request: &SubscriptionRequest) -> Result<(), Error> {
        acknowledge(self.request(Method::PUT, &["subscription"])?.json(request)).await
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&self, request: &SubscriptionRequest) -> Result<(), Error> {
        acknowledge(
            self.request(Method::DELETE, &["subscription"])?
                .json(request),
        )
        .await
    }

    /// Subscribes to all of `requests` that are granted, and answers which these were. `session_id` holds for
    /// requests that name no session.
    pub async fn subscribe_all(
        &self,
        session_id: &SessionId,
        requests: Vec<SubscriptionRequest>,
    ) -> Result<Vec<SubscriptionRequest>, Error> {
        let body = SubscriptionList {
            subscription_requests: requests,
        };
        let request = self.request(Method::PUT, &["subscriptions"])?;
        read(
            request
                .header(SESSION_ID_HEADER, session_id.as_str())
                .json(&body),
        )
        .await
    }

    /// Ends all of `requests` that are granted, and answers which these were. `session_id` holds for requests that
    /// name no session.
    pub async fn unsubscribe_all(
        &self,
        session_id: &SessionId,
        requests: &[SubscriptionRequest],
    ) -> Result<Vec<SubscriptionRequest>, Error> {
        let request = self.request(Method::DELETE, &["subscriptions"])?;
        read(
            request
                .header(SESSION_ID_HEADER, session_id.as_str())
                .json(requests),
        )
        .await
    }

    /// The last value of one telemetry key. A key that never had a value is [`Error::Status`] with 404.
    pub async fn last_value(
        &self,
        device_id: &DeviceId,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetryValues>, Error> {
        read(self.request(
            Method::GET,
            &["lastValue", device_id.as_str(), telemetry_key],
        )?)
        .await
    }

    /// The last values of all telemetry keys of a device; empty for a device never heard of.
    pub async fn last_values(
        &self,
        device_id: &DeviceId,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        read(self.request(Method::GET, &["lastValue", device_id.as_str()])?).await
    }

    /// Forgets the last telemetry values of a device, and answers what they were.
    pub async fn delete_last_values(
        &self,
        device_id: &DeviceId,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        read(self.request(Method::DELETE, &["lastValue", device_id.as_str()])?).await
    }

    /// Whether a device is connected.
    pub async fn connection_state(&self, device_id: &DeviceId) -> Result<LastValue<bool>, Error> {
        read(self.request(Method::GET, &["connectionState", device_id.as_str()])?).await
    }

    /// The twin of a device.
    pub async fn device_twin(&self, device_id: &DeviceId) -> Result<LastValue<Twin>, Error> {
        read(self.request(Method::GET, &["deviceTwin", device_id.as_str()])?).await
    }

    /// Changes how much the relay logs, until it restarts.
    pub async fn set_log_level(&self, level: LogLevel) -> Result<(), Error> {
        acknowledge(self.request(Method::PUT, &["logLevel", level.as_str()])?).await
    }

    /// The relay's version, such as `4.2.0`.
    pub async fn version(&self) -> Result<String, Error> {
        text(self.request(Method::GET, &["version"])?).await
    }

    /// `Ok` once the relay consumes device messages; [`Error::Status`] with 503 until then, with 500 when its
    /// configuration keeps it from ever doing so.
    pub async fn status(&self) -> Result<(), Error> {
        acknowledge(self.request(Method::GET, &["status"])?).await
    }

    fn request(&self, method: Method, segments: &[&str]) -> Result<RequestBuilder, Error> {
        // A URL drops such segments, which would turn the deletion of one session into the deletion of all.
        if let Some(segment) = segments
            .iter()
            .find(|segment| matches!(**segment, "" | "." | ".."))
        {
            return Err(Error::PathSegment((*segment).to_owned()));
        }
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .expect("the connection string holds an HTTP origin, which has a path")
            .clear()
            .extend(segments);
        Ok(self
            .http
            .request(method, url)
            .header(SHARED_ACCESS_KEY_HEADER, self.shared_access_key.clone()))
    }
}

async fn text(request: RequestBuilder) -> Result<String, Error> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.text().await?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(Error::Status {
            status: status.as_u16(),
            message: body.chars().take(ERROR_MESSAGE_CHARS_MAX).collect(),
        })
    }
}

async fn acknowledge(request: RequestBuilder) -> Result<(), Error> {
    text(request).await.map(drop)
}

async fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
    let body = text(request).await?;
    serde_json::from_str(&body).map_err(Error::UnexpectedAnswer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> AdminClient {
        let connection = "Endpoint=http://relay.example:8080;SharedAccessKey=hidden";
        AdminClient::new(&connection.parse().unwrap()).unwrap()
    }

    fn url(segments: &[&str]) -> String {
        let request = client().request(Method::GET, segments).unwrap();
        request.build().unwrap().url().to_string()
    }

    #[test]
    fn ids_are_escaped_as_one_path_segment() {
        assert_eq!(
            url(&["lastValue", "a/b %c", "k?#"]),
            "http://relay.example:8080/lastValue/a%2Fb%20%25c/k%3F%23"
        );
    }

    #[test]
    fn an_id_that_would_vanish_from_the_path_is_refused() {
        for id in ["", ".", ".."] {
            let refused = client().request(Method::DELETE, &["sessions", id]);
            assert!(matches!(refused, Err(Error::PathSegment(_))), "{id:?}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        assert!(!format!("{:?}", client()).contains("hidden"));
    }
}
