//! Public keys from a JSON Web Key Set (RFC 7517), each fit for one algorithm only.
//!
//! A key that cannot be used is left out and the others hold (RFC 7517 §5): another kind or curve, meant for something
//! else, too weak, not a key at all. Symmetric keys are never taken from a key set, nor is a key whose private part is
//! in it: whoever published that has given it away.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::TokenError;
use super::jws::{Algorithm, decode, object};

/// Most keys in one set. A set with more is refused as a whole.
const KEYS_MAX: usize = 100;

const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;

/// Bytes of a coordinate on P-256.
const P256_BYTES: usize = 32;

/// The first byte of a point that is written with both its coordinates (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The keys of a set that can be used.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<PublicKey>,
    /// How many keys were left out, by the reason.
    pub(super) left_out: BTreeMap<Unfit, usize>,
}

/// A public key.
#[derive(Debug)]
pub(super) struct PublicKey {
    algorithm: Algorithm,
    id: Option<Box<str>>,
    key: ParsedPublicKey,
}

/// What is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    /// Not an object with a list `keys`.
    #[error("it is not a JSON object with a list `keys`")]
    Malformed,
    /// There are too many keys.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
}

/// Why a key was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Unfit {
    #[error("not a JSON Web Key")]
    Malformed,
    #[error("neither RSA nor on the curve P-256")]
    OtherKind,
    #[error("meant for something else than verifying RS256 or ES256")]
    OtherPurpose,
    #[error("published with its private part")]
    GivenAway,
    #[error("an RSA key of less than 2048 or more than 8192 bits")]
    Strength,
    #[error("not a valid public key")]
    Invalid,
    #[error("of the same id and kind as an earlier one")]
    Repeated,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Jwk<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow, rename = "use")]
    purpose: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_ops: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    alg: Option<Cow<'a, str>>,
    kid: Option<Box<str>>,
    #[serde(borrow)]
    n: Option<Cow<'a, str>>,
    #[serde(borrow)]
    e: Option<Cow<'a, str>>,
    #[serde(borrow)]
    crv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    x: Option<Cow<'a, str>>,
    #[serde(borrow)]
    y: Option<Cow<'a, str>>,
    #[serde(borrow)]
    d: Option<&'a RawValue>,
}

impl KeySet {
    /// Reads a key set.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let Members { keys } = object(json).ok_or(KeySetError::Malformed)?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let mut set = Self::default();
        for jwk in keys {
            match PublicKey::from_jwk(jwk.get()).and_then(|key| set.unrepeated(key)) {
                Ok(key) => set.keys.push(key),
                Err(unfit) => *set.left_out.entry(unfit).or_default() += 1,
            }
        }
        Ok(set)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the keys of both go by the same ids.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        let names = |set: &Self| -> Vec<_> {
            set.keys
                .iter()
                .map(|key| (key.algorithm.name(), key.id.clone()))
                .collect()
        };
        names(self) == names(other) && self.left_out == other.left_out
    }

    /// The key with which a token says that it is signed. A token that names no key needs the set to have exactly one
    /// of its algorithm.
    pub(super) fn find(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<&PublicKey, TokenError> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match id {
            Some(id) => fitting
                .find(|key| key.id.as_deref() == Some(id))
                .ok_or(TokenError::KeyUnknown { algorithm }),
            None => match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                (None | Some(_), _) => Err(TokenError::KeyNotNamed { algorithm }),
            },
        }
    }

    fn unrepeated(&self, key: PublicKey) -> Result<PublicKey, Unfit> {
        let is_repeated = key.id.is_some()
            && self
                .keys
                .iter()
                .any(|earlier| earlier.id == key.id && earlier.algorithm == key.algorithm);
        if is_repeated {
            Err(Unfit::Repeated)
        } else {
            Ok(key)
        }
    }
}

impl PublicKey {
    /// Whether `signature` is this key's over `signed`.
    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        self.key
            .verify_sig(signed, signature)
            .map_err(|_| TokenError::Signature)
    }

    fn from_jwk(json: &str) -> Result<Self, Unfit> {
        let jwk: Jwk<'_> = object(json.as_bytes()).ok_or(Unfit::Malformed)?;
        let algorithm = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            _ => return Err(Unfit::OtherKind),
        };
        if jwk.d.is_some() {
            return Err(Unfit::GivenAway);
        }
        let verifies = jwk
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig")
            && jwk
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"))
            && jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.name());
        if !verifies {
            return Err(Unfit::OtherPurpose);
        }
        let bytes = |member: &Option<Cow<'_, str>>| {
            let text = member.as_deref().ok_or(Unfit::Malformed)?;
            decode(text).ok_or(Unfit::Malformed)
        };
        let key = match algorithm {
            Algorithm::Rs256 => rsa(&bytes(&jwk.n)?, &bytes(&jwk.e)?),
            Algorithm::Es256 => p256(&bytes(&jwk.x)?, &bytes(&jwk.y)?),
            Algorithm::Hs256 => unreachable!("no kind of key above is for HS256"),
        };
        Ok(Self {
            algorithm,
            id: jwk.kid,
            key: key?,
        })
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<ParsedPublicKey, Unfit> {
    let (n, e) = (without_zeros(modulus), without_zeros(exponent));
    let unused_bits = n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&(n.len() * 8 - unused_bits)) {
        return Err(Unfit::Strength);
    }
    // With an even exponent there are no signatures, and with 1 everybody can make them.
    if e == [1] || e.last().is_none_or(|last| last % 2 == 0) {
        return Err(Unfit::Invalid);
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| Unfit::Invalid)
}

fn p256(x: &[u8], y: &[u8]) -> Result<ParsedPublicKey, Unfit> {
    if x.len() != P256_BYTES || y.len() != P256_BYTES {
        return Err(Unfit::Invalid);
    }
    let point = [&[UNCOMPRESSED], x, y].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| Unfit::Invalid)
}

/// Some issuers write a zero byte before a modulus, which the number does not have.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
