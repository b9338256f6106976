//! How devices and modules prove who they are: by tokens that their own key signed or one of a policy, or by a
//! certificate whose thumbprint is registered.

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest;

use super::access_policy::{AccessPolicies, Right};
use super::error::HubError;
use super::identity_id::IdentityId;
use crate::sas::{self, SharedAccessKey, Token};

/// Decoded lengths of a symmetric key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// What an identity is registered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// `sas`: two keys, either of which signs.
    Sas(SymmetricKeys),
    /// `selfSigned`: thumbprints of certificates.
    SelfSigned(Thumbprints),
}

/// Two keys, so that one can be replaced while the other is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymmetricKeys {
    /// The one that connection strings have.
    pub primary: SharedAccessKey,
    /// The other.
    pub secondary: SharedAccessKey,
}

impl SymmetricKeys {
    /// Random keys.
    pub fn generate() -> Self {
        Self {
            primary: SharedAccessKey::generate(),
            secondary: SharedAccessKey::generate(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), HubError> {
        let is_key = |key: &SharedAccessKey| {
            key.decoded()
                .is_some_and(|bytes| KEY_BYTES.contains(&bytes.len()))
        };
        if is_key(&self.primary) && is_key(&self.secondary) {
            return Ok(());
        }
        Err(HubError::invalid(
            "authentication.symmetricKey must have keys of 16 to 64 bytes in base64",
        ))
    }
}

/// Thumbprints of certificates in hexadecimal digits: SHA-1 or SHA-256 over the DER form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thumbprints {
    /// One.
    pub primary: Option<String>,
    /// Another.
    pub secondary: Option<String>,
}

impl Thumbprints {
    fn both(&self) -> impl Iterator<Item = &str> {
        [&self.primary, &self.secondary]
            .into_iter()
            .filter_map(|thumbprint| thumbprint.as_deref())
    }

    pub(super) fn validate(&self) -> Result<(), HubError> {
        let is_thumbprint = |text: &str| {
            matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if self.both().next().is_some() && self.both().all(is_thumbprint) {
            return Ok(());
        }
        Err(HubError::invalid(
            "authentication.x509Thumbprint must have thumbprints of 40 or 64 hexadecimal digits",
        ))
    }

    fn holds(&self, certificate: &[u8]) -> bool {
        let thumbprints = [&digest::SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA256]
            .map(|algorithm| hex(digest::digest(algorithm, certificate).as_ref()));
        self.both().any(|own| {
            thumbprints
                .iter()
                .any(|text| text.eq_ignore_ascii_case(own))
        })
    }
}

/// What a device shows when it connects.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// A shared access signature.
    Token(&'a str),
    /// A certificate that a TLS handshake has shown to be the peer's, in DER form.
    Certificate(&'a [u8]),
}

/// Whose credential was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthScope {
    /// The device's own.
    Device,
    /// The module's own.
    Module,
    /// That of a policy of the hub.
    Hub,
}

/// What kind of credential it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthKind {
    /// A shared access signature.
    Sas,
    /// A certificate.
    X509,
}

/// How an identity has proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMethod {
    /// Whose credential it was.
    pub scope: AuthScope,
    /// What kind of one.
    pub kind: AuthKind,
    /// When it lapses, in milliseconds since the Unix epoch; the connection is to be closed then.
    pub expires_at_ms: Option<i64>,
}

impl AuthMethod {
    /// The value of `iothub-connection-auth-method`.
    pub(super) fn annotation(self) -> &'static str {
        match (self.scope, self.kind) {
            (AuthScope::Device, AuthKind::Sas) => {
                r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
            }
            (AuthScope::Module, AuthKind::Sas) => {
                r#"{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
            }
            (AuthScope::Device, AuthKind::X509) => {
                r#"{"scope":"device","type":"x509","issuer":"iothub","acceptingIpFilterRule":null}"#
            }
            (AuthScope::Module, AuthKind::X509) => {
                r#"{"scope":"module","type":"x509","issuer":"iothub","acceptingIpFilterRule":null}"#
            }
            // A hub's policies sign tokens and nothing else.
            (AuthScope::Hub, _) => {
                r#"{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#
            }
        }
    }
}

/// Why a credential is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no such identity.
    #[error("there is no such device or module")]
    UnknownIdentity,
    /// The identity may not connect.
    #[error("the device is disabled")]
    Disabled,
    /// The token does not hold.
    #[error(transparent)]
    Token(#[from] sas::Error),
    /// The token is for another resource.
    #[error("the token is for another resource")]
    Scope,
    /// The token's policy does not allow to connect as a device.
    #[error("the token's policy lacks the right DeviceConnect")]
    Right,
    /// The certificate is not registered for the identity.
    #[error("the certificate is not registered for the device")]
    Certificate,
}

/// Checks a credential for an identity at the time `now_ms`.
pub(super) fn verify(
    credential: Credential<'_>,
    id: &IdentityId,
    registered: &Authentication,
    policies: &AccessPolicies,
    now_ms: i64,
) -> Result<AuthMethod, AuthError> {
    let own_scope = match id.module_id() {
        None => AuthScope::Device,
        Some(_) => AuthScope::Module,
    };
    match credential {
        Credential::Certificate(certificate) => match registered {
            Authentication::SelfSigned(thumbprints) if thumbprints.holds(certificate) => {
                Ok(AuthMethod {
                    scope: own_scope,
                    kind: AuthKind::X509,
                    expires_at_ms: None,
                })
            }
            _ => Err(AuthError::Certificate),
        },
        Credential::Token(token) => {
            let token = Token::parse(token)?;
            let now = Duration::from_millis(now_ms.try_into().unwrap_or(0));
            let (scope, expires) = if token.policy().is_some() {
                let (rights, expires) = policies.verify(&token, now)?;
                if !rights.contains(&Right::DeviceConnect) {
                    return Err(AuthError::Right);
                }
                (AuthScope::Hub, expires)
            } else {
                let Authentication::Sas(keys) = registered else {
                    return Err(AuthError::Token(sas::Error::InvalidSignature));
                };
                let expires = match token.verify_for_iot_hub(&keys.primary, now) {
                    Err(sas::Error::InvalidSignature) => {
                        token.verify_for_iot_hub(&keys.secondary, now)
                    }
                    verified => verified,
                }?;
                (own_scope, expires)
            };
            if !covers(&token.resource(), id, scope) {
                return Err(AuthError::Scope);
            }
            Ok(AuthMethod {
                scope,
                kind: AuthKind::Sas,
                expires_at_ms: Some(i64::try_from(expires.as_millis()).unwrap_or(i64::MAX)),
            })
        }
    }
}

/// Whether a resource, `host[/devices/id[/modules/id]]`, holds the identity. A token of the identity's own key must
/// name it; one of a policy may name the whole hub. The host is not compared: this hub has many names.
fn covers(resource: &str, id: &IdentityId, scope: AuthScope) -> bool {
    let mut segments = resource.split('/').skip(1);
    let is = |given: &str, own: &str| {
        given == own || percent_encoding::percent_decode_str(given).eq(own.bytes())
    };
    let mut level = |collection: &str, own: Option<&str>| match segments.next() {
        None | Some("") => Some(false),
        Some(name) if name.eq_ignore_ascii_case(collection) => {
            let given = segments.next()?;
            own.filter(|own| is(given, own)).map(|_| true)
        }
        Some(_) => None,
    };
    let Some(names_device) = level("devices", Some(id.device_id())) else {
        return false;
    };
    let Some(names_module) = level("modules", id.module_id()) else {
        return false;
    };
    match scope {
        AuthScope::Hub => true,
        AuthScope::Device => names_device,
        AuthScope::Module => names_device && names_module,
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02X}").expect("a string takes what is written");
    }
    text
}

#[cfg(test)]
mod tests;
