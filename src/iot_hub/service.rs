//! One request to the IoT hub's service API, over pooled HTTPS connections, within bounds of time and size.
//!
//! What matters most of a failure is whether the hub may have got the request: a call that it certainly did not get can
//! be made again, whatever it does.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, IF_MATCH, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode};
use url::{Host, Url};

use super::address::Address;
use super::refusal::Refusal;
use super::token::Tokens;
use crate::clock::SharedClock;
use crate::config::{IotHubConnectionString, IotHubUse, Secret};
use crate::trust;

/// Version of the service API that is spoken.
const API_VERSION: &str = "2021-04-12";

/// Longest time for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept: shorter than the service keeps it, so that a call does not start on one that
/// is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most unused connections.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Longest body of an error.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The header in which the hub names an error.
const ERROR_CODE: &str = "iothub-errorcode";

/// Content type of every body.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// The service API of one hub.
#[derive(Debug)]
pub(super) struct Service {
    client: Client,
    base: Url,
    tokens: Tokens,
    /// What an answer must not show.
    private: [Secret; 2],
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) address: Address,
    pub(super) if_match: Option<HeaderValue>,
    pub(super) body: Option<String>,
    /// Longest time from the beginning to the end of the answer.
    pub(super) timeout: Duration,
    /// Longest answer that is read.
    pub(super) answer_bytes_max: usize,
}

/// Why a request was not answered as wanted.
#[derive(Debug)]
pub(super) enum Failure {
    /// The hub certainly did not get it; why, for the log.
    NotSent(String),
    /// The hub may have got it; what is wrong with the answer, for the log.
    NoAnswer(String),
    /// The hub refused it.
    Refused(Refusal),
}

impl Service {
    /// Sets up the client; nothing is connected yet.
    pub(super) fn new(
        connection_string: &IotHubConnectionString,
        config: &IotHubUse,
        clock: SharedClock,
    ) -> io::Result<Self> {
        let host = &connection_string.host;
        let authority = match Host::parse(host).or_else(|_| Host::parse(&format!("[{host}]"))) {
            Ok(host) => host.to_string(),
            Err(error) => return Err(io::Error::other(error)),
        };
        let base = format!("https://{authority}:{}/", connection_string.https_port());
        let base = Url::parse(&base).map_err(io::Error::other)?;
        let tls = trust::tls_client_trusting(config.ca_file.as_deref())?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true);
        Self::with(client, base, connection_string, clock)
    }

    /// As [`new`](Self::new), for a hub without TLS at another address.
    #[cfg(test)]
    pub(super) fn without_tls(
        base: Url,
        connection_string: &IotHubConnectionString,
        clock: SharedClock,
    ) -> io::Result<Self> {
        Self::with(Client::builder(), base, connection_string, clock)
    }

    fn with(
        client: reqwest::ClientBuilder,
        base: Url,
        connection_string: &IotHubConnectionString,
        clock: SharedClock,
    ) -> io::Result<Self> {
        let client = client
            .user_agent(concat!("hubrelay/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(|error| io::Error::other(error.without_url()))?;
        Ok(Self {
            client,
            base,
            tokens: Tokens::new(connection_string, clock),
            private: [
                Secret::new(connection_string.host.as_str()),
                connection_string.key.clone(),
            ],
        })
    }

    /// Makes a request once. The answer is the body of a success, which is UTF-8.
    pub(super) async fn send(&self, request: &Request) -> Result<String, Failure> {
        let mut url = self.base.clone();
        request.address.append_to(&mut url);
        url.query_pairs_mut()
            .append_pair("api-version", API_VERSION);
        let mut call = self
            .client
            .request(request.method.clone(), url)
            .timeout(request.timeout)
            .header(AUTHORIZATION, self.tokens.authorization());
        if let Some(etag) = &request.if_match {
            call = call.header(IF_MATCH, etag);
        }
        if let Some(body) = &request.body {
            call = call.header(CONTENT_TYPE, JSON).body(body.clone());
        }
        let response = call.send().await.map_err(|error| {
            let cause = innermost(&error);
            if error.is_connect() {
                Failure::NotSent(cause)
            } else {
                Failure::NoAnswer(cause)
            }
        })?;
        if response.status() == StatusCode::OK {
            let body = read(response, request.answer_bytes_max).await?;
            String::from_utf8(body).map_err(|_| no_answer("it is not UTF-8"))
        } else {
            Err(self.refusal(response).await)
        }
    }

    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status().as_u16();
        if response.status() == StatusCode::UNAUTHORIZED {
            self.tokens.discard();
        }
        let text = |name| response.headers().get(name)?.to_str().ok();
        let code = text(ERROR_CODE).map(str::to_owned);
        let retry_after_s = text(RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
        // The status says enough when the body does not arrive.
        let body = read(response, ERROR_BYTES_MAX).await.unwrap_or_default();
        Failure::Refused(Refusal::read(
            status,
            code.as_deref(),
            retry_after_s,
            &body,
            self.private.each_ref().map(Secret::expose).as_slice(),
        ))
    }
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > bytes_max => {
                return Err(no_answer("it is too long"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(Failure::NoAnswer(innermost(&error))),
        }
    }
}

fn no_answer(what: &str) -> Failure {
    Failure::NoAnswer(what.to_owned())
}

/// The cause at the bottom says what happened; those above say "error sending request", and name the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => "it took too long".to_owned(),
        Some(_) => "the request failed".to_owned(),
        None => cause.to_string(),
    }
}
