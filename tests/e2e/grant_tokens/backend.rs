// A security backend that signs a grant token. docs/grant-tokens.md shows this file.
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

/// A token for a user who may see these devices, for the five minutes after `unix_s`.
pub(crate) fn grant_token(
    secret: &str,
    unix_s: u64,
    user_id: &str,
    device_ids: &[&str],
) -> Result<String, jsonwebtoken::errors::Error> {
    let grants: Vec<_> = device_ids
        .iter()
        .flat_map(|id| ["telemetry", "connectionState"].map(|kind| (id, kind)))
        .map(|(id, kind)| json!({ "deviceId": id, "type": kind }))
        .collect();
    let claims = json!({
        "iss": "https://backend.example.com",
        "aud": "hubrelay",
        "sub": user_id,
        "iat": unix_s,
        "exp": unix_s + 300,
        "hubrelay": { "grants": grants },
    });
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::default(), &claims, &key)
}
