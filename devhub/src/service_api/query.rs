//! Queries over twins, a page at a time.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::Service;
use super::refusal::Refusal;
use super::request::{WholeBody, json_type};
use crate::iot_hub::{HubError, IdentityId, Query};

const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const ITEM_COUNT_MAX: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

#[derive(Deserialize)]
struct QueryForm {
    query: String,
}

pub(super) async fn run(
    State(service): State<Service>,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Response, Refusal> {
    let QueryForm { query } = body.object()?;
    let query = Query::parse(&query)?;
    let count_max = page_size(&headers)?;
    let after = headers
        .get(CONTINUATION)
        .filter(|token| !token.is_empty())
        .map(parse_continuation)
        .transpose()?;
    let page = service.hub.query_twins(&query, after.as_ref(), count_max);
    let twins = serde_json::to_string(&page.twins).expect("JSON values have a JSON text");
    let mut response = ([json_type()], twins).into_response();
    let headers = response.headers_mut();
    headers.insert(ITEM_TYPE, HeaderValue::from_static("Twin"));
    if let Some(last) = page.continues_after {
        headers.insert(CONTINUATION, continuation(&last));
    }
    Ok(response)
}

fn page_size(headers: &HeaderMap) -> Result<usize, HubError> {
    let Some(value) = headers
        .get(ITEM_COUNT_MAX)
        .filter(|value| !value.is_empty())
    else {
        return Ok(PAGE_DEFAULT);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|count| (1..=PAGE_MAX).contains(count))
        .ok_or_else(|| HubError::invalid("x-ms-max-item-count must be from 1 to 1000"))
}

/// A token is opaque to clients: the id behind which the next page begins.
fn continuation(last: &IdentityId) -> HeaderValue {
    let token = BASE64_STANDARD.encode(last.to_string());
    HeaderValue::try_from(token).expect("base64 is fit for a header")
}

fn parse_continuation(token: &HeaderValue) -> Result<IdentityId, HubError> {
    let parse = || {
        let text = String::from_utf8(BASE64_STANDARD.decode(token).ok()?).ok()?;
        match text.split_once('/') {
            None => IdentityId::device(text).ok(),
            Some((device_id, module_id)) => IdentityId::module(device_id, module_id).ok(),
        }
    };
    parse().ok_or_else(|| HubError::invalid("x-ms-continuation is not one that this hub gave"))
}
