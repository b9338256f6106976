//! What the real service does not have: for tests that see devhub from outside. Asks for a token of `iothubowner`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Service;
use super::faults::ServiceFault;
use super::refusal::Refusal;
use super::request::WholeBody;
use super::requests::RequestCounts;
use crate::iot_hub::{HubError, Routes};

pub(super) async fn requests(State(service): State<Service>) -> Json<RequestCounts> {
    Json(service.requests.counts())
}

/// Replaces the fault that is on; `{}` switches it off.
pub(super) async fn faults(
    State(service): State<Service>,
    body: WholeBody,
) -> Result<StatusCode, Refusal> {
    let fault: ServiceFault = body.object()?;
    if fault
        .status
        .is_some_and(|status| !(400..600).contains(&status))
    {
        return Err(HubError::invalid("status must be from 400 to 599").into());
    }
    service.faults.set(fault);
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces the routes to the event hub; what is not named is on.
pub(super) async fn routes(
    State(service): State<Service>,
    body: WholeBody,
) -> Result<StatusCode, Refusal> {
    let routes: Routes = body.object()?;
    service.hub.set_routes(routes);
    Ok(StatusCode::NO_CONTENT)
}
