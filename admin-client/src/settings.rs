//! How a client talks HTTP: time-outs, repetitions, certificates.

use std::time::Duration;

use reqwest::{Certificate, Client, header::HeaderValue, redirect};

use crate::{RetryPolicy, SetupError};

/// How a client talks to the relay. [`Settings::default`] suits a backend in the same region.
///
/// ```
/// use std::time::Duration;
/// use admin_client::{RetryPolicy, Settings};
///
/// let settings = Settings::default()
///     .request_timeout(Duration::from_secs(5))
///     .retry(RetryPolicy::NEVER)
///     .user_agent("plant-portal/2.1");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Settings {
    pub(crate) request_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) answer_bytes_max: usize,
    connect_timeout: Duration,
    user_agent: String,
    ca_certificates_pem: Vec<Vec<u8>>,
    http_client: Option<Client>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            answer_bytes_max: 16 << 20,
            connect_timeout: Duration::from_secs(5),
            user_agent: concat!("hubrelay-admin-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            ca_certificates_pem: Vec::new(),
            http_client: None,
        }
    }
}

impl Settings {
    /// Within which time a call ends, its repetitions and their pauses included. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Within which time a connection is made, TLS included. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// When calls are made again.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Longest answer that is read, in bytes. Default: 16 MiB.
    pub fn answer_bytes_max(mut self, bytes_max: usize) -> Self {
        self.answer_bytes_max = bytes_max;
        self
    }

    /// What the header `User-Agent` says. Default: `hubrelay-admin-client/` and this crate's version.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Trusts these certificate authorities (PEM, one or several) besides those of the operating system.
    pub fn ca_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_certificates_pem.push(pem.into());
        self
    }

    /// Sends everything with this HTTP client. Its own connect time-out, certificates and proxies then count instead
    /// of those set here.
    ///
    /// Build it with [`redirect::Policy::none`]: a client that follows redirects takes the key to wherever one points.
    pub fn http_client(mut self, client: Client) -> Self {
        self.http_client = Some(client);
        self
    }

    pub(crate) fn user_agent_header(&self) -> Result<HeaderValue, SetupError> {
        HeaderValue::from_str(&self.user_agent).map_err(|_| SetupError::UserAgent)
    }

    /// The HTTP client that was given, or one made of these settings.
    pub(crate) fn client(&self) -> Result<Client, SetupError> {
        if let Some(client) = &self.http_client {
            return Ok(client.clone());
        }
        let mut authorities = Vec::new();
        for pem in &self.ca_certificates_pem {
            let bundle = Certificate::from_pem_bundle(pem).map_err(SetupError::Certificates)?;
            if bundle.is_empty() {
                return Err(SetupError::NoCertificate);
            }
            authorities.extend(bundle);
        }
        Client::builder()
            .connect_timeout(self.connect_timeout)
            .redirect(redirect::Policy::none())
            .tls_certs_merge(authorities)
            .build()
            .map_err(SetupError::HttpClient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificate_is_refused() {
        let refused = Settings::default().ca_certificates_pem("no PEM").client();
        assert!(
            matches!(
                refused,
                Err(SetupError::NoCertificate | SetupError::Certificates(_))
            ),
            "{refused:?}"
        );
    }

    #[test]
    fn a_user_agent_that_no_header_carries_is_refused() {
        let refused = Settings::default().user_agent("a\nb").user_agent_header();
        assert!(matches!(refused, Err(SetupError::UserAgent)), "{refused:?}");
    }
}
