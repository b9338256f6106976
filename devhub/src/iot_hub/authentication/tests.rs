//! Which credential opens what.

use super::*;

const NOW_MS: i64 = 1_000_000;
const LATER: Duration = Duration::from_secs(2_000);

fn policies() -> AccessPolicies {
    AccessPolicies::new(SharedAccessKey::new("c2VjcmV0"))
}

fn keys() -> SymmetricKeys {
    SymmetricKeys {
        primary: SharedAccessKey::new("cHJpbWFyeSBrZXkgb2YgYSBkZXZpY2U="),
        secondary: SharedAccessKey::new("c2Vjb25kYXJ5IGtleSBvZiBhIGRldmljZQ=="),
    }
}

fn device() -> IdentityId {
    IdentityId::device("d1%").unwrap()
}

fn module() -> IdentityId {
    IdentityId::module("d1%", "m").unwrap()
}

fn check(token: &str, id: &IdentityId) -> Result<AuthMethod, AuthError> {
    let registered = Authentication::Sas(keys());
    verify(
        Credential::Token(token),
        id,
        &registered,
        &policies(),
        NOW_MS,
    )
}

fn device_token(resource: &str, key: &SharedAccessKey) -> String {
    sas::sign_for_iot_hub(resource, None, key, LATER).unwrap()
}

#[test]
fn both_keys_of_a_device_open_that_device_under_any_host() {
    for key in [keys().primary, keys().secondary] {
        for resource in ["localhost:8883/devices/d1%", "hub.example/devices/d1%25"] {
            assert_eq!(
                check(&device_token(resource, &key), &device()),
                Ok(AuthMethod {
                    scope: AuthScope::Device,
                    kind: AuthKind::Sas,
                    expires_at_ms: Some(2_000_000),
                }),
                "{resource}"
            );
        }
    }
}

#[test]
fn a_token_opens_nothing_beside_its_resource() {
    let key = keys().primary;
    for resource in [
        "h",
        "h/",
        "h/devices",
        "h/devices/d",
        "h/devices/other",
        "h/devices/d1%/modules/m",
        "h/messages/d1%",
    ] {
        assert_eq!(
            check(&device_token(resource, &key), &device()),
            Err(AuthError::Scope),
            "{resource}"
        );
    }
    for (resource, is_open) in [
        ("h/devices/d1%/modules/m", true),
        ("h/devices/d1%/modules/n", false),
        ("h/devices/d1%", false),
    ] {
        let checked = check(&device_token(resource, &key), &module());
        assert_eq!(checked.is_ok(), is_open, "{resource}");
    }
}

#[test]
fn a_policy_opens_every_device_if_it_may_connect_as_one() {
    let token = |policy: &str, resource: &str| {
        let key = policies().key(policy).unwrap();
        sas::sign_for_iot_hub(resource, Some(policy), &key, LATER).unwrap()
    };
    let scope = |checked: Result<AuthMethod, AuthError>| checked.map(|method| method.scope);
    assert_eq!(
        scope(check(&token("device", "h"), &device())),
        Ok(AuthScope::Hub)
    );
    assert_eq!(
        scope(check(&token("iothubowner", "h/devices/d1%"), &module())),
        Ok(AuthScope::Hub)
    );
    assert_eq!(
        check(&token("device", "h/devices/other"), &device()),
        Err(AuthError::Scope)
    );
    assert_eq!(
        check(&token("service", "h"), &device()),
        Err(AuthError::Right)
    );
}

#[test]
fn a_wrong_key_an_old_token_and_noise_are_refused() {
    let other = SharedAccessKey::generate();
    assert_eq!(
        check(&device_token("h/devices/d1%", &other), &device()),
        Err(AuthError::Token(sas::Error::InvalidSignature))
    );
    let old = sas::sign_for_iot_hub(
        "h/devices/d1%",
        None,
        &keys().primary,
        Duration::from_secs(999),
    );
    assert_eq!(
        check(&old.unwrap(), &device()),
        Err(AuthError::Token(sas::Error::Expired))
    );
    assert_eq!(
        check("noise", &device()),
        Err(AuthError::Token(sas::Error::Malformed))
    );
}

#[test]
fn a_certificate_opens_the_device_that_has_its_thumbprint() {
    let certificate = b"not really one, but bytes all the same";
    let thumbprint = |algorithm| hex(digest::digest(algorithm, certificate).as_ref());
    let check = |thumbprints: Thumbprints, shown: &[u8]| {
        verify(
            Credential::Certificate(shown),
            &device(),
            &Authentication::SelfSigned(thumbprints),
            &policies(),
            NOW_MS,
        )
    };
    for thumbprints in [
        Thumbprints {
            primary: Some(thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            secondary: None,
        },
        Thumbprints {
            primary: None,
            secondary: Some(thumbprint(&digest::SHA256).to_lowercase()),
        },
    ] {
        assert_eq!(thumbprints.validate(), Ok(()));
        let method = check(thumbprints.clone(), certificate).unwrap();
        assert_eq!((method.kind, method.expires_at_ms), (AuthKind::X509, None));
        assert_eq!(check(thumbprints, b"other"), Err(AuthError::Certificate));
    }
    assert!(Thumbprints::default().validate().is_err());
    let bad = Thumbprints {
        primary: Some("12".to_owned()),
        secondary: None,
    };
    assert!(bad.validate().is_err());
}

#[test]
fn keys_must_be_base64_of_a_fair_length() {
    assert_eq!(keys().validate(), Ok(()));
    for bad in ["", "no base64!", "c2hvcnQ="] {
        let keys = SymmetricKeys {
            primary: SharedAccessKey::new(bad),
            ..keys()
        };
        assert!(keys.validate().is_err(), "{bad}");
    }
}
