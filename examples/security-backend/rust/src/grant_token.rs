//! Grant tokens: JSON Web Tokens signed with HS256, as `docs/grant-tokens.md` describes.

use jsonwebtoken::{EncodingKey, Header};
use relay_protocol::DeviceId;
use serde::Serialize;
use serde_json::json;

use crate::users::{Right, User};

/// How long a token, and what it grants, lives. A user who loses a right keeps it for so long at most.
const LIFETIME_S: i64 = 300;

/// Signs tokens with the secret that the relay was given as well.
pub(crate) struct GrantTokenKey(EncodingKey);

/// Answer to the browser.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IssuedToken {
    grant_token: String,
    /// Unix time in seconds.
    expires_at: i64,
}

/// A grant as the token carries it; without `telemetryKey` it holds for every key.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenGrant<'a> {
    device_id: &'a DeviceId,
    #[serde(rename = "type")]
    right: Right,
}

impl GrantTokenKey {
    pub(crate) fn new(secret: &str) -> Self {
        Self(EncodingKey::from_secret(secret.as_bytes()))
    }

    /// A token with everything that `user` may see.
    pub(crate) fn issue(&self, user: &User) -> IssuedToken {
        let now = jiff::Timestamp::now().as_second();
        let expires_at = now + LIFETIME_S;
        let grants: Vec<_> = user
            .rights()
            .map(|(device_id, right)| TokenGrant { device_id, right })
            .collect();
        let claims = json!({
            "iss": "security-backend", "aud": "hubrelay", "sub": user.name(),
            "iat": now, "exp": expires_at, "hubrelay": {"grants": grants},
        });
        let grant_token = jsonwebtoken::encode(&Header::default(), &claims, &self.0)
            .expect("a secret signs any JSON");
        IssuedToken {
            grant_token,
            expires_at,
        }
    }
}
