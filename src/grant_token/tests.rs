//! Tokens signed here, verified by the real thing; key sets come from a real server.

mod claims;
mod forgery;
mod key_server;
mod key_sets;

use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::clock::ManualClock;
use crate::config::{GrantTokenConfig, Secret};

/// The time at which tokens are verified unless a test moves the clock, in seconds.
const NOW: i64 = 1_800_000_000;

const SECRET: &str = "a secret that is long enough to sign with";

/// Something that signs tokens.
enum Signer {
    Secret(Box<hmac::Key>),
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
}

impl Signer {
    fn secret(secret: &[u8]) -> Self {
        Self::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    /// The public key as a JSON Web Key.
    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Secret(_) => panic!("a secret has no public key"),
            Self::Rsa(pair) => {
                let components: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({
                    "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id,
                    "n": encode(&components.n), "e": encode(&components.e),
                })
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
                    "x": encode(&point[1..33]), "y": encode(&point[33..]),
                })
            }
        }
    }

    fn token(&self, claims: &Value) -> String {
        self.token_of(&json!({"alg": self.algorithm(), "typ": "JWT"}), claims)
    }

    fn token_with_key_id(&self, id: &str, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "typ": "JWT", "kid": id});
        self.token_of(&header, claims)
    }

    fn token_of(&self, header: &Value, claims: &Value) -> String {
        self.token_of_texts(&header.to_string(), claims.to_string())
    }

    fn token_of_texts(&self, header: &str, claims: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(key) => hmac::sign(key, signed).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature)
                    .unwrap();
                signature
            }
            Self::P256(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
        }
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Claims that are right at [`NOW`].
fn claims() -> Value {
    json!({"exp": NOW + 60, "hubrelay": {"grants": [{"deviceId": "d1", "type": "telemetry"}]}})
}

/// A verifier with everything it needs.
struct Bed {
    tokens: GrantTokens,
    clock: ManualClock,
    metrics: Metrics,
    lifecycle: Lifecycle,
}

impl Bed {
    /// One that accepts tokens signed with [`SECRET`].
    fn with_secret() -> Self {
        Self::start(
            |tokens| tokens.secret = Some(Secret::new(SECRET)),
            Timing::default(),
        )
    }

    fn start(change: impl FnOnce(&mut GrantTokenConfig), timing: Timing) -> Self {
        let mut config = Config::default();
        change(&mut config.grant_tokens);
        config.limits.grants_per_session_max = 100;
        let clock = ManualClock::at(NOW * 1000);
        let metrics = Metrics::new();
        let lifecycle = Lifecycle::new();
        let shared = Arc::new(clock.clone());
        let tokens = GrantTokens::with_timing(&config, shared, &metrics, &lifecycle, timing);
        Self {
            tokens,
            clock,
            metrics,
            lifecycle,
        }
    }

    /// Why a token is refused: the code and the text.
    #[track_caller]
    fn refused_now(&self, token: &str) -> (&'static str, String) {
        let verified = futures_util::FutureExt::now_or_never(self.tokens.verify(token));
        let error = verified
            .expect("nothing has to be fetched")
            .expect_err("it is refused");
        (error.code(), error.to_string())
    }

    /// What a token allows.
    #[track_caller]
    fn accepted_now(&self, token: &str) -> Authorization {
        let verified = futures_util::FutureExt::now_or_never(self.tokens.verify(token));
        verified
            .expect("nothing has to be fetched")
            .expect("it is accepted")
    }
}
