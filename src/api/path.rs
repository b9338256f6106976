//! Names in request paths.
//!
//! Clients put device ids and telemetry keys into the path as they are, so decoding has to be forgiving: each escape is
//! decoded once, what is not a valid escape stays as it was written, and `+` is a plus sign.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::error::Error;
use crate::domain::id::{DeviceId, TelemetryKey};

/// What follows the first segment of the path, not decoded yet.
pub(super) struct Rest(String);

impl<S: Sync> FromRequestParts<S> for Rest {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let path = parts.uri.path();
        let rest = path
            .get(1..)
            .and_then(|path| path.split_once('/'))
            .map_or("", |(_, rest)| rest);
        Ok(Self(rest.to_owned()))
    }
}

impl Rest {
    /// All of it as one name.
    pub(super) fn name(&self) -> Cow<'_, str> {
        decode(&self.0)
    }
}

/// A device, and one of its telemetry keys unless all are meant. The key is all of the path behind the device id,
/// slashes included.
pub(super) struct DevicePath {
    pub(super) device: DeviceId,
    pub(super) key: Option<TelemetryKey>,
}

impl<S: Sync> FromRequestParts<S> for DevicePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let Ok(Rest(rest)) = Rest::from_request_parts(parts, state).await;
        let (device, key) = rest.split_once('/').unwrap_or((&rest, ""));
        let device = DeviceId::new(&decode(device)).ok_or(Error::NameTooLong)?;
        let key = match key {
            "" => None,
            key => Some(TelemetryKey::new(&decode(key)).ok_or(Error::NameTooLong)?),
        };
        Ok(Self { device, key })
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text)
        .decode_utf8()
        .unwrap_or(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once_and_anything_else_is_taken_as_written() {
        for (written, name) in [
            ("plain", "plain"),
            ("a%20b", "a b"),
            ("a%2520b", "a%20b"),
            ("a+b", "a+b"),
            ("100%", "100%"),
            ("%zz%41", "%zzA"),
            ("%2F", "/"),
            ("%C3%A9", "é"),
            ("%ff", "%ff"),
        ] {
            assert_eq!(decode(written), name, "{written}");
        }
    }
}
