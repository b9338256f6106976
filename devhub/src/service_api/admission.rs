//! What stands before every request: counting, faults, the API version, the token.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::sleep;

use super::Service;
use super::faults::Outcome;
use super::refusal::{self, Refusal};
use super::requests::Operation;
use crate::iot_hub::{ErrorCode, HubError};

/// What requests on one route and method are for.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) service: Service,
    pub(super) operation: Operation,
}

/// On a response that is not to be sent: the connection is closed instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropConnection;

#[derive(Deserialize)]
pub(super) struct ApiVersion {
    #[serde(rename = "api-version")]
    api_version: Option<String>,
}

pub(super) async fn admit(
    State(Admission { service, operation }): State<Admission>,
    query: Result<Query<ApiVersion>, QueryRejection>,
    request: Request,
    next: Next,
) -> Response {
    if operation != Operation::Control {
        service.requests.count(operation);
        let met = service.faults.meet();
        if !met.delay.is_zero() {
            sleep(met.delay).await;
        }
        match met.outcome {
            Outcome::Handle => {}
            Outcome::Answer {
                status,
                retry_after_s,
            } => return refusal::of_fault(status, retry_after_s),
            Outcome::Drop => {
                let mut response = Response::default();
                response.extensions_mut().insert(DropConnection);
                return response;
            }
        }
        let api_version = query.ok().and_then(|Query(query)| query.api_version);
        if api_version.is_none_or(|version| version.is_empty()) {
            let error = HubError::invalid("the query parameter api-version is missing");
            return Refusal::from(error).into_response();
        }
    }
    match authorize(&service, operation, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => Refusal::from(error).into_response(),
    }
}

fn authorize(service: &Service, operation: Operation, headers: &HeaderMap) -> Result<(), HubError> {
    let refuse = |message: String| HubError::new(ErrorCode::IotHubUnauthorized, message);
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| refuse("Unauthorized: there is no Authorization header".to_owned()))?;
    let rights = service
        .hub
        .service_rights(token)
        .map_err(|error| refuse(format!("Unauthorized: {error}")))?;
    let missing = operation
        .rights()
        .iter()
        .find(|right| !rights.contains(right));
    match missing {
        None => Ok(()),
        Some(right) => Err(refuse(format!("Unauthorized: the policy lacks {right:?}"))),
    }
}
