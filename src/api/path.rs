//! Names in request paths, and the module in their query.
//!
//! Clients put device ids and telemetry keys into the path as they are, so decoding has to be forgiving: each escape is
//! decoded once, what is not a valid escape stays as it was written, and `+` is a plus sign. In the query, which no
//! client of ux4iot sends, names are encoded as HTML forms encode them, and have to be.

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

/// A device, or the module of it that the query names as `moduleId`, and one of its telemetry keys unless all are meant.
/// The key is all of the path behind the device id, slashes included.
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
        let device = match module_id(parts.uri.query().unwrap_or_default())? {
            Some(module_id) => DeviceId::of_module(device.as_str(), &module_id),
            None => Some(device),
        };
        let device = device.ok_or(Error::WrongModuleId)?;
        let key = match key {
            "" => None,
            key => Some(TelemetryKey::new(&decode(key)).ok_or(Error::NameTooLong)?),
        };
        Ok(Self { device, key })
    }
}

/// The member `moduleId` of a query, which other members may surround.
fn module_id(query: &str) -> Result<Option<String>, Error> {
    let mut values = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name == "moduleId")
        .map(|(_, value)| value.replace('+', " "));
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match percent_decode_str(&value).decode_utf8() {
        Ok(module_id) if values.next().is_none() => Ok(Some(module_id.into_owned())),
        _ => Err(Error::WrongModuleId),
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

    #[test]
    fn a_module_is_named_once_in_the_query_or_not_at_all() {
        for (query, named) in [
            ("", None),
            ("module=m&moduleid=m&=", None),
            ("a=b&moduleId=m%2B1+%26&c", Some("m+1 &")),
            ("moduleId", Some("")),
        ] {
            let module_id = module_id(query).unwrap();
            assert_eq!(module_id.as_deref(), named, "{query}");
        }
        for query in ["moduleId=a&moduleId=a", "moduleId=%ff", "moduleId&moduleId"] {
            assert_eq!(module_id(query), Err(Error::WrongModuleId), "{query}");
        }
    }
}
