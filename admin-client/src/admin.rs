//! What the shared access key allows.

use relay_protocol::{
    GrantRequest, Identity, LastValue, SHARED_ACCESS_KEY_HEADER, SessionId, TelemetrySnapshot,
    TelemetryValues, Twin,
};
use reqwest::Method;

use crate::{
    ConnectionString, Error, LogLevel, RelayClient, Settings, SetupError, retry::Repeat,
    transport::Caller,
};

/// A client that holds the shared access key: it decides what sessions may see, and reads everything.
///
/// It belongs into a security backend or an operator's tool, never into a browser. What a session does for itself,
/// [`SessionClient`](crate::SessionClient) does, which has no key. Cheap to clone; clones share their pooled
/// connections.
#[derive(Clone, Debug)]
pub struct AdminClient {
    relay: RelayClient,
    caller: Caller,
}

impl AdminClient {
    /// A client with default settings.
    pub fn new(connection: &ConnectionString) -> Result<Self, SetupError> {
        Self::with_settings(connection, Settings::default())
    }

    /// A client with settings of your own.
    pub fn with_settings(
        connection: &ConnectionString,
        settings: Settings,
    ) -> Result<Self, SetupError> {
        let relay = RelayClient::with_settings(connection.endpoint.clone(), settings)?;
        let caller = Caller::new(
            relay.transport().clone(),
            SHARED_ACCESS_KEY_HEADER,
            connection.shared_access_key.header(),
        );
        Ok(Self { relay, caller })
    }

    /// The same relay without the key: its status, and creating sessions.
    pub fn relay(&self) -> &RelayClient {
        &self.relay
    }

    /// Gives a session a right. Giving it again changes nothing; one that is narrowed in another way is another right.
    /// [`Error::Status`] with 404 when there is no such session, with 400 when the right cannot be had, with 429 when the
    /// session has too many.
    pub async fn grant(&self, request: &GrantRequest) -> Result<(), Error> {
        let call = self.caller.call(Repeat::Safe, Method::PUT, &["grants"])?;
        call.json(request).acknowledged().await
    }

    /// Takes a right away: exactly that one, or everything of its type when the request does not narrow it. Once this
    /// returns `Ok`, nothing more of it reaches the session. Taking away what was not there is no error; an unknown
    /// session is [`Error::Status`] with 404.
    pub async fn revoke(&self, request: &GrantRequest) -> Result<(), Error> {
        let call = self
            .caller
            .call(Repeat::Safe, Method::DELETE, &["grants"])?;
        call.json(request).acknowledged().await
    }

    /// Ends a session: its grants and subscriptions are gone and its connection is closed. Unknown sessions are no
    /// error. It is no logout: the client makes a new session, so the backend must refuse it new grants.
    pub async fn delete_session(&self, session_id: &SessionId) -> Result<(), Error> {
        let path = ["sessions", session_id.as_str()];
        let call = self.caller.call(Repeat::Safe, Method::DELETE, &path)?;
        call.acknowledged().await
    }

    /// Ends every session.
    pub async fn delete_all_sessions(&self) -> Result<(), Error> {
        let call = self
            .caller
            .call(Repeat::Safe, Method::DELETE, &["sessions"])?;
        call.acknowledged().await
    }

    /// The last value of one telemetry key. A key that never had one is [`Error::Status`] with 404.
    pub async fn last_value(
        &self,
        of: impl Into<Identity>,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetryValues>, Error> {
        self.caller.last_value(&of.into(), telemetry_key).await
    }

    /// The last values of all telemetry keys of a device; empty for a device never heard of.
    pub async fn last_values(
        &self,
        of: impl Into<Identity>,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller.last_values(&of.into()).await
    }

    /// Forgets the last value of one telemetry key, and answers what it was.
    pub async fn delete_last_value(
        &self,
        of: impl Into<Identity>,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller
            .delete_last_value(&of.into(), telemetry_key)
            .await
    }

    /// Forgets the last telemetry values of a device, and answers what they were.
    pub async fn delete_last_values(
        &self,
        of: impl Into<Identity>,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller.delete_last_values(&of.into()).await
    }

    /// Whether a device is connected. [`Error::Status`] with 404 or 400 when that is not known; where the relay has to
    /// ask the IoT hub, [`Error::device_failure`] tells a device that is unknown from too many questions.
    pub async fn connection_state(
        &self,
        of: impl Into<Identity>,
    ) -> Result<LastValue<bool>, Error> {
        self.caller.connection_state(&of.into()).await
    }

    /// The twin of a device, all of it; errors as with [`Self::connection_state`].
    pub async fn device_twin(&self, of: impl Into<Identity>) -> Result<LastValue<Twin>, Error> {
        self.caller.device_twin(&of.into()).await
    }

    /// Changes how much the relay logs, until it restarts.
    pub async fn set_log_level(&self, level: LogLevel) -> Result<(), Error> {
        let path = ["logLevel", level.as_str()];
        let call = self.caller.call(Repeat::Safe, Method::PUT, &path)?;
        call.acknowledged().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> AdminClient {
        let connection = "Endpoint=http://relay.example:8080;SharedAccessKey=hidden";
        AdminClient::new(&connection.parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn an_id_that_would_vanish_from_the_path_is_refused() {
        for id in ["", ".", ".."] {
            let refused = client().delete_session(&id.into()).await;
            assert!(matches!(refused, Err(Error::PathSegment(_))), "{id:?}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        assert!(!format!("{:?}", client()).contains("hidden"));
    }
}
