//! Twins of devices and modules.

use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::Value;

use super::Service;
use super::refusal::Refusal;
use super::request::{Named, Tagged, WholeBody, if_match};
use crate::iot_hub::IfMatch;

pub(super) async fn read(
    State(service): State<Service>,
    Named(id): Named,
) -> Result<Tagged, Refusal> {
    Ok(tagged(&service.hub.twin(&id)?))
}

pub(super) async fn update(
    State(service): State<Service>,
    Named(id): Named,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Tagged, Refusal> {
    let if_match = if_match(&headers)?.unwrap_or(IfMatch::Any);
    let twin = service.hub.update_twin(&id, &body.json()?, &if_match)?;
    Ok(tagged(&twin))
}

pub(super) async fn replace(
    State(service): State<Service>,
    Named(id): Named,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Tagged, Refusal> {
    let if_match = if_match(&headers)?.unwrap_or(IfMatch::Any);
    let twin = service.hub.replace_twin(&id, &body.json()?, &if_match)?;
    Ok(tagged(&twin))
}

fn tagged(twin: &Value) -> Tagged {
    Tagged {
        etag: twin["etag"].as_str().unwrap_or_default().to_owned(),
        body: twin.to_string(),
    }
}
