//! What a relay answers without a credential.

use relay_protocol::{CreatedSession, SessionId};
use reqwest::{Method, header::AUTHORIZATION, header::HeaderValue};

use crate::{
    Endpoint, Error, SessionClient, Settings, SetupError,
    retry::Repeat,
    transport::{Call, Transport},
};

/// A client that shows no credential: it asks how the relay is, and creates sessions.
///
/// Cheap to clone; clones, and the clients made from them, share their pooled connections.
#[derive(Clone, Debug)]
pub struct RelayClient {
    transport: Transport,
}

impl RelayClient {
    /// A client with default settings.
    pub fn new(endpoint: Endpoint) -> Result<Self, SetupError> {
        Self::with_settings(endpoint, Settings::default())
    }

    /// A client with settings of your own.
    pub fn with_settings(endpoint: Endpoint, settings: Settings) -> Result<Self, SetupError> {
        let transport = Transport::new(endpoint, settings)?;
        Ok(Self { transport })
    }

    /// Where the relay is.
    pub fn endpoint(&self) -> &Endpoint {
        self.transport.endpoint()
    }

    /// Creates a session that was granted nothing yet. [`Error::Status`] with 429 when this address asks too fast,
    /// with 503 when there are too many sessions.
    pub async fn create_session(&self) -> Result<SessionClient, Error> {
        self.created(self.session_call()?).await
    }

    /// Creates a session with the grants of a grant token. [`Error::Status`] with 401 when the token is refused; the
    /// message says why. 503 when the relay could not get the keys that it verifies tokens with.
    pub async fn create_session_with_token(
        &self,
        grant_token: &str,
    ) -> Result<SessionClient, Error> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {grant_token}"))
            .map_err(|_| Error::HeaderValue("grant token"))?;
        bearer.set_sensitive(true);
        let call = self.session_call()?.header(AUTHORIZATION, bearer);
        self.created(call).await
    }

    /// A client that acts for a session which exists already.
    pub fn session(&self, session_id: SessionId) -> Result<SessionClient, Error> {
        SessionClient::new(self.transport.clone(), session_id)
    }

    /// The relay's version, such as `4.2.0`.
    pub async fn version(&self) -> Result<String, Error> {
        self.question("version")?.text().await
    }

    /// `Ok` once the relay consumes device messages; [`Error::Status`] with 503 until then, with 500 when its
    /// configuration keeps it from ever doing so.
    pub async fn status(&self) -> Result<(), Error> {
        self.question("status")?.acknowledged().await
    }

    /// `Ok` while the process serves and device messages reach it or soon will; else [`Error::Status`] with 503.
    pub async fn healthz(&self) -> Result<(), Error> {
        self.question("healthz")?.acknowledged().await
    }

    /// `Ok` while device messages reach the process, so that clients may be sent to it; else [`Error::Status`] with
    /// 503 or 500.
    pub async fn readyz(&self) -> Result<(), Error> {
        self.question("readyz")?.acknowledged().await
    }

    /// The relay's metrics as text, for a scraper.
    pub async fn metrics(&self) -> Result<String, Error> {
        self.question("metrics")?.text().await
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    fn question(&self, path: &str) -> Result<Call<'_>, Error> {
        self.transport.call(Repeat::Never, Method::GET, &[path])
    }

    fn session_call(&self) -> Result<Call<'_>, Error> {
        self.transport
            .call(Repeat::IfUnseen, Method::POST, &["session"])
    }

    async fn created(&self, call: Call<'_>) -> Result<SessionClient, Error> {
        let created: CreatedSession = call.read().await?;
        self.session(created.session_id)
    }
}
