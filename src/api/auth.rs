//! Who is asking: the two admin keys, the session id and grant tokens, as they come in headers.
//!
//! Keys are compared in constant time, and a key that is not configured matches nothing, an empty header least of all.
//! Credentials that an endpoint does not ask for are ignored: ux4iot's development mode sends its key with everything.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::State;
use super::error::Error;
use crate::config::AdminKeys;
use crate::domain::id::SessionId;

const SHARED_ACCESS_KEY: &str = "shared-access-key";
const SESSION_ID: &str = "sessionid";

/// The caller showed one of the two admin keys. Otherwise the request ends with 401, before its body is read.
pub(super) struct Admin;

impl FromRequestParts<State> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Error> {
        match Key::of(&parts.headers, &state.config.admin_keys) {
            Key::Valid => Ok(Self),
            Key::Missing => Err(Error::KeyMissing),
            Key::Wrong => Err(Error::KeyWrong),
        }
    }
}

/// Who reads last values, connection states and twins. A key wins over a session, even when it is wrong: the admin
/// client sends both.
pub(super) enum Reader {
    /// The bearer of an admin key sees everything.
    Admin,
    /// A session sees what it was granted. Whether it exists is not checked yet.
    Session(SessionId),
}

impl FromRequestParts<State> for Reader {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Error> {
        match Key::of(&parts.headers, &state.config.admin_keys) {
            Key::Valid => Ok(Self::Admin),
            Key::Wrong => Err(Error::ReadKeyWrong),
            Key::Missing => match SessionHeader::of(&parts.headers) {
                SessionHeader::Missing => Err(Error::ReadCredentialMissing),
                SessionHeader::Unknown => Err(Error::NoSuchSession),
                SessionHeader::Named(session) => Ok(Self::Session(session)),
            },
        }
    }
}

/// The header `sessionId`.
#[derive(Clone, Copy)]
pub(super) enum SessionHeader {
    /// Not there, or empty.
    Missing,
    /// It holds what was never the id of a session.
    Unknown,
    /// It holds what may be the id of a session.
    Named(SessionId),
}

impl SessionHeader {
    /// The session that the header names; a missing header is like one that names an unknown session.
    pub(super) fn required(self) -> Result<SessionId, Error> {
        match self {
            Self::Named(session) => Ok(session),
            Self::Missing | Self::Unknown => Err(Error::NoSuchSession),
        }
    }

    fn of(headers: &HeaderMap) -> Self {
        match headers.get(SESSION_ID) {
            None => Self::Missing,
            Some(value) if value.is_empty() => Self::Missing,
            Some(value) => match value.to_str().ok().and_then(SessionId::parse) {
                Some(session) => Self::Named(session),
                None => Self::Unknown,
            },
        }
    }
}

impl<S: Sync> FromRequestParts<S> for SessionHeader {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

/// The header `Authorization` with a grant token (RFC 6750 §2.1). Credentials of other schemes are ignored: they are
/// for somebody on the way.
pub(super) struct BearerToken(pub(super) Option<String>);

impl<S: Sync> FromRequestParts<S> for BearerToken {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let credentials = parts.headers.get(AUTHORIZATION);
        let token = credentials.and_then(|credentials| {
            // What is no text is no token either, which verifying it will say.
            let credentials = String::from_utf8_lossy(credentials.as_bytes());
            let (scheme, token) = credentials.split_once(' ').unwrap_or((&credentials, ""));
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim_matches(' ').to_owned())
        });
        Ok(Self(token))
    }
}

/// The header `Shared-Access-Key`.
enum Key {
    Missing,
    Wrong,
    Valid,
}

impl Key {
    fn of(headers: &HeaderMap, keys: &AdminKeys) -> Self {
        match headers.get(SHARED_ACCESS_KEY) {
            None => Self::Missing,
            Some(value) if value.is_empty() => Self::Missing,
            Some(value) if value.to_str().is_ok_and(|key| keys.accept(key)) => Self::Valid,
            Some(_) => Self::Wrong,
        }
    }
}
