//! JSON Web Signatures in compact form (RFC 7515 §7.1), taken apart but not yet believed.
//!
//! Strict: exactly three parts in base64url without padding and without superfluous bits, a header that is a JSON object
//! whose members are there once, and no critical extensions, of which none is understood. Where a header offers keys
//! of its own (`jwk`, `jku`, `x5c`, `x5u`) nobody looks at them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::error::TokenError;

/// Longest token that is read, in bytes: about 10,000 grants.
pub(super) const TOKEN_BYTES_MAX: usize = 1 << 20;

/// Longest header that is read, in base64.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Longest signature that is read, in base64: that of an RSA key of 8192 bits.
const SIGNATURE_BYTES_MAX: usize = 1366;

/// How a token is signed (RFC 7518 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Hs256, Self::Rs256, Self::Es256];

    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A token taken apart.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    /// What it says it is signed with; `None` for anything that is not an [`Algorithm`].
    pub(super) algorithm: Option<Algorithm>,
    /// The id of the key that it says it is signed with.
    pub(super) key_id: Option<String>,
    /// What is signed: header and payload as they came.
    pub(super) signed: &'a [u8],
    /// The signature.
    pub(super) signature: Vec<u8>,
    payload: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, rename = "crit", deserialize_with = "is_there")]
    has_critical: bool,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong {
                bytes_max: TOKEN_BYTES_MAX,
            });
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed(
                "it does not have three parts with a dot between them",
            ));
        };
        if header.len() > HEADER_BYTES_MAX {
            return Err(TokenError::Malformed("its header is too long"));
        }
        let Header {
            alg,
            kid,
            has_critical,
        } = read_header(header)?;
        if has_critical {
            return Err(TokenError::Malformed(
                "its header has critical extensions, and none is understood",
            ));
        }
        if signature.len() > SIGNATURE_BYTES_MAX {
            return Err(TokenError::Malformed("its signature is too long"));
        }
        let signature =
            decode(signature).ok_or(TokenError::Malformed("its signature is not base64url"))?;
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        Ok(Self {
            algorithm: Algorithm::ALL
                .into_iter()
                .find(|algorithm| algorithm.name() == alg),
            key_id: kid,
            signed,
            signature,
            payload,
        })
    }

    /// The payload, for when the signature has been found right.
    pub(super) fn payload(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.payload).ok_or(TokenError::Malformed("its payload is not base64url"))
    }
}

fn read_header(text: &str) -> Result<Header, TokenError> {
    let json = decode(text).ok_or(TokenError::Malformed("its header is not base64url"))?;
    object(&json).ok_or(TokenError::Malformed(
        "its header is not a JSON object with a text `alg` and, at most once each, a text `kid`",
    ))
}

/// Reads a member of which only matters that it is there.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// Parses a JSON object in which the members of `T` are not there twice. Serde by itself would also take an array with
/// the members in order.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The bytes of a text in base64url without padding (RFC 7515 §2).
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header))
    }

    fn refused(token: &str) -> String {
        let error = Jws::parse(token).expect_err("it is refused");
        error.to_string()
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = token(r#"{"typ":"JWT","alg":"ES256","kid":"k1","x5t":"?","jwk":{"kty":"oct"}}"#);
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(jws.algorithm, Some(Algorithm::Es256));
        assert_eq!(jws.key_id.as_deref(), Some("k1"));
        assert_eq!(jws.signed, text.strip_suffix(".c2ln").unwrap().as_bytes());
        assert_eq!(jws.signature, b"sig");
        assert_eq!(jws.payload().unwrap(), b"{}");
    }

    #[test]
    fn only_three_algorithms_are_known_and_their_names_are_exact() {
        for name in [
            "none", "None", "", "hs256", "HS256 ", "HS384", "HS512", "RS384", "PS256", "ES384",
            "EdDSA", "A128KW",
        ] {
            let text = token(&format!(r#"{{"alg":"{name}"}}"#));
            assert_eq!(Jws::parse(&text).unwrap().algorithm, None, "{name}");
        }
    }

    #[test]
    fn what_is_not_a_compact_signature_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "...",
            "a",
            "e30",
            "e30.e30",
            "e30.e30.e30.e30",
            "e30.e30.e30.e30.e30",
        ] {
            assert!(
                refused(text).starts_with("the grant token is malformed"),
                "{text}"
            );
        }
        let valid = token(r#"{"alg":"HS256"}"#);
        assert!(Jws::parse(&valid).is_ok());
        for text in [
            format!(" {valid}"),
            format!("{valid} "),
            format!("{valid}="),
            format!("{valid}\n"),
        ] {
            assert!(refused(&text).contains("base64url"), "{text}");
        }
        // `c2lo` and `c2lp` differ in bits; `c2k` has superfluous bits set when it is written `c2l`.
        assert!(refused("eyJhbGciOiJIUzI1NiJ9.e30.c2l").contains("signature is not base64url"));
    }

    #[test]
    fn a_header_is_an_object_whose_members_are_there_once() {
        for header in [
            "",
            "null",
            "[]",
            r#"["HS256"]"#,
            r#"["HS256",null,null]"#,
            r#""HS256""#,
            "{}",
            r#"{"alg":null}"#,
            r#"{"alg":256}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"none","alg":"HS256"}"#,
            r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
            r#"{"alg":"HS256","kid":1}"#,
            r#"{"alg":"HS256"} {}"#,
            r#"{"alg":"HS256""#,
            "{\"alg\":\"HS256\",\"kid\":\"\u{1}\"}",
        ] {
            assert!(
                refused(&token(header)).contains("header is not a JSON object"),
                "{header}"
            );
        }
        let long = format!(
            r#"{{"alg":"HS256","x":"{}"}}"#,
            "x".repeat(HEADER_BYTES_MAX)
        );
        assert!(refused(&token(&long)).contains("header is too long"));
    }

    #[test]
    fn nesting_costs_nothing_where_nobody_looks() {
        let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
        assert!(Jws::parse(&token(&format!(r#"{{"alg":"HS256","x":{deep}}}"#))).is_ok());
        let error = refused(&token(&format!(r#"{{"alg":"HS256","kid":{deep}}}"#)));
        assert!(error.contains("header is not a JSON object"), "{error}");
    }

    #[test]
    fn critical_extensions_are_refused_whatever_they_are() {
        for crit in [r#"["b64"]"#, "[]", r#""b64""#, "1", "{}", "null"] {
            let header = format!(r#"{{"alg":"HS256","b64":false,"crit":{crit}}}"#);
            assert!(
                refused(&token(&header)).contains("critical extensions"),
                "{crit}"
            );
        }
    }

    #[test]
    fn the_longest_token_is_taken_apart_and_one_byte_more_is_not() {
        let head = "eyJhbGciOiJIUzI1NiJ9.";
        let payload = "A".repeat(TOKEN_BYTES_MAX - head.len() - ".c2ln".len());
        assert!(Jws::parse(&format!("{head}{payload}.c2ln")).is_ok());
        let error = refused(&format!("{head}{payload}A.c2ln"));
        assert_eq!(error, "the grant token is longer than 1048576 bytes");
        let error = refused(&format!(
            "{head}e30.{}",
            "A".repeat(SIGNATURE_BYTES_MAX + 2)
        ));
        assert!(error.contains("signature is too long"), "{error}");
    }
}
