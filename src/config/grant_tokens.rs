//! Which grant tokens are accepted: with whose signatures, from whom, for whom, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::Secret;

/// Shortest secret for HMAC-SHA256: as many bytes as its output has (RFC 7518 §3.2).
pub const SIGNING_SECRET_BYTES_MIN: usize = 32;

/// Which grant tokens are accepted. With neither a secret nor a key set none is.
#[derive(Clone, Debug)]
pub struct GrantTokenConfig {
    /// The secret of tokens that are signed with HS256.
    pub secret: Option<Secret>,
    /// A second secret, equally good.
    pub secondary_secret: Option<Secret>,
    /// The public keys of tokens that are signed with RS256 or ES256.
    pub key_set: Option<KeySetLocation>,
    /// How long a key set is used until it is fetched again.
    pub key_set_refresh: Duration,
    /// The issuer that every token must name; `None` accepts any.
    pub issuer: Option<String>,
    /// The audience that every token must name; `None` accepts any.
    pub audience: Option<String>,
    /// How far the clock of whoever signs may be ahead of ours.
    pub clock_skew: Duration,
    /// How far ahead the expiry of a token may lie.
    pub lifetime_max: Duration,
}

/// Where a JSON Web Key Set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetLocation {
    /// On a web server.
    Url(Url),
    /// In a file.
    File(PathBuf),
}

/// A text that is neither a URL nor empty, or a URL that anybody on the way could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a trustworthy URL")]
pub(super) struct NotTrustworthy;

/// A text that is too short for a secret, or has blanks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secret of at least {SIGNING_SECRET_BYTES_MIN} bytes")]
pub(super) struct Weak;

/// The URL in `text`, unless it is empty. Only those are taken whose answers nobody on the way can change.
pub(super) fn trustworthy_url(text: &str) -> Result<Option<Url>, NotTrustworthy> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text).map_err(|_| NotTrustworthy)?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(NotTrustworthy),
    };
    let is_encrypted = url.scheme() == "https";
    let is_plain = url.scheme() == "http";
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if is_bare && (is_encrypted || (is_plain && is_local)) {
        Ok(Some(url))
    } else {
        Err(NotTrustworthy)
    }
}

/// The secret in `text`, which must be long enough; an empty text holds none. A line end that came along from a file
/// is refused: it would make a secret that no other program has.
pub(super) fn signing_secret(text: &str) -> Result<Option<Secret>, Weak> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.trim() != text || text.len() < SIGNING_SECRET_BYTES_MIN {
        return Err(Weak);
    }
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_comes_over_tls_or_from_this_machine() {
        for url in [
            "https://login.example.com/keys?version=2",
            "http://localhost:8080/keys",
            "http://127.0.0.1/keys",
            "http://[::1]:1/keys",
        ] {
            assert_eq!(
                trustworthy_url(url).unwrap().unwrap(),
                Url::parse(url).unwrap()
            );
        }
        for text in [
            "http://login.example.com/keys",
            "http://localhost.example.com/keys",
            "http://128.0.0.1/keys",
            "https://user:password@login.example.com/keys",
            "https://user@login.example.com/keys",
            "https://login.example.com/keys#1",
            "ftp://localhost/keys",
            "file:///keys.json",
            "data:,keys",
            "/keys.json",
            "keys",
        ] {
            assert_eq!(trustworthy_url(text), Err(NotTrustworthy), "{text}");
        }
        assert_eq!(trustworthy_url(""), Ok(None));
    }

    #[test]
    fn a_signing_secret_is_as_long_as_its_algorithm_wants() {
        let secret = "s".repeat(SIGNING_SECRET_BYTES_MIN);
        assert!(signing_secret(&secret).unwrap().is_some());
        assert!(signing_secret("").unwrap().is_none());
        for text in [&secret[1..], &format!("{secret}\n"), &format!(" {secret}")] {
            assert_eq!(signing_secret(text), Err(Weak));
        }
    }
}
