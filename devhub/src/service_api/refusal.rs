//! Refusals as the real service writes them. It has two shapes of body; both have the text under `Message`, and the name of
//! the code stands in the header `iothub-errorcode`.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::iot_hub::{ErrorCode, HubError};

const ERROR_CODE: HeaderName = HeaderName::from_static("iothub-errorcode");

/// A refusal of anything but a direct method: the message begins with the code's name.
#[derive(Debug)]
pub(super) struct Refusal(HubError);

/// A refusal of a direct method: the message is a JSON text of its own, with the code's number.
#[derive(Debug)]
pub(super) struct MethodRefusal(HubError);

impl<E: Into<HubError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<HubError> for MethodRefusal {
    fn from(error: HubError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.0.code();
        let body = json!({
            "Message": format!("ErrorCode:{};{}", code.name(), self.0.message()),
            "ExceptionMessage": format!("Tracking ID:{}", tracking_id()),
        });
        respond(code, &body)
    }
}

impl IntoResponse for MethodRefusal {
    fn into_response(self) -> Response {
        let code = self.0.code();
        let waited = self.0.timeout().map(|timeout| {
            let seconds = timeout.as_secs();
            let (minutes, hours) = (seconds / 60, seconds / 3600);
            json!({ "timeout": format!("{hours:02}:{:02}:{:02}", minutes % 60, seconds % 60) })
        });
        let message = json!({
            "errorCode": code.number(),
            "trackingId": tracking_id(),
            "message": self.0.message(),
            "info": waited.unwrap_or_else(|| json!({})),
        });
        let body = json!({ "Message": message.to_string(), "ExceptionMessage": "" });
        respond(code, &body)
    }
}

/// The answer of a fault switch.
pub(super) fn of_fault(status: u16, retry_after_s: Option<u32>) -> Response {
    let code = match status {
        400 => ErrorCode::ArgumentInvalid,
        401 => ErrorCode::IotHubUnauthorized,
        403 => ErrorCode::IotHubQuotaExceeded,
        404 => ErrorCode::DeviceNotFound,
        412 => ErrorCode::PreconditionFailed,
        413 => ErrorCode::MessageTooLarge,
        429 => ErrorCode::ThrottlingException,
        502 => ErrorCode::BadDeviceResponse,
        503 => ErrorCode::ServiceUnavailable,
        504 => ErrorCode::GatewayTimeout,
        _ => ErrorCode::ServerError,
    };
    let refusal = Refusal(HubError::new(code, "a fault switch is on"));
    let mut response = refusal.into_response();
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = retry_after_s {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

pub(super) async fn not_found(request: Request) -> Refusal {
    Refusal(HubError::new(
        ErrorCode::GenericNotFound,
        format!("there is no {}", request.uri().path()),
    ))
}

pub(super) async fn method_not_allowed(request: Request) -> Refusal {
    Refusal(HubError::new(
        ErrorCode::GenericMethodNotAllowed,
        format!(
            "{} does not take {}",
            request.uri().path(),
            request.method()
        ),
    ))
}

fn respond(code: ErrorCode, body: &Value) -> Response {
    let status = StatusCode::from_u16(code.http_status()).expect("codes begin with a status");
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        ),
        (ERROR_CODE, HeaderValue::from_static(code.name())),
    ];
    (status, headers, body.to_string()).into_response()
}

fn tracking_id() -> String {
    format!("{}-G:0", Uuid::new_v4().simple())
}
