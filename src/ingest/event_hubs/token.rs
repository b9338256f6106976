//! Tokens: how the relay proves to an event hub that it may read. The text of the key signs as it is, without base64
//! decoding.

use std::time::Duration;

use crate::config::connection_string::EventHubCredential;
use crate::config::secret::Secret;
use crate::shared_access_signature::sign;

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
                Self {
                    text: sign(resource, name, key.expose().as_bytes(), expires),
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
        assert_eq!(
            token.text,
            sign(
                "sb://hub.example/telemetry",
                "listen & read",
                b"c2VjcmV0",
                1_700_003_600
            )
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
