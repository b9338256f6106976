//! Shared access signatures: `SharedAccessSignature sr=<resource>&sig=<signature>&se=<expiry>&skn=<policy>`,
//! where the signature is HMAC-SHA256 over the encoded resource, a line feed and the expiry.
//!
//! Event Hubs takes the key's text as the secret; [`sign`] and [`verify`] do so. IoT Hub takes the bytes that the
//! text encodes in base64, and a device that signs with its own key names no policy; see `Token` and
//! [`sign_for_iot_hub`].

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

    /// The key of the devhub that last used `directory`, or else a random one, kept there in a file of the name
    /// `file_name` for its owner only.
    pub fn load_or_create(directory: &Path, file_name: &str) -> Result<Self, FileError> {
        let path = directory.join(file_name);
        let kept = fs::read_to_string(&path).ok().filter(|text| is_key(text));
        if let Some(text) = kept {
            return Ok(Self(text));
        }
        let key = Self::generate();
        kept_file::write(&path, &key.0, Access::Owner)?;
        Ok(key)
    }

    /// A key that is always the same for one name under this key, of the form that Azure makes.
    pub(crate) fn derive(&self, name: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        Self(BASE64_STANDARD.encode(hmac::sign(&key, name.as_bytes())))
    }

    /// The bytes that the text encodes in base64, which is the secret for IoT Hub.
    pub(crate) fn decoded(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(&self.0).ok()
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
    sign_with(key.0.as_bytes(), resource, Some(policy), expires)
}

/// Signs a token for IoT Hub: for `host` with a policy, or for `host/devices/id` with the key of a device, which is
/// named by no policy. The key must be base64.
pub fn sign_for_iot_hub(
    resource: &str,
    policy: Option<&str>,
    key: &SharedAccessKey,
    expires: Duration,
) -> Result<String, Error> {
    let secret = key.decoded().ok_or(Error::InvalidSignature)?;
    Ok(sign_with(&secret, resource, policy, expires))
}

/// Verifies a token against a policy and its key at the time `now`, counted from the Unix epoch.
/// SDKs encode the resource in several ways, so the signature is taken over its text as it stands.
pub fn verify(
    token: &str,
    policy: &str,
    key: &SharedAccessKey,
    now: Duration,
) -> Result<Claims, Error> {
    let token = Token::parse(token)?;
    match token.policy() {
        Some(named) if named == policy => {}
        Some(_) => return Err(Error::UnknownPolicy),
        None => return Err(Error::Malformed),
    }
    let expires = token.verify_with(key.0.as_bytes(), now)?;
    Ok(Claims {
        resource: token.resource(),
        expires,
    })
}

/// A token that was taken apart and says nothing yet: first [`Token::verify_for_iot_hub`].
#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    resource: &'a str,
    signature: &'a str,
    expiry: &'a str,
    policy: Option<&'a str>,
}

impl<'a> Token<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, Error> {
        Self::fields(token).ok_or(Error::Malformed)
    }

    fn fields(token: &'a str) -> Option<Self> {
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
            policy: policy.filter(|policy| !policy.is_empty()),
        })
    }

    /// The resource, decoded.
    pub(crate) fn resource(&self) -> String {
        decode(self.resource)
    }

    /// The policy, decoded; `None` for a token signed with a device's own key.
    pub(crate) fn policy(&self) -> Option<String> {
        self.policy.map(decode)
    }

    /// When the token lapses, since the Unix epoch, provided that the key signed it and that it holds at `now`. A key
    /// that is no base64 has signed nothing.
    pub(crate) fn verify_for_iot_hub(
        &self,
        key: &SharedAccessKey,
        now: Duration,
    ) -> Result<Duration, Error> {
        let secret = key.decoded().ok_or(Error::InvalidSignature)?;
        self.verify_with(&secret, now)
    }

    fn verify_with(&self, secret: &[u8], now: Duration) -> Result<Duration, Error> {
        let signature = BASE64_STANDARD
            .decode(decode(self.signature))
            .map_err(|_| Error::Malformed)?;
        hmac::verify(
            &hmac::Key::new(hmac::HMAC_SHA256, secret),
            signed_text(self.resource, self.expiry).as_bytes(),
            &signature,
        )
        .map_err(|_| Error::InvalidSignature)?;
        let expires = Duration::from_secs(self.expiry.parse().map_err(|_| Error::Malformed)?);
        if expires <= now {
            return Err(Error::Expired);
        }
        Ok(expires)
    }
}

fn sign_with(secret: &[u8], resource: &str, policy: Option<&str>, expires: Duration) -> String {
    let resource = utf8_percent_encode(resource, UNRESERVED).to_string();
    let expiry = expires.as_secs().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, signed_text(&resource, &expiry).as_bytes());
    let signature = BASE64_STANDARD.encode(signature);
    let mut token = format!(
        "{PREFIX}sr={resource}&sig={}&se={expiry}",
        utf8_percent_encode(&signature, UNRESERVED),
    );
    if let Some(policy) = policy {
        token.push_str("&skn=");
        token.extend(utf8_percent_encode(policy, UNRESERVED));
    }
    token
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
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
        let first = SharedAccessKey::load_or_create(directory.path(), "shared-access-key").unwrap();
        let again = SharedAccessKey::load_or_create(directory.path(), "shared-access-key").unwrap();
        assert_eq!(first, again);

        fs::write(directory.path().join("shared-access-key"), "spoilt").unwrap();
        let anew = SharedAccessKey::load_or_create(directory.path(), "shared-access-key").unwrap();
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
    fn iot_hub_takes_the_bytes_that_the_key_encodes_and_needs_no_policy() {
        let token = sign_for_iot_hub("h/devices/d", None, &key(), LATER).unwrap();
        let parsed = Token::parse(&token).unwrap();
        assert_eq!(parsed.resource(), "h/devices/d");
        assert_eq!(parsed.policy(), None);
        assert_eq!(parsed.verify_for_iot_hub(&key(), NOW), Ok(LATER));
        assert_eq!(
            parsed.verify_for_iot_hub(&key(), LATER),
            Err(Error::Expired)
        );
        let other = SharedAccessKey::new("b3RoZXI=");
        assert_eq!(
            parsed.verify_for_iot_hub(&other, NOW),
            Err(Error::InvalidSignature)
        );
        // The same key as text is another secret.
        assert_eq!(
            parsed.verify_with(b"a2V5", NOW),
            Err(Error::InvalidSignature)
        );
        assert_eq!(
            verify(&token, POLICY, &key(), NOW),
            Err(Error::Malformed),
            "Event Hubs wants a policy"
        );
    }

    #[test]
    fn a_key_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", key()).contains("a2V5"));
    }
}
