//! Request bodies: read within a bound, taken for JSON whatever the content type says, and parsed without losing a
//! digit.

use std::error::Error as StdError;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::State;
use super::error::Error;
use crate::http::BodyTimedOut;

/// A whole request body. Too long a one is refused with 413, before it is read when its length was announced.
pub(super) struct RequestBody(Bytes);

/// The body, or a part of it, is not what the endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl RequestBody {
    /// Whether there is no body.
    pub(super) fn is_empty(&self) -> bool {
        self.0.trim_ascii().is_empty()
    }

    /// The body as text.
    pub(super) fn text(&self) -> Result<&str, Malformed> {
        std::str::from_utf8(&self.0).map_err(|_| Malformed)
    }
}

impl FromRequest<State> for RequestBody {
    type Rejection = Error;

    async fn from_request(request: Request, state: &State) -> Result<Self, Error> {
        let bytes_max = state.config.limits.body_bytes_max;
        let body = request.into_body();
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(Error::BodyTooLarge { bytes_max });
        }
        match Limited::new(body, bytes_max).collect().await {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(error) if has_cause::<LengthLimitError>(&*error) => {
                Err(Error::BodyTooLarge { bytes_max })
            }
            Err(error) if has_cause::<BodyTimedOut>(&*error) => Err(Error::BodyTimedOut),
            Err(_) => Err(Error::BodyUnreadable),
        }
    }
}

/// Parses a JSON object. Serde by itself would also take an array with the members in order.
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Malformed);
    }
    serde_json::from_str(text).map_err(|_| Malformed)
}

/// The string in an optional member: `None` when the member is absent or `null`; any other type is malformed.
pub(super) fn optional_string(member: Option<&RawValue>) -> Result<Option<String>, Malformed> {
    member.map_or(Ok(None), |value| {
        serde_json::from_str(value.get()).map_err(|_| Malformed)
    })
}

fn has_cause<E: StdError + 'static>(mut error: &(dyn StdError + 'static)) -> bool {
    loop {
        if error.is::<E>() {
            return true;
        }
        match error.source() {
            Some(source) => error = source,
            None => return false,
        }
    }
}
