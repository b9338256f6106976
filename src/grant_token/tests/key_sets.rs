//! What is taken from a key set, and what is left out of it.

use super::*;
use crate::grant_token::key_set::{KeySet, KeySetError, Unfit};

fn parse(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// A key with some members replaced; `null` takes a member out.
fn changed(jwk: &Value, changes: &Value) -> Value {
    let mut jwk = jwk.clone();
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk.as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    jwk
}

#[test]
fn a_key_that_cannot_be_used_is_left_out_and_the_others_hold() {
    let (rsa, p256) = (Signer::rsa().jwk("r"), Signer::p256().jwk("e"));
    let weak: Vec<u8> = [[0x80; 128].as_slice(), &[1; 127]].concat();
    let cases = [
        (json!("key"), Unfit::Malformed),
        (json!({}), Unfit::Malformed),
        (Value::Null, Unfit::Malformed),
        (changed(&rsa, &json!({"n": null})), Unfit::Malformed),
        (changed(&rsa, &json!({"e": null})), Unfit::Malformed),
        (changed(&rsa, &json!({"n": "=="})), Unfit::Malformed),
        (changed(&rsa, &json!({"n": 5})), Unfit::Malformed),
        (changed(&rsa, &json!({"kid": 5})), Unfit::Malformed),
        (changed(&p256, &json!({"x": null})), Unfit::Malformed),
        (
            json!({"kty": "oct", "k": encode(SECRET), "alg": "HS256"}),
            Unfit::OtherKind,
        ),
        (changed(&rsa, &json!({"kty": "oct"})), Unfit::OtherKind),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": encode([1; 32])}),
            Unfit::OtherKind,
        ),
        (changed(&p256, &json!({"crv": "P-384"})), Unfit::OtherKind),
        (
            changed(&p256, &json!({"crv": "secp256k1"})),
            Unfit::OtherKind,
        ),
        (changed(&p256, &json!({"crv": null})), Unfit::OtherKind),
        (changed(&rsa, &json!({"use": "enc"})), Unfit::OtherPurpose),
        (
            changed(&rsa, &json!({"key_ops": ["encrypt"]})),
            Unfit::OtherPurpose,
        ),
        (changed(&rsa, &json!({"key_ops": []})), Unfit::OtherPurpose),
        (changed(&rsa, &json!({"alg": "RS512"})), Unfit::OtherPurpose),
        (changed(&rsa, &json!({"alg": "PS256"})), Unfit::OtherPurpose),
        (changed(&rsa, &json!({"alg": "HS256"})), Unfit::OtherPurpose),
        (
            changed(&p256, &json!({"alg": "RS256"})),
            Unfit::OtherPurpose,
        ),
        (
            changed(&p256, &json!({"d": encode([1; 32])})),
            Unfit::GivenAway,
        ),
        (changed(&rsa, &json!({"d": "AQAB"})), Unfit::GivenAway),
        (changed(&rsa, &json!({"n": encode(&weak)})), Unfit::Strength),
        (
            changed(&rsa, &json!({"n": encode([0xff; 128])})),
            Unfit::Strength,
        ),
        (
            changed(&rsa, &json!({"n": encode([0xff; 1025])})),
            Unfit::Strength,
        ),
        (changed(&rsa, &json!({"n": ""})), Unfit::Strength),
        (changed(&rsa, &json!({"e": ""})), Unfit::Invalid),
        (changed(&rsa, &json!({"e": "Ag"})), Unfit::Invalid),
        (changed(&rsa, &json!({"e": "AQ"})), Unfit::Invalid),
        (
            changed(&p256, &json!({"x": encode([1; 32])})),
            Unfit::Invalid,
        ),
        (
            changed(&p256, &json!({"x": encode([0; 32]), "y": encode([0; 32])})),
            Unfit::Invalid,
        ),
        (
            changed(&p256, &json!({"x": encode([1; 31])})),
            Unfit::Invalid,
        ),
        (
            changed(&p256, &json!({"y": encode([1; 33])})),
            Unfit::Invalid,
        ),
    ];
    for (jwk, unfit) in cases {
        let set = parse(&[jwk.clone(), p256.clone()]);
        assert_eq!(
            set.left_out.iter().collect::<Vec<_>>(),
            [(&unfit, &1)],
            "{jwk}"
        );
        assert_eq!(set.len(), 1);
        assert!(set.find(Algorithm::Es256, Some("e")).is_ok());
    }
}

#[test]
fn optional_members_may_be_missing_and_a_zero_may_lead() {
    let (signer, p256) = (Signer::rsa(), Signer::p256().jwk("e"));
    let rsa = signer.jwk("r");
    let modulus = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    let set = parse(&[
        changed(
            &rsa,
            &json!({"use": null, "alg": null, "n": encode([&[0], &modulus[..]].concat())}),
        ),
        changed(
            &p256,
            &json!({"use": null, "alg": null, "key_ops": ["verify"], "x5t": "?", "ext": true}),
        ),
    ]);
    assert_eq!(set.len(), 2);
    let key = set.find(Algorithm::Rs256, Some("r")).unwrap();
    assert!(key.verify(b"text", &signer.sign(b"text")).is_ok());
    assert!(key.verify(b"texT", &signer.sign(b"text")).is_err());
}

#[test]
fn a_token_finds_its_key_by_id_and_algorithm() {
    let (one, two, three) = (Signer::p256(), Signer::p256(), Signer::rsa());
    let set = parse(&[one.jwk("1"), two.jwk("2"), three.jwk("1")]);
    for (id, signer) in [("1", &one), ("2", &two)] {
        let key = set.find(Algorithm::Es256, Some(id)).unwrap();
        assert!(key.verify(b"text", &signer.sign(b"text")).is_ok());
    }
    // Without an id only the RSA key is unmistakable.
    let key = set.find(Algorithm::Rs256, None).unwrap();
    assert!(key.verify(b"text", &three.sign(b"text")).is_ok());
    let algorithm = Algorithm::Es256;
    assert_eq!(
        set.find(algorithm, None).unwrap_err(),
        TokenError::KeyNotNamed { algorithm }
    );
    for id in ["3", "", "01", " 1"] {
        assert_eq!(
            set.find(algorithm, Some(id)).unwrap_err(),
            TokenError::KeyUnknown { algorithm }
        );
    }
    let algorithm = Algorithm::Rs256;
    assert_eq!(
        set.find(algorithm, Some("2")).unwrap_err(),
        TokenError::KeyUnknown { algorithm }
    );
    assert_eq!(
        KeySet::default().find(algorithm, None).unwrap_err(),
        TokenError::KeyNotNamed { algorithm }
    );
    // A key without an id is never one that is named.
    let nameless = parse(&[changed(&three.jwk("1"), &json!({"kid": null}))]);
    assert!(nameless.find(algorithm, None).is_ok());
    assert!(nameless.find(algorithm, Some("1")).is_err());
}

#[test]
fn the_first_of_two_keys_with_one_name_holds() {
    let (first, second) = (Signer::p256(), Signer::p256());
    let set = parse(&[first.jwk("k"), second.jwk("k")]);
    assert_eq!(set.len(), 1);
    assert_eq!(set.left_out[&Unfit::Repeated], 1);
    let key = set.find(Algorithm::Es256, Some("k")).unwrap();
    assert!(key.verify(b"text", &first.sign(b"text")).is_ok());
}

#[test]
fn what_is_no_key_set_is_refused_as_a_whole() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[],"keys":[]}"#,
        "<html>",
        "[[]]",
    ] {
        assert_eq!(
            KeySet::parse(text.as_bytes()).unwrap_err(),
            KeySetError::Malformed,
            "{text}"
        );
    }
    let many = vec![Signer::p256().jwk("k"); 101];
    let many = json!({ "keys": many }).to_string();
    assert_eq!(
        KeySet::parse(many.as_bytes()).unwrap_err(),
        KeySetError::TooMany
    );
    assert_eq!(parse(&[]).len(), 0);
}
