//! Shared access signatures of Event Hubs and Service Bus:
//! `SharedAccessSignature sr=<resource>&sig=<signature>&se=<expiry>&skn=<policy>`, where the signature
//! is HMAC-SHA256 over the encoded resource, a line feed and the expiry, with the key's text as key.

use std::{fmt, fs, path::Path, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::kept_file::{self, Access, Error as FileError};

const PREFIX: &str = "SharedAccessSignature ";

/// What `encodeURIComponent` leaves alone.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The key of a policy. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedAccessKey(String);

impl SharedAccessKey {
    /// A key from its text, as it stands in connection strings.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A random key of the form that Azure makes: 32 bytes in base64.
    pub fn generate() -> Self {
        Self(BASE64_STANDARD.encode(rand::random::<[u8; 32]>()))
    }

    /// The key of the devhub that last used `directory`, or else a random one, kept there in the file
    /// `shared-access-key` for its owner only.
    pub fn load_or_create(directory: &Path) -> Result<Self, FileError> {
        let path = directory.join("shared-access-key");
        let kept = fs::read_to_string(&path).ok().filter(|text| is_key(text));
        if let Some(text) = kept {
            return Ok(Self(text));
        }
        let key = Self::generate();
        kept_file::write(&path, &key.0, Access::Owner)?;
        Ok(key)
    }

    /// The text, for connection strings.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether a text is a key of the form that Azure makes.
fn is_key(text: &str) -> bool {
    BASE64_STANDARD
        .decode(text)
        .is_ok_and(|key| key.len() == 32)
}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedAccessKey(..)")
    }
}

/// Why a token does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not a shared access signature.
    #[error("the token is not a shared access signature with sr, sig, se and skn")]
    Malformed,
    /// It is signed for a policy that does not exist.
    #[error("the token names an unknown policy")]
    UnknownPolicy,
    /// The key that signed it is not the policy's.
    #[error("the token has an invalid signature")]
    InvalidSignature,
    /// Its time has passed.
    #[error("the token is expired")]
    Expired,
}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The resource that it opens, decoded.
    pub resource: String,
    /// When it lapses, since the Unix epoch.
    pub expires: Duration,
}

/// Signs a token for a resource such as `sb://host/hub` until `expires`, counted from the Unix epoch.
pub fn sign(resource: &str, policy: &str, key: &SharedAccessKey, expires: Duration) -> String {
    let resource = utf8_percent_encode(resource, UNRESERVED).to_string();
    let expiry = expires.as_secs().to_string();
    let signature = hmac::sign(&hmac_key(key), signed_text(&resource, &expiry).as_bytes());
    let signature = BASE64_STANDARD.encode(signature);
    format!(
        "{PREFIX}sr={resource}&sig={}&se={expiry}&skn={}",
        utf8_percent_encode(&signature, UNRESERVED),
        utf8_percent_encode(policy, UNRESERVED),
    )
}

/// Verifies a token against a policy and its key at the time `now`, counted from the Unix epoch.
/// SDKs encode the resource in several ways, so the signature is taken over its text as it stands.
pub fn verify(
    token: &str,
    policy: &str,
    key: &SharedAccessKey,
    now: Duration,
) -> Result<Claims, Error> {
    let Fields {
        resource,
        signature,
        expiry,
        policy: named,
    } = Fields::parse(token).ok_or(Error::Malformed)?;
    if decode(named) != policy {
        return Err(Error::UnknownPolicy);
    }
    let signature = BASE64_STANDARD
        .decode(decode(signature))
        .map_err(|_| Error::Malformed)?;
    hmac::verify(
        &hmac_key(key),
        signed_text(resource, expiry).as_bytes(),
        &signature,
    )
    .map_err(|_| Error::InvalidSignature)?;
    let expires = Duration::from_secs(expiry.parse().map_err(|_| Error::Malformed)?);
    if expires <= now {
        return Err(Error::Expired);
    }
    Ok(Claims {
        resource: decode(resource),
        expires,
    })
}

struct Fields<'a> {
    resource: &'a str,
    signature: &'a str,
    expiry: &'a str,
    policy: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(token: &'a str) -> Option<Self> {
        let [mut resource, mut signature, mut expiry, mut policy] = [None; 4];
        for field in token.strip_prefix(PREFIX)?.split('&') {
            let (name, value) = field.split_once('=')?;
            match name.trim() {
                "sr" => resource = Some(value),
                "sig" => signature = Some(value),
                "se" => expiry = Some(value),
                "skn" => policy = Some(value),
                _ => {}
            }
        }
        Some(Self {
            resource: resource?,
            signature: signature?,
            expiry: expiry?,
            policy: policy?,
        })
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn hmac_key(key: &SharedAccessKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.0.as_bytes())
}

fn signed_text(resource: &str, expiry: &str) -> String {
    format!("{resource}\n{expiry}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "RootManageSharedAccessKey";
    const NOW: Duration = Duration::from_secs(1_000);
    const LATER: Duration = Duration::from_secs(2_000);

    fn key() -> SharedAccessKey {
        SharedAccessKey::new("a2V5")
    }

    #[test]
    fn a_kept_key_is_used_again_unless_it_was_spoilt() {
        let directory = tempfile::tempdir().unwrap();
        let first = SharedAccessKey::load_or_create(directory.path()).unwrap();
        let again = SharedAccessKey::load_or_create(directory.path()).unwrap();
        assert_eq!(first, again);

        fs::write(directory.path().join("shared-access-key"), "spoilt").unwrap();
        let anew = SharedAccessKey::load_or_create(directory.path()).unwrap();
        assert_ne!(first, anew);
    }

    #[test]
    fn a_signed_token_verifies_until_it_expires() {
        let token = sign("sb://localhost:5672/hub", POLICY, &key(), LATER);
        assert_eq!(
            verify(&token, POLICY, &key(), NOW),
            Ok(Claims {
                resource: "sb://localhost:5672/hub".into(),
                expires: LATER
            })
        );
        assert_eq!(verify(&token, POLICY, &key(), LATER), Err(Error::Expired));
    }

    /// Computed with OpenSSL over `sb%3a%2f%2fhost%2fhub\n2000`; the lower-case escapes are those of
    /// the .NET SDK, the order of fields is free.
    #[test]
    fn the_signature_is_over_the_resource_as_it_is_written() {
        let token = "SharedAccessSignature se=2000&skn=RootManageSharedAccessKey&\
                     sr=sb%3a%2f%2fhost%2fhub&sig=tGo5dlaJRy3sdW0ONVfTzZKljN7%2Bp2yKT3lKlkfQK%2FI%3D";
        let claims = verify(token, POLICY, &key(), NOW).unwrap();
        assert_eq!(claims.resource, "sb://host/hub");
    }

    #[test]
    fn a_token_that_was_changed_is_refused() {
        let token = sign("sb://h/hub", POLICY, &key(), LATER);
        let refused = |token: &str| verify(token, POLICY, &key(), NOW).unwrap_err();
        assert_eq!(
            refused(&token.replace("hub", "bub")),
            Error::InvalidSignature
        );
        assert_eq!(
            refused(&token.replace("se=2000", "se=3000")),
            Error::InvalidSignature
        );
        assert_eq!(
            refused(&token.replace("Root", "Boot")),
            Error::UnknownPolicy
        );
        assert_eq!(refused(&token.replace("&se=2000", "")), Error::Malformed);
        assert_eq!(refused(""), Error::Malformed);
        let other = SharedAccessKey::new("b3RoZXI=");
        assert_eq!(
            verify(&token, POLICY, &other, NOW),
            Err(Error::InvalidSignature)
        );
    }

    #[test]
    fn a_key_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", key()).contains("a2V5"));
    }
}
