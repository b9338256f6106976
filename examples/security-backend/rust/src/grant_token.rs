//! Grant tokens: JSON Web Tokens (RFC 7519) signed with HS256 (RFC 7518 §3.2), as `docs/grant-tokens.md` describes.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use relay_protocol::DeviceId;
use serde::Serialize;
use serde_json::json;

use crate::users::{Right, User};

/// How long a token, and what it grants, lives. A user who loses a right keeps it for so long at most.
const LIFETIME_S: i64 = 300;

/// Signs tokens with the secret that the relay was given as well.
pub(crate) struct GrantTokenKey(hmac::Key);

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
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// A token with everything that `user` may see.
    pub(crate) fn issue(&self, user: &User) -> IssuedToken {
        let now = jiff::Timestamp::now().as_second();
        let expires_at = now + LIFETIME_S;
        let grants: Vec<_> = user
            .rights()
            .map(|(device_id, right)| TokenGrant { device_id, right })
            .collect();
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let claims = json!({
            "iss": "security-backend", "aud": "hubrelay", "sub": user.name(),
            "iat": now, "exp": expires_at, "hubrelay": {"grants": grants},
        });
        let part = |json: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, signed.as_bytes()));
        IssuedToken {
            grant_token: format!("{signed}.{signature}"),
            expires_at,
        }
    }
}
