//! Grant tokens, signed as a security backend signs them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

/// What signs them; the relay is given it as `HUBRELAY_GRANT_TOKEN_SECRET`.
pub(crate) const GRANT_TOKEN_SECRET: &str = "a secret that is long enough to sign with";

/// A token with these claims.
pub(crate) fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(GRANT_TOKEN_SECRET.as_bytes());
    encode(&Header::default(), claims, &key).expect("claims can be signed")
}

/// A token that carries `grants` for a minute.
#[expect(
    clippy::disallowed_methods,
    reason = "the test is the security backend, which has a clock of its own"
)]
pub(crate) fn grant_token(grants: &[Value]) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let expires = since.expect("it is after 1970").as_secs() + 60;
    signed(&json!({"exp": expires, "hubrelay": {"grants": grants}}))
}
