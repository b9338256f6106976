//! Grant tokens: JWTs with which a security backend hands a client its grants, without a call for each of them.
//!
//! [`GrantTokens::verify`] says what a token allows or why it is refused. What it guarantees:
//! - The kind of a configured key decides with which algorithm it is used, never the token: a secret verifies HS256 and
//!   nothing else, an RSA key RS256, a P-256 key ES256 (RFC 8725 §3.1).
//! - Nothing in a token is acted upon before its signature has been found right, except its algorithm and key id.
//! - Grants of a verified token end at the expiry that is written in it, by the clock here.
//! - Neither a log line nor an error holds anything of a token.
//! - Tokens whose key is known are verified without waiting for anybody. An unknown key lets the key set be fetched
//!   again, at most so often; only those wait that need it.
//!
//! Parts: `jws` takes tokens apart, `key_set` reads public keys, `claims` has the rules; these are pure. `keys`
//! keeps the key set fresh.

mod bearer;
mod claims;
mod error;
mod jws;
mod key_set;
mod keys;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;

pub use self::bearer::bearer_token;
use self::claims::Rules;
pub use self::error::{AcceptedAlgorithms, Claim, TokenError};
pub use self::jws::Algorithm;
use self::jws::Jws;
use self::keys::{Keys, Timing};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::relay::Authorization;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::GrantTokenMetrics;

/// Verifies grant tokens. Clones share everything.
#[derive(Clone)]
pub struct GrantTokens {
    inner: Arc<Inner>,
}

struct Inner {
    rules: Rules,
    secrets: Vec<hmac::Key>,
    keys: Option<Keys>,
    clock: SharedClock,
    metrics: Arc<GrantTokenMetrics>,
}

impl GrantTokens {
    /// Takes the configured secrets, and starts to fetch the configured key set.
    pub fn start(
        config: &Config,
        clock: SharedClock,
        metrics: &Metrics,
        lifecycle: &Lifecycle,
    ) -> Self {
        Self::with_timing(config, clock, metrics, lifecycle, Timing::default())
    }

    fn with_timing(
        config: &Config,
        clock: SharedClock,
        metrics: &Metrics,
        lifecycle: &Lifecycle,
        timing: Timing,
    ) -> Self {
        let tokens = &config.grant_tokens;
        let metrics = metrics.grant_tokens.clone();
        let secrets = [&tokens.secret, &tokens.secondary_secret]
            .into_iter()
            .flatten()
            .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
            .collect();
        let keys = tokens.key_set.clone().map(|location| {
            Keys::start(
                location,
                tokens.key_set_refresh,
                timing,
                metrics.clone(),
                lifecycle,
            )
        });
        Self {
            inner: Arc::new(Inner {
                rules: Rules::from_config(tokens, config.limits.grants_per_session_max),
                secrets,
                keys,
                clock,
                metrics,
            }),
        }
    }

    /// What a token allows now. Waits only for a key set that has to be fetched for it, and not for long.
    pub async fn verify(&self, token: &str) -> Result<Authorization, TokenError> {
        let verified = self.inner.verify(token).await;
        match &verified {
            Ok(_) => {
                self.inner.metrics.accepted.inc();
            }
            Err(error) => self.inner.metrics.refused.inc(error.refusal()),
        }
        verified
    }
}

impl fmt::Debug for GrantTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GrantTokens")
            .field("rules", &self.inner.rules)
            .finish_non_exhaustive()
    }
}

impl Inner {
    async fn verify(&self, token: &str) -> Result<Authorization, TokenError> {
        let accepted = self.accepted_algorithms().ok_or(TokenError::NotAccepted)?;
        let jws = Jws::parse(token)?;
        match (jws.algorithm, &self.keys) {
            (Some(Algorithm::Hs256), _) if !self.secrets.is_empty() => {
                let is_right = |key| hmac::verify(key, jws.signed, &jws.signature).is_ok();
                if !self.secrets.iter().any(is_right) {
                    return Err(TokenError::Signature);
                }
            }
            (Some(algorithm @ (Algorithm::Rs256 | Algorithm::Es256)), Some(keys)) => {
                keys.verify(algorithm, &jws).await?;
            }
            (_, _) => return Err(TokenError::Algorithm(accepted)),
        }
        self.rules.authorize(&jws.payload()?, self.clock.unix_ms())
    }

    fn accepted_algorithms(&self) -> Option<AcceptedAlgorithms> {
        match (self.secrets.is_empty(), &self.keys) {
            (true, None) => None,
            (false, None) => Some(AcceptedAlgorithms::Secret),
            (true, Some(_)) => Some(AcceptedAlgorithms::KeySet),
            (false, Some(_)) => Some(AcceptedAlgorithms::Both),
        }
    }
}
