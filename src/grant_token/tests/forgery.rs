//! Tokens that somebody made who must not.

use aws_lc_rs::encoding::AsDer as _;
use proptest::prelude::*;

use super::*;
use crate::config::KeySetLocation;
use crate::telemetry::metrics::TokenRefusal;

/// A verifier of all three algorithms whose key set is there, with what signs for it.
async fn every_algorithm() -> (Bed, [Signer; 3], tempfile::NamedTempFile) {
    let (rsa, p256) = (Signer::rsa(), Signer::p256());
    let file = tempfile::NamedTempFile::new().unwrap();
    let set = json!({"keys": [rsa.jwk("rsa"), p256.jwk("p256")]});
    std::fs::write(file.path(), set.to_string()).unwrap();
    let bed = Bed::start(
        |tokens| {
            tokens.secret = Some(Secret::new(SECRET));
            tokens.key_set = Some(KeySetLocation::File(file.path().to_owned()));
        },
        Timing::default(),
    );
    // Whoever asks for a key waits for the first fetch.
    bed.tokens
        .verify(&rsa.token_with_key_id("rsa", &claims()))
        .await
        .unwrap();
    (bed, [Signer::secret(SECRET.as_bytes()), rsa, p256], file)
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_accepted_and_counted() {
    let (bed, signers, _file) = every_algorithm().await;
    for signer in &signers {
        bed.accepted_now(&signer.token(&claims()));
    }
    assert_eq!(bed.metrics.grant_tokens.accepted.get(), 4);
    assert_eq!(bed.metrics.grant_tokens.keys.get(), 2);
}

#[tokio::test]
async fn changing_any_character_of_a_token_makes_it_invalid() {
    let (bed, signers, _file) = every_algorithm().await;
    for signer in &signers {
        let token = signer.token(&claims());
        for place in 0..token.len() {
            for replacement in ["A", "B", "_", ".", "=", "!", "\u{e9}", ""] {
                let mut altered = token.clone();
                altered.replace_range(place..=place, replacement);
                if altered != token {
                    bed.refused_now(&altered);
                }
            }
        }
        for length in 0..token.len() {
            bed.refused_now(&token[..length]);
        }
    }
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_verified() {
    let (bed, signers, _file) = every_algorithm().await;
    let [_, rsa, p256] = &signers;
    let Signer::Rsa(pair) = rsa else {
        unreachable!()
    };
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(der.as_ref())
    );
    let jwk = rsa.jwk("rsa");
    let n = jwk["n"].as_str().unwrap();
    let public: [&[u8]; 5] = [
        pem.as_bytes(),
        der.as_ref(),
        pair.public_key().as_ref(),
        n.as_bytes(),
        &jwk.to_string().into_bytes(),
    ];
    for secret in public {
        let forged = Signer::secret(secret);
        assert_eq!(
            bed.refused_now(&forged.token_with_key_id("rsa", &claims()))
                .0,
            "tokenSignature"
        );
        let claimed = forged.token_of(&json!({"alg": "RS256", "kid": "rsa"}), &claims());
        assert_eq!(bed.refused_now(&claimed).0, "tokenSignature");
    }
    // The right key under the name of another algorithm.
    for (signer, algorithm, id) in [
        (rsa, "ES256", "p256"),
        (p256, "RS256", "rsa"),
        (rsa, "HS256", "rsa"),
        (p256, "HS256", "p256"),
    ] {
        let header = json!({"alg": algorithm, "kid": id});
        assert_eq!(
            bed.refused_now(&signer.token_of(&header, &claims())).0,
            "tokenSignature"
        );
    }
}

#[tokio::test]
async fn unsigned_tokens_and_other_algorithms_are_refused() {
    let (bed, signers, _file) = every_algorithm().await;
    for name in [
        "none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS512", "PS256", "ES512", "EdDSA",
    ] {
        for signer in &signers {
            let header = json!({"alg": name, "kid": "rsa"});
            let (code, text) = bed.refused_now(&signer.token_of(&header, &claims()));
            assert_eq!(code, "tokenAlgorithm");
            assert_eq!(
                text,
                "the grant token must be signed with HS256, RS256 or ES256"
            );
        }
        let unsigned = format!(
            "{}.{}.",
            encode(json!({"alg": name}).to_string()),
            encode(claims().to_string())
        );
        assert_eq!(bed.refused_now(&unsigned).0, "tokenAlgorithm");
    }
    for algorithm in ["HS256", "RS256", "ES256"] {
        let header = encode(json!({"alg": algorithm}).to_string());
        let unsigned = format!("{header}.{}.", encode(claims().to_string()));
        assert_eq!(bed.refused_now(&unsigned).0, "tokenSignature");
    }
}

#[tokio::test]
async fn keys_in_a_token_are_of_no_use() {
    let (bed, _signers, _file) = every_algorithm().await;
    let stranger = Signer::rsa();
    for header in [
        json!({"alg": "RS256", "jwk": stranger.jwk("rsa")}),
        json!({"alg": "RS256", "kid": "rsa", "jwk": stranger.jwk("rsa")}),
        json!({"alg": "RS256", "kid": "rsa", "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/x", "x5c": ["MIIB"]}),
    ] {
        assert_eq!(
            bed.refused_now(&stranger.token_of(&header, &claims())).0,
            "tokenSignature"
        );
    }
}

#[test]
fn a_wrong_secret_is_refused_and_the_second_one_is_as_good_as_the_first() {
    let second = "another secret that is long enough to sign with";
    let bed = Bed::start(
        |tokens| {
            tokens.secret = Some(Secret::new(SECRET));
            tokens.secondary_secret = Some(Secret::new(second));
        },
        Timing::default(),
    );
    for secret in [SECRET, second] {
        bed.accepted_now(&Signer::secret(secret.as_bytes()).token(&claims()));
        bed.accepted_now(&Signer::secret(secret.as_bytes()).token_with_key_id("any", &claims()));
    }
    for secret in ["", "a", &SECRET[1..], &SECRET.to_uppercase()] {
        let token = Signer::secret(secret.as_bytes()).token(&claims());
        assert_eq!(bed.refused_now(&token).0, "tokenSignature");
    }
    // A signature that is cut short, or has something behind it.
    let token = Signer::secret(SECRET.as_bytes()).token(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for length in 0..signature.len() {
        let token = format!("{signed}.{}", encode(&signature[..length]));
        assert_eq!(bed.refused_now(&token).0, "tokenSignature");
    }
    let token = format!("{signed}.{}", encode([&signature[..], &[0]].concat()));
    assert_eq!(bed.refused_now(&token).0, "tokenSignature");
}

#[test]
fn what_is_not_configured_is_not_accepted() {
    let token = Signer::secret(SECRET.as_bytes()).token(&claims());
    let bed = Bed::start(|_| {}, Timing::default());
    for token in ["", "x", &token] {
        assert_eq!(bed.refused_now(token).0, "tokensNotAccepted");
    }
    let refused = &bed.metrics.grant_tokens.refused;
    assert_eq!(refused.get(TokenRefusal::NotAccepted).get(), 3);
    assert_eq!(bed.metrics.grant_tokens.accepted.get(), 0);

    let bed = Bed::with_secret();
    let (code, text) = bed.refused_now(&Signer::p256().token(&claims()));
    assert_eq!(
        (code, &*text),
        (
            "tokenAlgorithm",
            "the grant token must be signed with HS256"
        )
    );
}

#[tokio::test]
async fn a_key_set_alone_accepts_no_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bed = Bed::start(
        |tokens| tokens.key_set = Some(KeySetLocation::File(file.path().to_owned())),
        Timing::default(),
    );
    for secret in ["", SECRET] {
        let token = Signer::secret(secret.as_bytes()).token(&claims());
        let (code, text) = bed.refused_now(&token);
        assert_eq!(
            (code, &*text),
            (
                "tokenAlgorithm",
                "the grant token must be signed with RS256 or ES256"
            )
        );
    }
}

proptest! {
    #[test]
    fn no_text_is_accepted_that_was_not_signed(text in "\\PC{0,200}") {
        let bed = Bed::with_secret();
        bed.refused_now(&text);
    }

    #[test]
    fn no_payload_makes_the_verifier_fail(payload in "[\\[\\]{}\":,a-z0-9 .-]{0,120}") {
        let bed = Bed::with_secret();
        let token = Signer::secret(SECRET.as_bytes()).token_of_texts(r#"{"alg":"HS256"}"#, &payload);
        bed.refused_now(&token);
    }

    #[test]
    fn a_token_that_is_cut_and_glued_is_refused(
        cut in 0_usize..2000,
        removed in 1_usize..40,
        glued in "[A-Za-z0-9_.-]{0,40}",
    ) {
        let bed = Bed::with_secret();
        let token = Signer::secret(SECRET.as_bytes()).token(&claims());
        let cut = cut % token.len();
        let end = (cut + removed).min(token.len());
        let altered = format!("{}{glued}{}", &token[..cut], &token[end..]);
        prop_assume!(altered != token);
        bed.refused_now(&altered);
    }
}
