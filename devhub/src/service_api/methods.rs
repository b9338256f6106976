//! Direct methods of devices and modules. The payload is passed on as it stands, in both directions.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Service;
use super::refusal::MethodRefusal;
use super::request::{Named, WholeBody, json_type};
use crate::iot_hub::MethodCall;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MethodRequest {
    method_name: String,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
    #[serde(default = "default_response_timeout", alias = "timeoutInSeconds")]
    response_timeout_in_seconds: u64,
    #[serde(default)]
    connect_timeout_in_seconds: u64,
}

fn default_response_timeout() -> u64 {
    30
}

pub(super) async fn invoke(
    State(service): State<Service>,
    Named(id): Named,
    body: WholeBody,
) -> Result<Response, MethodRefusal> {
    let MethodRequest {
        method_name,
        payload,
        response_timeout_in_seconds,
        connect_timeout_in_seconds,
    } = body.object()?;
    let payload = payload.map_or_else(
        || Bytes::from_static(b"null"),
        |payload| Bytes::from(String::from(Box::<str>::from(payload))),
    );
    let call = MethodCall::new(
        method_name,
        payload,
        Duration::from_secs(response_timeout_in_seconds),
        Duration::from_secs(connect_timeout_in_seconds),
    )?;
    let answer = service.hub.invoke_method(&id, call).await?;
    let mut body = format!("{{\"status\":{},\"payload\":", answer.status).into_bytes();
    body.extend_from_slice(&answer.payload);
    body.push(b'}');
    Ok(([json_type()], body).into_response())
}
