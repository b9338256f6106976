//! Where a request carries a grant token.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

/// The token in the header `Authorization: Bearer …` (RFC 6750 §2.1); empty when there is nothing behind the scheme.
/// Credentials of other schemes are ignored: they are for somebody on the way.
pub fn bearer_token(headers: &HeaderMap) -> Option<String> {
    // What is no text is no token either, which verifying it will say.
    let credentials = String::from_utf8_lossy(headers.get(AUTHORIZATION)?.as_bytes());
    let (scheme, token) = credentials.split_once(' ').unwrap_or((&credentials, ""));
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' ').to_owned())
}
