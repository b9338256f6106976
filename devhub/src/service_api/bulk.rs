//! Many changes of the registry in one request. Each stands for itself: those that are refused are told, the others are made.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Service;
use super::identity_json::IdentityForm;
use super::refusal::Refusal;
use super::request::WholeBody;
use crate::iot_hub::{ErrorCode, HubError, IdentityId, IfMatch};

/// How many changes one request may hold.
const CHANGES_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    import_mode: String,
    #[serde(alias = "eTag")]
    etag: Option<String>,
    #[serde(flatten)]
    identity: IdentityForm,
}

pub(super) async fn apply(
    State(service): State<Service>,
    body: WholeBody,
) -> Result<Response, Refusal> {
    let changes: Vec<Change> = body.json()?;
    if changes.is_empty() || changes.len() > CHANGES_MAX {
        return Err(HubError::new(
            ErrorCode::TooManyDevices,
            "there must be from 1 to 100 changes",
        )
        .into());
    }
    let mut errors = Vec::<Value>::new();
    for change in changes {
        let (device_id, module_id) = (
            change.identity.device_id.clone(),
            change.identity.module_id.clone(),
        );
        if let Err(error) = make(&service, change) {
            errors.push(json!({
                "deviceId": device_id,
                "moduleId": module_id,
                "errorCode": error.code().name(),
                "errorStatus": error.message(),
            }));
        }
    }
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::BAD_REQUEST
    };
    let body = json!({ "isSuccessful": errors.is_empty(), "errors": errors, "warnings": [] });
    Ok((status, Json(body)).into_response())
}

fn make(service: &Service, change: Change) -> Result<(), HubError> {
    let Change {
        import_mode,
        etag,
        identity,
    } = change;
    let id = IdentityId::new(identity.device_id.clone(), identity.module_id.clone())?;
    let required = || {
        etag.map(|etag| IfMatch::Etag(etag.trim_matches('"').to_owned()))
            .ok_or_else(|| HubError::invalid("etag is missing"))
    };
    match import_mode.to_ascii_lowercase().as_str() {
        "create" => service
            .hub
            .create_identity(&id, identity.settings()?)
            .map(drop),
        "update" => service
            .hub
            .update_identity(&id, identity.settings()?, &IfMatch::Any)
            .map(drop),
        "updateifmatchetag" => service
            .hub
            .update_identity(&id, identity.settings()?, &required()?)
            .map(drop),
        "delete" => service.hub.delete_identity(&id, &IfMatch::Any),
        "deleteifmatchetag" => service.hub.delete_identity(&id, &required()?),
        _ => Err(HubError::invalid(
            "importMode must be create, update, updateIfMatchETag, delete or deleteIfMatchETag",
        )),
    }
}
