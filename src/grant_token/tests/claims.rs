//! The rules that claims have to keep.

use std::time::Duration;

use super::*;
use crate::domain::grant::Grant;
use crate::domain::id::{DeviceId, TelemetryKey};
use crate::domain::json_pointer::{Pointer, Pointers};
use crate::domain::payload_policy::{Condition, PayloadPolicy, Scalar, Test};
use crate::domain::session::SessionConstraints;

fn bed() -> (Bed, Signer) {
    (Bed::with_secret(), Signer::secret(SECRET.as_bytes()))
}

/// [`claims`] with some of them replaced.
fn claims_with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn grant_claims(grant: &Value) -> Value {
    claims_with(&json!({"hubrelay": {"grants": [grant]}}))
}

#[test]
fn every_kind_of_grant_is_read_and_ends_with_the_token_or_before() {
    let (bed, signer) = bed();
    let token = signer.token(&claims_with(&json!({
        "iss": "anybody", "aud": ["anything"], "sub": "user-1", "iat": NOW - 1, "nbf": NOW, "jti": 7,
        "hubrelay": {
            "session": {"subscriptionsMax": 200, "minIntervalMs": 500, "expiresAt": NOW + 3600},
            "grants": [
                {"deviceId": "d1", "type": "telemetry"},
                {"deviceId": "d1", "type": "telemetry", "telemetryKey": null, "expiresAt": null},
                {"deviceId": "d1", "type": "telemetry", "telemetryKey": "a/b \u{e9}"},
                {"deviceId": "d 2", "type": "connectionState", "expiresAt": NOW + 30},
                {"deviceId": "d2", "type": "deviceTwin", "expiresAt": NOW + 9999},
                {"deviceId": "d2", "type": "d2cMessages", "expiresAt": NOW},
                {"deviceId": "d2", "type": "desiredProperties"},
                {"deviceId": "d2", "type": "directMethod"},
                {"deviceId": "d2", "type": "directMethod", "directMethodName": "reboot"},
            ],
        },
    })));
    let authorization = bed.accepted_now(&token);
    let grants: Vec<_> = authorization
        .grants
        .iter()
        .map(|timed| {
            let left_s = timed.expires_at_unix_ms.unwrap() - NOW * 1000;
            (timed.device.as_str(), timed.grant.clone(), left_s)
        })
        .collect();
    let key = TelemetryKey::new("a/b \u{e9}");
    // The one that is over already is not there.
    let expected = [
        ("d1", Grant::Telemetry(None), 60_000),
        ("d1", Grant::Telemetry(None), 60_000),
        ("d1", Grant::Telemetry(key), 60_000),
        ("d 2", Grant::ConnectionState, 30_000),
        ("d2", Grant::DeviceTwin(None), 60_000),
        ("d2", Grant::DesiredProperties(None), 60_000),
        ("d2", Grant::DirectMethod(None, None), 60_000),
        (
            "d2",
            Grant::DirectMethod(Some("reboot".into()), None),
            60_000,
        ),
    ];
    assert_eq!(grants, expected);
    let constraints = SessionConstraints {
        subscriptions_max: Some(200),
        min_interval_ms: Some(500),
        expires_at_unix_ms: Some((NOW + 3600) * 1000),
    };
    assert_eq!(authorization.constraints, constraints);
}

#[test]
fn grants_may_be_about_modules_and_parts() {
    let (bed, signer) = bed();
    let token = signer.token(&claims_with(&json!({"hubrelay": {"grants": [
        {"deviceId": "d", "moduleId": "m", "type": "tags"},
        {"deviceId": "d", "moduleId": null, "type": "deviceTwin", "pointers": ["/tags/site"]},
        {"deviceId": "d", "type": "directMethod", "payloadPolicy": [{"pointer": "/a", "equals": 1}]},
    ]}})));
    let authorization = bed.accepted_now(&token);
    let grants: Vec<_> = authorization
        .grants
        .iter()
        .map(|timed| (timed.device.clone(), timed.grant.clone()))
        .collect();
    let pointer = |text| Pointer::parse(text).unwrap();
    let condition = Condition {
        pointer: pointer("/a"),
        test: Test::Equals(Scalar::Number("1".into())),
    };
    let (device, module) = (DeviceId::new("d"), DeviceId::of_module("d", "m"));
    let parts = Pointers::new(vec![pointer("/tags/site")]).unwrap();
    let policy = PayloadPolicy::new(vec![condition]).unwrap();
    let expected = [
        (module.unwrap(), Grant::Tags(None)),
        (device.clone().unwrap(), Grant::DeviceTwin(Some(parts))),
        (device.unwrap(), Grant::DirectMethod(None, Some(policy))),
    ];
    assert_eq!(grants, expected);
}

#[test]
fn a_token_without_grants_is_one() {
    let (bed, signer) = bed();
    for ours in [
        json!({}),
        json!({"grants": []}),
        json!({"grants": null, "session": null}),
    ] {
        let token = signer.token(&claims_with(&json!({"hubrelay": ours})));
        assert_eq!(bed.accepted_now(&token), Authorization::default());
    }
}

#[test]
fn a_token_holds_until_its_expiry_and_not_a_millisecond_longer() {
    let (bed, signer) = bed();
    let token = signer.token(&claims());
    bed.clock.set_unix_ms((NOW + 60) * 1000 - 1);
    bed.accepted_now(&token);
    bed.clock.set_unix_ms((NOW + 60) * 1000);
    let (code, text) = bed.refused_now(&token);
    assert_eq!(
        (code, &*text),
        ("tokenExpired", "the grant token has expired (`exp`)")
    );
}

#[test]
fn a_fraction_of_a_second_counts() {
    let (bed, signer) = bed();
    let claims = claims()
        .to_string()
        .replace(&(NOW + 60).to_string(), "1800000060.25");
    let token = signer.token_of_texts(r#"{"alg":"HS256"}"#, &claims);
    let expires = bed.accepted_now(&token).grants[0].expires_at_unix_ms;
    assert_eq!(expires, Some((NOW + 60) * 1000 + 250));
}

#[test]
fn the_clock_of_the_issuer_may_be_ahead_by_the_skew_and_no_more() {
    let (bed, signer) = bed();
    for claim in ["nbf", "iat"] {
        let token = |ahead_s: f64| {
            #[expect(clippy::cast_precision_loss, reason = "seconds are exact in an f64")]
            let at = NOW as f64 + ahead_s;
            signer.token(&claims_with(&json!({claim: at})))
        };
        bed.accepted_now(&token(60.0));
        let (code, text) = bed.refused_now(&token(60.001));
        assert_eq!(code, "tokenNotYetValid");
        assert_eq!(
            text,
            format!("the grant token is not valid yet (`{claim}` is ahead of the clock here)")
        );
        bed.clock.advance(Duration::from_millis(1));
        bed.accepted_now(&token(60.001));
        bed.clock.set_unix_ms(NOW * 1000);
    }
}

#[test]
fn an_expiry_that_is_too_far_ahead_is_refused() {
    let (bed, signer) = bed();
    bed.accepted_now(&signer.token(&claims_with(&json!({"exp": NOW + 86_400}))));
    for exp in [json!(NOW + 86_401), json!((NOW + 60) * 1000)] {
        let (code, text) = bed.refused_now(&signer.token(&claims_with(&json!({"exp": exp}))));
        if exp == json!(NOW + 86_401) {
            assert_eq!(code, "tokenLifetime");
            assert_eq!(
                text,
                "the grant token expires more than 86400 seconds from now (`exp`)"
            );
        } else {
            assert_eq!(
                text,
                "the claim `exp` of the grant token is not a number of seconds since 1970-01-01T00:00:00Z"
            );
        }
    }
}

#[test]
fn a_time_is_a_number_of_seconds() {
    let (bed, signer) = bed();
    let texts = [
        "-1",
        "-1e3",
        "1e400",
        "\"1800000060\"",
        "true",
        "[1800000060]",
        "{}",
        "253402300800",
        "1800000060000",
        "\"\"",
    ];
    for claim in ["exp", "nbf", "iat"] {
        for text in texts {
            let mut claims = claims();
            claims[claim] = json!("HERE");
            let claims = claims.to_string().replace("\"HERE\"", text);
            let token = signer.token_of_texts(r#"{"alg":"HS256"}"#, &claims);
            let (code, said) = bed.refused_now(&token);
            assert!(["tokenClaim", "tokenMalformed"].contains(&code), "{said}");
            if code == "tokenClaim" {
                assert!(said.starts_with(&format!("the claim `{claim}` ")), "{said}");
            }
        }
    }
    for claim in ["exp", "hubrelay"] {
        for absent in [true, false] {
            let mut claims = claims();
            if absent {
                claims.as_object_mut().unwrap().remove(claim);
            } else {
                claims[claim] = Value::Null;
            }
            let (code, said) = bed.refused_now(&signer.token(&claims));
            assert_eq!(code, "tokenClaim");
            assert_eq!(
                said,
                format!("the claim `{claim}` of the grant token is missing")
            );
        }
    }
}

#[test]
fn a_configured_issuer_and_audience_have_to_be_named() {
    let signer = Signer::secret(SECRET.as_bytes());
    let bed = Bed::start(
        |tokens| {
            tokens.secret = Some(Secret::new(SECRET));
            tokens.issuer = Some("https://backend.example".to_owned());
            tokens.audience = Some("relay".to_owned());
        },
        Timing::default(),
    );
    let token =
        |iss: Value, aud: Value| signer.token(&claims_with(&json!({"iss": iss, "aud": aud})));
    let issuer = json!("https://backend.example");
    for aud in [json!("relay"), json!(["relay"]), json!(["other", "relay"])] {
        bed.accepted_now(&token(issuer.clone(), aud));
    }
    for iss in [
        json!("https://backend.example/"),
        json!(""),
        json!(1),
        json!(["https://backend.example"]),
    ] {
        assert_eq!(
            bed.refused_now(&token(iss, json!("relay"))).0,
            "tokenIssuer"
        );
    }
    for aud in [
        json!("Relay"),
        json!([]),
        json!({"relay": 1}),
        json!(["other"]),
        json!([["relay"]]),
        json!("relay,other"),
        json!([1, "relay"]),
    ] {
        assert_eq!(
            bed.refused_now(&token(issuer.clone(), aud)).0,
            "tokenAudience"
        );
    }
    for (iss, aud, missing) in [
        (Value::Null, json!("relay"), "iss"),
        (issuer, Value::Null, "aud"),
    ] {
        let (code, text) = bed.refused_now(&token(iss, aud));
        assert_eq!(code, "tokenClaim");
        assert_eq!(
            text,
            format!("the claim `{missing}` of the grant token is missing")
        );
    }
}

#[test]
fn what_is_wrong_with_a_grant_is_said_with_its_place() {
    let (bed, signer) = bed();
    let long = "d".repeat(5000);
    for (grant, claim) in [
        (json!({"type": "telemetry"}), "hubrelay.grants[1].deviceId"),
        (
            json!({"deviceId": "", "type": "telemetry"}),
            "hubrelay.grants[1].deviceId",
        ),
        (
            json!({"deviceId": 1, "type": "telemetry"}),
            "hubrelay.grants[1].deviceId",
        ),
        (
            json!({"deviceId": long, "type": "telemetry"}),
            "hubrelay.grants[1].deviceId",
        ),
        (json!({"deviceId": "d"}), "hubrelay.grants[1].type"),
        (
            json!({"deviceId": "d", "type": "Telemetry"}),
            "hubrelay.grants[1].type",
        ),
        (
            json!({"deviceId": "d", "type": ["telemetry"]}),
            "hubrelay.grants[1].type",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "telemetryKey": ""}),
            "hubrelay.grants[1].telemetryKey",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "telemetryKey": ["t"]}),
            "hubrelay.grants[1].telemetryKey",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "telemetryKey": long}),
            "hubrelay.grants[1].telemetryKey",
        ),
        (
            json!({"deviceId": "d", "type": "deviceTwin", "telemetryKey": "t"}),
            "hubrelay.grants[1].telemetryKey",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "directMethodName": "m"}),
            "hubrelay.grants[1].directMethodName",
        ),
        (
            json!({"deviceId": "d", "type": "directMethod", "directMethodName": ""}),
            "hubrelay.grants[1].directMethodName",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "expiresAt": -1}),
            "hubrelay.grants[1].expiresAt",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "expiresAt": "soon"}),
            "hubrelay.grants[1].expiresAt",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "telemetrykey": "t"}),
            "hubrelay.grants[1]",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "sessionId": "s"}),
            "hubrelay.grants[1]",
        ),
        (
            json!(["d", "telemetry", null, null, null]),
            "hubrelay.grants[1]",
        ),
        (json!("d"), "hubrelay.grants[1]"),
        (Value::Null, "hubrelay.grants[1]"),
    ] {
        assert_refused_for(&bed, &signer, &grant, claim);
    }
}

#[test]
fn what_is_wrong_with_a_narrowing_is_said_with_its_place() {
    let (bed, signer) = bed();
    for (grant, claim) in [
        (
            json!({"deviceId": "d", "type": "deviceTwin", "moduleId": ""}),
            "hubrelay.grants[1].moduleId",
        ),
        (
            json!({"deviceId": "d", "type": "deviceTwin", "moduleId": 1}),
            "hubrelay.grants[1].moduleId",
        ),
        (
            json!({"deviceId": "d", "type": "deviceTwin", "pointers": null}),
            "hubrelay.grants[1].pointers",
        ),
        (
            json!({"deviceId": "d", "type": "telemetry", "pointers": ["/a"]}),
            "hubrelay.grants[1].pointers",
        ),
        (
            json!({"deviceId": "d", "type": "directMethod", "payloadPolicy": []}),
            "hubrelay.grants[1].payloadPolicy",
        ),
    ] {
        assert_refused_for(&bed, &signer, &grant, claim);
    }
}

/// A token whose second grant is `grant` is refused, for what stands at `claim`.
#[track_caller]
fn assert_refused_for(bed: &Bed, signer: &Signer, grant: &Value, claim: &str) {
    let good = json!({"deviceId": "d", "type": "telemetry"});
    let claims = claims_with(&json!({"hubrelay": {"grants": [good, grant]}}));
    let (code, text) = bed.refused_now(&signer.token(&claims));
    assert_eq!(code, "tokenClaim");
    let named = format!("the claim `{claim}` of the grant token ");
    assert!(text.starts_with(&named), "{grant}: {text}");
}

#[test]
fn what_is_wrong_with_the_rest_of_our_claim_is_said_with_its_place() {
    let (bed, signer) = bed();
    for (ours, claim) in [
        (json!([]), "hubrelay"),
        (json!("grants"), "hubrelay"),
        (json!({"grant": []}), "hubrelay"),
        (json!({"grants": {}}), "hubrelay.grants"),
        (json!({"grants": "all"}), "hubrelay.grants"),
        (json!({"session": []}), "hubrelay.session"),
        (
            json!({"session": {"subscriptions_max": 1}}),
            "hubrelay.session",
        ),
        (
            json!({"session": {"subscriptionsMax": -1}}),
            "hubrelay.session.subscriptionsMax",
        ),
        (
            json!({"session": {"subscriptionsMax": 1.5}}),
            "hubrelay.session.subscriptionsMax",
        ),
        (
            json!({"session": {"subscriptionsMax": "1"}}),
            "hubrelay.session.subscriptionsMax",
        ),
        (
            json!({"session": {"subscriptionsMax": 4_294_967_296_u64}}),
            "hubrelay.session.subscriptionsMax",
        ),
        (
            json!({"session": {"minIntervalMs": 86_400_001}}),
            "hubrelay.session.minIntervalMs",
        ),
        (
            json!({"session": {"minIntervalMs": true}}),
            "hubrelay.session.minIntervalMs",
        ),
        (
            json!({"session": {"expiresAt": "never"}}),
            "hubrelay.session.expiresAt",
        ),
    ] {
        let claims = claims_with(&json!({"hubrelay": ours}));
        let (code, text) = bed.refused_now(&signer.token(&claims));
        assert_eq!(code, "tokenClaim");
        assert!(
            text.starts_with(&format!("the claim `{claim}` of the grant token ")),
            "{ours}: {text}"
        );
    }
    let over = claims_with(&json!({"hubrelay": {"session": {"expiresAt": NOW}}}));
    let (code, text) = bed.refused_now(&signer.token(&over));
    assert_eq!(
        (code, &*text),
        (
            "tokenExpired",
            "the grant token has expired (`hubrelay.session.expiresAt`)"
        )
    );
}

#[test]
fn members_that_are_there_twice_are_refused() {
    let (bed, signer) = bed();
    let exp = NOW + 60;
    for payload in [
        format!(r#"{{"exp":{exp},"exp":{exp},"hubrelay":{{}}}}"#),
        format!(r#"{{"exp":{exp},"hubrelay":{{}},"hubrelay":{{}}}}"#),
        format!(r#"{{"exp":{exp},"\u0065xp":{exp},"hubrelay":{{}}}}"#),
        format!(r#"{{"exp":{exp},"hubrelay":{{"grants":[],"grants":[]}}}}"#),
        format!(
            r#"{{"exp":{exp},"hubrelay":{{"session":{{"minIntervalMs":1,"minIntervalMs":2}}}}}}"#
        ),
        format!(
            r#"{{"exp":{exp},"hubrelay":{{"grants":[{{"deviceId":"a","deviceId":"b","type":"deviceTwin"}}]}}}}"#
        ),
    ] {
        let token = signer.token_of_texts(r#"{"alg":"HS256"}"#, &payload);
        let (code, text) = bed.refused_now(&token);
        assert!(
            ["tokenClaim", "tokenMalformed"].contains(&code),
            "{payload}: {text}"
        );
        assert!(text.contains("at most once"), "{text}");
    }
}

#[test]
fn a_payload_that_is_no_object_is_refused() {
    let (bed, signer) = bed();
    for payload in [
        "",
        "null",
        "17",
        "\"text\"",
        "[]",
        "[[1,2],3]",
        "{",
        "{\"exp\":1}}",
        "{\"exp\":1,}",
        "\u{0}",
    ] {
        let token = signer.token_of_texts(r#"{"alg":"HS256"}"#, payload);
        let (code, text) = bed.refused_now(&token);
        assert_eq!(code, "tokenMalformed");
        assert!(text.contains("payload is not a JSON object"), "{text}");
    }
    let mut invalid = claims().to_string().into_bytes();
    invalid.insert(2, 0xff);
    let token = signer.token_of_texts(r#"{"alg":"HS256"}"#, invalid);
    assert_eq!(bed.refused_now(&token).0, "tokenMalformed");
}

#[test]
fn nesting_costs_nothing_where_nobody_looks_and_is_refused_where_somebody_does() {
    let (bed, signer) = bed();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let token = |place: Value| {
        let claims = claims_with(&place).to_string().replace("\"HERE\"", &deep);
        signer.token_of_texts(r#"{"alg":"HS256"}"#, &claims)
    };
    bed.accepted_now(&token(json!({"theirs": "HERE"})));
    for place in [
        json!({"exp": "HERE"}),
        json!({"hubrelay": "HERE"}),
        json!({"hubrelay": {"session": "HERE"}}),
        json!({"hubrelay": {"grants": "HERE"}}),
        json!({"hubrelay": {"grants": ["HERE"]}}),
        json!({"hubrelay": {"grants": [{"deviceId": "HERE", "type": "deviceTwin"}]}}),
    ] {
        assert_eq!(bed.refused_now(&token(place)).0, "tokenClaim");
    }
}

#[test]
fn as_many_grants_as_a_session_may_have_fit_and_one_more_does_not() {
    let (bed, signer) = bed();
    let token = |count: usize| {
        let grants: Vec<_> = (0..count)
            .map(|n| json!({"deviceId": format!("d{n}"), "type": "deviceTwin"}))
            .collect();
        signer.token(&claims_with(&json!({"hubrelay": {"grants": grants}})))
    };
    assert_eq!(bed.accepted_now(&token(100)).grants.len(), 100);
    let (code, text) = bed.refused_now(&token(101));
    assert_eq!(
        (code, &*text),
        (
            "tokenTooManyGrants",
            "the grant token carries more than 100 grants"
        )
    );
}

#[test]
fn claims_of_others_are_nobodys_business() {
    let (bed, signer) = bed();
    let claims = claims_with(&json!({"sub": {"any": ["thing"]}, "https://x/y": null, "scope": 1}));
    let authorization = bed.accepted_now(&signer.token(&claims));
    assert_eq!(authorization.grants[0].device, DeviceId::new("d1").unwrap());
}

#[test]
fn no_refusal_shows_anything_of_the_token() {
    let (bed, signer) = bed();
    for claims in [
        grant_claims(&json!({"deviceId": "s3cret", "type": "s3cret"})),
        claims_with(&json!({"hubrelay": "s3cret"})),
        claims_with(&json!({"exp": "s3cret"})),
    ] {
        let (_, text) = bed.refused_now(&signer.token(&claims));
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert!(!format!("{:?}", bed.tokens).contains(SECRET));
}
