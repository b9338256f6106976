//! The service REST API of the IoT hub: registry, twins, queries and direct methods, as back ends and Microsoft's service
//! SDKs use them; and beside it `/devhub`, by which tests read what was asked and switch faults on.
//!
//! Every request is counted, may be met by a fault, must name an `api-version`, and must carry a token of a policy that has
//! the right for it, in this order. See "Azure IoT Hub service REST API" in the Azure documentation.

mod admission;
mod bulk;
mod control;
pub(crate) mod faults;
mod identity_json;
mod listener;
mod methods;
mod query;
mod refusal;
mod registry;
mod request;
mod requests;
mod twins;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, any, delete, get, patch, post, put};

pub use self::faults::ServiceFault;
pub(crate) use self::listener::serve;
pub use self::requests::{Operation, RequestCounts};

use self::admission::{Admission, admit};
use self::faults::ServiceFaults;
use self::requests::Requests;
use crate::iot_hub::IotHub;

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) hub: IotHub,
    pub(crate) faults: Arc<ServiceFaults>,
    pub(crate) requests: Arc<Requests>,
}

impl Service {
    pub(crate) fn new(hub: IotHub) -> Self {
        Self {
            hub,
            faults: Arc::default(),
            requests: Arc::default(),
        }
    }

    fn router(&self) -> Router {
        use Operation as Op;

        let on = |operation, method: MethodRouter<Self>| {
            let admission = Admission {
                service: self.clone(),
                operation,
            };
            method.layer(from_fn_with_state(admission, admit))
        };
        let identity = || {
            on(Op::ReadRegistry, get(registry::read))
                .merge(on(Op::WriteRegistry, put(registry::put)))
                .merge(on(Op::WriteRegistry, delete(registry::delete)))
        };
        let twin = || {
            on(Op::ReadTwin, get(twins::read))
                .merge(on(Op::UpdateTwin, patch(twins::update)))
                .merge(on(Op::ReplaceTwin, put(twins::replace)))
        };
        let devices = || {
            on(Op::ReadRegistry, get(registry::devices))
                .merge(on(Op::WriteRegistry, post(bulk::apply)))
        };
        let method = || on(Op::InvokeMethod, post(methods::invoke));
        Router::new()
            .route("/devices", devices())
            .route("/devices/", devices())
            .route("/devices/query", on(Op::Query, post(query::run)))
            .route("/devices/{device}", identity())
            .route(
                "/devices/{device}/modules",
                on(Op::ReadRegistry, get(registry::modules)),
            )
            .route("/devices/{device}/modules/{module}", identity())
            .route(
                "/statistics/devices",
                on(Op::ReadRegistry, get(registry::device_statistics)),
            )
            .route(
                "/statistics/service",
                on(Op::ReadRegistry, get(registry::service_statistics)),
            )
            .route("/twins/{device}", twin())
            .route("/twins/{device}/modules/{module}", twin())
            .route("/twins/{device}/methods", method())
            .route("/twins/{device}/modules/{module}/methods", method())
            .route("/devhub/requests", on(Op::Control, get(control::requests)))
            .route("/devhub/faults", on(Op::Control, put(control::faults)))
            .route("/devhub/routes", on(Op::Control, put(control::routes)))
            .method_not_allowed_fallback(refusal::method_not_allowed)
            .fallback(any(refusal::not_found))
            .with_state(self.clone())
    }
}
