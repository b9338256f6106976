//! The parts of a request that all handlers read in the same way.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::iot_hub::{ErrorCode, HubError, IdentityId, IfMatch};

/// The largest body of any request.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// The longest that a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The device or module that the path names.
pub(super) struct Named(pub(super) IdentityId);

#[derive(Deserialize)]
struct Names {
    device: String,
    module: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let names = Path::<Names>::from_request_parts(parts, state).await;
        let Path(Names { device, module }) =
            names.map_err(|_| HubError::invalid("the path is not valid UTF-8"))?;
        Ok(Self(IdentityId::new(device, module)?))
    }
}

/// What the request requires of the etag; `None` without `If-Match`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, HubError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| HubError::invalid("If-Match must be an etag in quotes, or *"))?;
    let unquoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    Ok(Some(match unquoted {
        "*" => IfMatch::Any,
        etag => IfMatch::Etag(etag.to_owned()),
    }))
}

/// The body, as long as it is within its limit.
pub(super) struct WholeBody(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for WholeBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        read(request.into_body())
            .await
            .map(Self)
            .map_err(Refusal::from)
    }
}

async fn read(body: Body) -> Result<Bytes, HubError> {
    match timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(HubError::new(
            ErrorCode::MessageTooLarge,
            "the body is larger than 512 KB, or broke off",
        )),
        Err(_) => Err(HubError::invalid("the body did not arrive in time")),
    }
}

impl WholeBody {
    /// The body as a JSON object of a form.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Result<T, HubError> {
        // Forms would be read from arrays as well, by position.
        if self.0.trim_ascii_start().first() != Some(&b'{') {
            return Err(HubError::invalid("the body must be a JSON object"));
        }
        self.json()
    }

    /// The body as JSON of a form.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, HubError> {
        serde_json::from_slice(&self.0)
            .map_err(|error| HubError::invalid(format!("the body is not as expected: {error}")))
    }
}

/// JSON, with its etag in the header as well.
pub(super) struct Tagged {
    pub(super) etag: String,
    pub(super) body: String,
}

impl IntoResponse for Tagged {
    fn into_response(self) -> Response {
        let etag = HeaderValue::try_from(format!("\"{}\"", self.etag)).expect("etags are base64");
        let headers = [(header::ETAG, etag), json_type()];
        (headers, self.body).into_response()
    }
}

pub(super) fn json_type() -> (header::HeaderName, HeaderValue) {
    (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_taken_with_and_without_quotes() {
        let parsed = |text: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = text {
                headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
            }
            if_match(&headers).unwrap()
        };
        let etag = || Some(IfMatch::Etag("AAAAAAAAAAE=".to_owned()));
        assert_eq!(parsed(None), None);
        assert_eq!(parsed(Some("*")), Some(IfMatch::Any));
        assert_eq!(parsed(Some("\"*\"")), Some(IfMatch::Any));
        assert_eq!(parsed(Some("\"AAAAAAAAAAE=\"")), etag());
        assert_eq!(parsed(Some("AAAAAAAAAAE=")), etag());
    }
}
