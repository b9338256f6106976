//! Sending a call: the attempts it takes, within one time-out, and what came back.

use std::{sync::Arc, time::Duration};

use relay_protocol::{Identity, LastValue, ModuleId, TelemetrySnapshot, TelemetryValues, Twin};
use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Endpoint, Error, Settings, SetupError, retry::Repeat};

/// Longest message kept from an answer outside 2xx.
const MESSAGE_CHARS_MAX: usize = 4096;

/// The way to one relay. Clones share their pooled connections.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: Client,
    endpoint: Endpoint,
    user_agent: HeaderValue,
    settings: Arc<Settings>,
}

impl Transport {
    pub(crate) fn new(endpoint: Endpoint, settings: Settings) -> Result<Self, SetupError> {
        Ok(Self {
            http: settings.client()?,
            endpoint,
            user_agent: settings.user_agent_header()?,
            settings: Arc::new(settings),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A call to the path with these segments.
    pub(crate) fn call(
        &self,
        repeat: Repeat,
        method: Method,
        segments: &[&str],
    ) -> Result<Call<'_>, Error> {
        self.call_about(None, repeat, method, segments)
    }

    /// A call to the path with these segments, about a module if one is named.
    fn call_about(
        &self,
        module_id: Option<&ModuleId>,
        repeat: Repeat,
        method: Method,
        segments: &[&str],
    ) -> Result<Call<'_>, Error> {
        // A URL drops such segments, which would turn the deletion of one session into the deletion of all.
        if let Some(segment) = segments
            .iter()
            .find(|segment| matches!(**segment, "" | "." | ".."))
        {
            return Err(Error::PathSegment((*segment).to_owned()));
        }
        let mut url = self.endpoint.join(segments);
        if let Some(module_id) = module_id {
            url.query_pairs_mut()
                .append_pair("moduleId", module_id.as_str());
        }
        let request = self
            .http
            .request(method, url)
            .header(USER_AGENT, self.user_agent.clone());
        Ok(Call {
            request,
            repeat,
            timeout: self.settings.request_timeout,
            settings: &self.settings,
        })
    }
}

/// A call being put together.
#[must_use = "a call is sent by reading its answer"]
pub(crate) struct Call<'a> {
    request: RequestBuilder,
    repeat: Repeat,
    timeout: Duration,
    settings: &'a Settings,
}

impl Call<'_> {
    pub(crate) fn header(mut self, name: impl Into<HeaderName>, value: HeaderValue) -> Self {
        self.request = self.request.header(name.into(), value);
        self
    }

    pub(crate) fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        self.request = self.request.json(body);
        self
    }

    /// Lets the call take this long when that is longer than its time-out.
    pub(crate) fn takes_up_to(mut self, duration: Duration) -> Self {
        self.timeout = self.timeout.max(duration);
        self
    }

    /// Sends it and drops the answer, if that is within 2xx.
    pub(crate) async fn acknowledged(self) -> Result<(), Error> {
        self.answer().await.map(drop)
    }

    /// Sends it and reads the answer as text.
    pub(crate) async fn text(self) -> Result<String, Error> {
        let answer = self.answer().await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends it and reads the answer as JSON.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.answer().await?).map_err(Error::UnreadableAnswer)
    }

    /// Sends it until it succeeds, fails in a way that must not be repeated, or runs out of attempts or time.
    async fn answer(self) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + self.timeout;
        let mut attempt = 1;
        loop {
            let request = self
                .request
                .try_clone()
                .expect("the body is text, not a stream");
            let Ok(outcome) = timeout_at(deadline, self.attempt(request)).await else {
                return Err(Error::TimedOut);
            };
            let error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) if !self.repeat.allowed_after(&error) => return Err(error),
                Err(error) => error,
            };
            // The failure says more than that there was no time for another attempt.
            match self.settings.retry.pause(attempt, &error) {
                Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
                Some(_) | None => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, request: RequestBuilder) -> Result<Vec<u8>, Error> {
        let response = request.send().await.map_err(Error::from_http)?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = self.body(response).await?;
        if status.is_success() {
            return Ok(body);
        }
        let message = String::from_utf8_lossy(&body);
        Err(Error::Status {
            status: status.as_u16(),
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
            retry_after,
        })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let bytes_max = self.settings.answer_bytes_max;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Error::from_http)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(Error::AnswerTooLong { bytes_max });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The form in seconds; the relay writes no other.
fn retry_after(response: &Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER)?;
    let seconds = header.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A transport with the header that says who calls: a key or a session.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) transport: Transport,
    header: HeaderName,
    credential: HeaderValue,
}

impl Caller {
    /// A caller that shows `credential`, which is marked as sensitive, in `header`.
    pub(crate) fn new(
        transport: Transport,
        header: &'static str,
        mut credential: HeaderValue,
    ) -> Self {
        credential.set_sensitive(true);
        let header = HeaderName::from_bytes(header.as_bytes())
            .expect("the names of the two headers are valid");
        Self {
            transport,
            header,
            credential,
        }
    }

    pub(crate) fn call(
        &self,
        repeat: Repeat,
        method: Method,
        segments: &[&str],
    ) -> Result<Call<'_>, Error> {
        self.call_about(None, repeat, method, segments)
    }

    fn call_about(
        &self,
        module_id: Option<&ModuleId>,
        repeat: Repeat,
        method: Method,
        segments: &[&str],
    ) -> Result<Call<'_>, Error> {
        let call = self
            .transport
            .call_about(module_id, repeat, method, segments)?;
        Ok(call.header(self.header.clone(), self.credential.clone()))
    }

    // What a key may read of any device, and a session of those it was granted.

    pub(crate) async fn last_value(
        &self,
        of: &Identity,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetryValues>, Error> {
        let path = ["lastValue", of.device_id.as_str(), telemetry_key];
        self.read_about(of, &path).await
    }

    pub(crate) async fn last_values(
        &self,
        of: &Identity,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        let path = ["lastValue", of.device_id.as_str()];
        self.read_about(of, &path).await
    }

    pub(crate) async fn delete_last_value(
        &self,
        of: &Identity,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        let path = ["lastValue", of.device_id.as_str(), telemetry_key];
        let call = self.call_about(
            of.module_id.as_ref(),
            Repeat::IfUnseen,
            Method::DELETE,
            &path,
        )?;
        call.read().await
    }

    pub(crate) async fn delete_last_values(
        &self,
        of: &Identity,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        let path = ["lastValue", of.device_id.as_str()];
        let call = self.call_about(
            of.module_id.as_ref(),
            Repeat::IfUnseen,
            Method::DELETE,
            &path,
        )?;
        call.read().await
    }

    pub(crate) async fn connection_state(&self, of: &Identity) -> Result<LastValue<bool>, Error> {
        let path = ["connectionState", of.device_id.as_str()];
        self.read_about(of, &path).await
    }

    pub(crate) async fn device_twin(&self, of: &Identity) -> Result<LastValue<Twin>, Error> {
        let path = ["deviceTwin", of.device_id.as_str()];
        self.read_about(of, &path).await
    }

    async fn read_about<T: DeserializeOwned>(
        &self,
        of: &Identity,
        path: &[&str],
    ) -> Result<T, Error> {
        let call = self.call_about(of.module_id.as_ref(), Repeat::Safe, Method::GET, path)?;
        call.read().await
    }
}
