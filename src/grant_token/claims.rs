//! What the claims of a grant token mean, and the rules they have to keep (RFC 7519 §4, and our own claim `hubrelay`).
//!
//! Claims that are not ours to understand are ignored, as RFC 7519 wants it. Within `hubrelay` everything has to be
//! understood: a misspelt `telemetryKey` would otherwise grant every key.
//!
//! Whether a token is over goes by the clock here and nothing else, so that its grants end at the instant that is
//! written in it. A difference of clocks is made up for where it cannot prolong anything: `nbf` and `iat` may lie ahead
//! by [`Rules::clock_skew_ms`].

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Claim, TokenError};
use super::jws::object;
use crate::clock::whole_ms;
use crate::config::GrantTokenConfig;
use crate::domain::grant::Grant;
use crate::domain::id::DeviceId;
use crate::domain::session::SessionConstraints;
use crate::domain::subscription::Delivery;
use crate::grant_members::{GrantMembers, MISPLACED, NOT_A_NAME, even_null, text};
use crate::relay::{Authorization, TimedGrant};

/// The last second of the year 9999; later ones are a mistake, such as milliseconds.
const UNIX_S_MAX: f64 = 253_402_300_799.0;

const EXP: Claim = Claim::Registered("exp");
const NBF: Claim = Claim::Registered("nbf");
const IAT: Claim = Claim::Registered("iat");

const NOT_A_TIME: &str = "is not a number of seconds since 1970-01-01T00:00:00Z";

/// The rules that the configuration makes.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    /// How far `nbf` and `iat` may lie ahead.
    pub(super) clock_skew_ms: i64,
    /// How far `exp` may lie ahead.
    pub(super) lifetime_max_ms: i64,
    /// How many grants a session may have.
    pub(super) grants_max: usize,
}

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Option<&'a RawValue>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    nbf: Option<&'a RawValue>,
    #[serde(borrow)]
    iat: Option<&'a RawValue>,
    #[serde(borrow)]
    hubrelay: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ours<'a> {
    #[serde(borrow)]
    session: Option<&'a RawValue>,
    #[serde(borrow)]
    grants: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SessionMembers<'a> {
    #[serde(borrow)]
    subscriptions_max: Option<&'a RawValue>,
    #[serde(borrow)]
    min_interval_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_at: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimedGrantMembers<'a> {
    #[serde(borrow)]
    device_id: Option<&'a RawValue>,
    #[serde(borrow)]
    module_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    telemetry_key: Option<&'a RawValue>,
    #[serde(borrow)]
    direct_method_name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    pointers: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    payload_policy: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_at: Option<&'a RawValue>,
}

/// One of `iss` and `aud`, which may be written as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Several(#[serde(borrow)] Vec<Cow<'a, str>>),
}

impl Rules {
    /// The rules that `config` makes for sessions with at most `grants_max` grants.
    pub(super) fn from_config(config: &GrantTokenConfig, grants_max: usize) -> Self {
        let ms = |duration| i64::try_from(whole_ms(duration)).unwrap_or(i64::MAX);
        Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            clock_skew_ms: ms(config.clock_skew),
            lifetime_max_ms: ms(config.lifetime_max),
            grants_max,
        }
    }

    /// What the payload of a token whose signature is right allows at `now_unix_ms`. Grants that are over already are
    /// left out.
    pub(super) fn authorize(
        &self,
        payload: &[u8],
        now_unix_ms: i64,
    ) -> Result<Authorization, TokenError> {
        let claims: Claims<'_> = object(payload).ok_or(TokenError::Malformed(
            "its payload is not a JSON object with each claim at most once",
        ))?;
        let expires_at = self.check_times(&claims, now_unix_ms)?;
        self.check_parties(&claims)?;
        let ours = claims.hubrelay.ok_or(missing(Claim::Ours))?;
        let ours: Ours<'_> = object(ours.get().as_bytes()).ok_or(wrong(
            Claim::Ours,
            "is not an object with `session` and `grants`, each at most once, and nothing else",
        ))?;
        Ok(Authorization {
            constraints: read_session(ours.session, now_unix_ms)?,
            grants: self.read_grants(ours.grants, now_unix_ms, expires_at)?,
        })
    }

    /// Returns when the token ends.
    fn check_times(&self, claims: &Claims<'_>, now_unix_ms: i64) -> Result<i64, TokenError> {
        let expires_at = claims.exp.ok_or(missing(EXP))?;
        let expires_at = unix_ms(expires_at).ok_or(wrong(EXP, NOT_A_TIME))?;
        if expires_at <= now_unix_ms {
            return Err(TokenError::Expired { claim: EXP });
        }
        if expires_at > now_unix_ms.saturating_add(self.lifetime_max_ms) {
            return Err(TokenError::LifetimeTooLong {
                lifetime_max_s: self.lifetime_max_ms / 1000,
            });
        }
        for (claim, value) in [(NBF, claims.nbf), (IAT, claims.iat)] {
            let Some(value) = value else { continue };
            let begins_at = unix_ms(value).ok_or(wrong(claim, NOT_A_TIME))?;
            if begins_at > now_unix_ms.saturating_add(self.clock_skew_ms) {
                return Err(TokenError::NotYetValid { claim });
            }
        }
        Ok(expires_at)
    }

    fn check_parties(&self, claims: &Claims<'_>) -> Result<(), TokenError> {
        if let Some(issuer) = &self.issuer {
            let named = claims.iss.ok_or(missing(Claim::Registered("iss")))?;
            if text(named).as_deref() != Some(issuer) {
                return Err(TokenError::Issuer);
            }
        }
        if let Some(audience) = &self.audience {
            let named = claims.aud.ok_or(missing(Claim::Registered("aud")))?;
            let is_meant = match serde_json::from_str(named.get()) {
                Ok(Names::One(name)) => name == *audience,
                Ok(Names::Several(all)) => all.iter().any(|name| name == audience),
                Err(_) => false,
            };
            if !is_meant {
                return Err(TokenError::Audience);
            }
        }
        Ok(())
    }

    fn read_grants(
        &self,
        grants: Option<&RawValue>,
        now_unix_ms: i64,
        token_expires_at: i64,
    ) -> Result<Vec<TimedGrant>, TokenError> {
        let Some(grants) = grants else {
            return Ok(Vec::new());
        };
        let elements: Vec<&RawValue> = serde_json::from_str(grants.get())
            .map_err(|_| wrong(Claim::Member("grants"), "is not a list"))?;
        if elements.len() > self.grants_max {
            return Err(TokenError::TooManyGrants {
                grants_max: self.grants_max,
            });
        }
        let mut read = Vec::with_capacity(elements.len());
        for (index, element) in elements.into_iter().enumerate() {
            let grant = read_grant(index, element, token_expires_at)?;
            if grant.expires_at_unix_ms.is_none_or(|at| at > now_unix_ms) {
                read.push(grant);
            }
        }
        Ok(read)
    }
}

fn read_session(
    session: Option<&RawValue>,
    now_unix_ms: i64,
) -> Result<SessionConstraints, TokenError> {
    let Some(session) = session else {
        return Ok(SessionConstraints::default());
    };
    let members: SessionMembers<'_> = object(session.get().as_bytes()).ok_or(wrong(
        Claim::Member("session"),
        "is not an object with `subscriptionsMax`, `minIntervalMs` and `expiresAt`, each at most once, and nothing else",
    ))?;
    let subscriptions_max = members
        .subscriptions_max
        .map(|value| {
            let number: Option<u32> = serde_json::from_str(value.get()).ok();
            let number = number.and_then(|number| usize::try_from(number).ok());
            number.ok_or(wrong(
                Claim::Session("subscriptionsMax"),
                "is not a whole number from 0 to 4294967295",
            ))
        })
        .transpose()?;
    let min_interval_ms = members
        .min_interval_ms
        .map(|value| {
            let number: Option<u32> = serde_json::from_str(value.get()).ok();
            let number = number.filter(|ms| *ms <= Delivery::MIN_INTERVAL_MS_MAX);
            number.ok_or(wrong(
                Claim::Session("minIntervalMs"),
                "is not a whole number from 0 to 86400000",
            ))
        })
        .transpose()?;
    let claim = Claim::Session("expiresAt");
    let expires_at_unix_ms = members
        .expires_at
        .map(|value| unix_ms(value).ok_or(wrong(claim, NOT_A_TIME)))
        .transpose()?;
    if expires_at_unix_ms.is_some_and(|at| at <= now_unix_ms) {
        return Err(TokenError::Expired { claim });
    }
    Ok(SessionConstraints {
        subscriptions_max,
        min_interval_ms,
        expires_at_unix_ms,
    })
}

fn read_grant(
    index: usize,
    element: &RawValue,
    token_expires_at: i64,
) -> Result<TimedGrant, TokenError> {
    let member = |member| Claim::GrantMember { index, member };
    let members: TimedGrantMembers<'_> = object(element.get().as_bytes()).ok_or(wrong(
        Claim::Grant { index },
        "is not an object with `deviceId`, `moduleId`, `type`, `telemetryKey`, `directMethodName`, `pointers`, `payloadPolicy` and `expiresAt`, each at most once, and nothing else",
    ))?;
    let device_id = members.device_id.ok_or(missing(member("deviceId")))?;
    let mut device = text(device_id)
        .and_then(|name| DeviceId::new(&name))
        .ok_or(wrong(member("deviceId"), NOT_A_NAME))?;
    if let Some(module_id) = members.module_id {
        device = text(module_id)
            .and_then(|name| DeviceId::of_module(device.as_str(), &name))
            .ok_or(wrong(member("moduleId"), NOT_A_NAME))?;
    }
    let kind = members.kind.ok_or(missing(member("type")))?;
    let granted = GrantMembers {
        telemetry_key: members.telemetry_key,
        direct_method_name: members.direct_method_name,
        pointers: members.pointers,
        payload_policy: members.payload_policy,
    };
    let grant = granted
        .grant(text(kind).as_deref().unwrap_or_default())
        .map_err(|error| wrong(member(error.member), error.problem))?;
    let is_telemetry = matches!(grant, Grant::Telemetry(_));
    let is_method = matches!(grant, Grant::DirectMethod(_, _));
    for (name, value, is_in_place) in [
        ("telemetryKey", members.telemetry_key, is_telemetry),
        ("directMethodName", members.direct_method_name, is_method),
    ] {
        if value.is_some() && !is_in_place {
            return Err(wrong(member(name), MISPLACED));
        }
    }
    let expires_at = members.expires_at.map_or(Ok(token_expires_at), |value| {
        unix_ms(value).ok_or(wrong(member("expiresAt"), NOT_A_TIME))
    })?;
    Ok(TimedGrant {
        device,
        grant,
        expires_at_unix_ms: Some(expires_at.min(token_expires_at)),
    })
}

/// A time in seconds (`NumericDate`, RFC 7519 §2), which may have a fraction, in whole milliseconds.
fn unix_ms(value: &RawValue) -> Option<i64> {
    let seconds: f64 = serde_json::from_str(value.get()).ok()?;
    if !(0.0..=UNIX_S_MAX).contains(&seconds) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 2.6e14 after the check above, and cutting fractions of a millisecond is meant"
    )]
    let ms = (seconds * 1000.0) as i64;
    Some(ms)
}

fn missing(claim: Claim) -> TokenError {
    wrong(claim, "is missing")
}

fn wrong(claim: Claim, problem: &'static str) -> TokenError {
    TokenError::Claim { claim, problem }
}
