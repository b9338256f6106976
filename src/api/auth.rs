//! Who is asking: the two admin keys, the session id and grant tokens, as they come in headers.
//!
//! Keys are compared in constant time, and a key that is not configured matches nothing, an empty header least of all.
//! Credentials that an endpoint does not ask for are ignored: ux4iot's development mode sends its key with everything.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::State;
use super::error::Error;
use crate::config::AdminKeys;
use crate::domain::id::SessionId;
use crate::grant_token::bearer_token;

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

impl Reader {
    /// The session, if it is one that reads.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self {
            Self::Admin => None,
            Self::Session(session) => Some(*session),
        }
    }
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

/// The grant token that a request carries, not verified yet.
pub(super) struct BearerToken(pub(super) Option<String>);

impl<S: Sync> FromRequestParts<S> for BearerToken {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(bearer_token(&parts.headers)))
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
