//! The identity registry: devices, modules and their numbers.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Service;
use super::identity_json::{IdentityForm, to_json};
use super::refusal::Refusal;
use super::request::{Named, Tagged, WholeBody, if_match};
use crate::iot_hub::{HubError, IdentityDescription, IfMatch};

/// How many devices a list has at most.
const LISTED_MAX: usize = 1000;

#[derive(Deserialize)]
pub(super) struct Top {
    top: Option<usize>,
}

pub(super) async fn devices(
    State(service): State<Service>,
    query: Result<Query<Top>, QueryRejection>,
) -> Result<Json<Vec<Value>>, Refusal> {
    let Query(Top { top }) = query.map_err(|_| HubError::invalid("top must be a number"))?;
    let count_max = top.unwrap_or(LISTED_MAX).min(LISTED_MAX);
    let devices = service.hub.devices(count_max);
    Ok(Json(devices.iter().map(to_json).collect()))
}

pub(super) async fn modules(
    State(service): State<Service>,
    Named(id): Named,
) -> Result<Json<Vec<Value>>, Refusal> {
    let modules = service.hub.modules(&id)?;
    Ok(Json(modules.iter().map(to_json).collect()))
}

pub(super) async fn read(
    State(service): State<Service>,
    Named(id): Named,
) -> Result<Tagged, Refusal> {
    Ok(tagged(&service.hub.identity(&id)?))
}

/// Creates the identity, or with `If-Match` updates it.
pub(super) async fn put(
    State(service): State<Service>,
    Named(id): Named,
    headers: HeaderMap,
    body: WholeBody,
) -> Result<Tagged, Refusal> {
    let form: IdentityForm = body.object()?;
    if form.device_id != id.device_id() {
        return Err(HubError::invalid("deviceId must be that of the path").into());
    }
    if form.module_id.as_deref() != id.module_id() {
        return Err(HubError::invalid("moduleId must be that of the path").into());
    }
    let settings = form.settings()?;
    let identity = match if_match(&headers)? {
        None => service.hub.create_identity(&id, settings)?,
        Some(if_match) => service.hub.update_identity(&id, settings, &if_match)?,
    };
    Ok(tagged(&identity))
}

pub(super) async fn delete(
    State(service): State<Service>,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let if_match = if_match(&headers)?.unwrap_or(IfMatch::Any);
    service.hub.delete_identity(&id, &if_match)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn device_statistics(State(service): State<Service>) -> Json<Value> {
    let statistics = service.hub.device_statistics();
    Json(json!({
        "totalDeviceCount": statistics.enabled + statistics.disabled,
        "enabledDeviceCount": statistics.enabled,
        "disabledDeviceCount": statistics.disabled,
    }))
}

pub(super) async fn service_statistics(State(service): State<Service>) -> Json<Value> {
    let statistics = service.hub.device_statistics();
    Json(json!({ "connectedDeviceCount": statistics.connected }))
}

fn tagged(identity: &IdentityDescription) -> Tagged {
    Tagged {
        etag: identity.etag.clone(),
        body: to_json(identity).to_string(),
    }
}
