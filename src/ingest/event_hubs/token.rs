//! Shared access signatures: how the relay proves to an event hub that it may read.
//!
//! `SharedAccessSignature sr=<resource>&sig=<signature>&se=<expiry>&skn=<policy>`, signed with HMAC-SHA256 over the
//! encoded resource, a line feed and the expiry. The text of the key signs as it is, without base64 decoding.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::connection_string::EventHubCredential;
use crate::config::secret::Secret;

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A token and the time it lapses.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: Secret,
    /// In seconds since the Unix epoch; `None` when a given token does not tell.
    pub(super) expires_unix_s: Option<i64>,
}

impl Token {
    /// Signs a token for `resource`, or takes the one that was given.
    pub(super) fn issue(
        credential: &EventHubCredential,
        resource: &str,
        now_unix_ms: i64,
        lifetime: Duration,
    ) -> Self {
        match credential {
            EventHubCredential::SharedAccessKey { name, key } => {
                let lifetime_s = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
                let expires = (now_unix_ms / 1000).saturating_add(lifetime_s);
                let resource = utf8_percent_encode(resource, ENCODED);
                let signed = format!("{resource}\n{expires}");
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
                let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
                let signature = utf8_percent_encode(&signature, ENCODED);
                let name = utf8_percent_encode(name, ENCODED);
                let text = format!(
                    "SharedAccessSignature sr={resource}&sig={signature}&se={expires}&skn={name}"
                );
                Self {
                    text: Secret::new(text),
                    expires_unix_s: Some(expires),
                }
            }
            EventHubCredential::SharedAccessSignature(given) => Self {
                text: given.clone(),
                expires_unix_s: expiry(given.expose()),
            },
        }
    }
}

fn expiry(token: &str) -> Option<i64> {
    let (_, fields) = token.split_once(' ')?;
    let expiry = fields
        .split('&')
        .find_map(|field| field.strip_prefix("se="))?;
    expiry.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_with_the_text_of_the_key() {
        let credential = EventHubCredential::SharedAccessKey {
            name: "listen & read".to_owned(),
            key: Secret::new("c2VjcmV0"),
        };
        let token = Token::issue(
            &credential,
            "sb://hub.example/telemetry",
            1_700_000_000_999,
            Duration::from_hours(1),
        );
        assert_eq!(token.expires_unix_s, Some(1_700_003_600));
        let text = token.text.expose();
        // Computed with: openssl dgst -sha256 -hmac c2VjcmV0 -binary | base64
        assert_eq!(
            text,
            "SharedAccessSignature sr=sb%3A%2F%2Fhub.example%2Ftelemetry&sig=%2FkuBUm6LPktXK0Dgnj%2BLyJYI66071uFpHulUc8dKPAk%3D&se=1700003600&skn=listen%20%26%20read"
        );
        assert_eq!(expiry(text), Some(1_700_003_600));
    }

    #[test]
    fn a_given_token_is_taken_as_it_is() {
        let given = Secret::new("SharedAccessSignature sr=a&sig=b&se=1700000000&skn=c");
        let credential = EventHubCredential::SharedAccessSignature(given.clone());
        let token = Token::issue(&credential, "sb://x/y", 0, Duration::from_mins(1));
        assert_eq!(token.text, given);
        assert_eq!(token.expires_unix_s, Some(1_700_000_000));
    }
}
