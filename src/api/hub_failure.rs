//! How a call to a device that the IoT hub did not carry out is answered.
//!
//! The statuses are those of ux4iot: of a direct method whatever the hub said, of a patch some of it. What the hub says is
//! handed on where it is meant for callers; otherwise there is a text of ours, which says nothing of the inside. The
//! relay's own credentials are never the caller's fault, so 401 is not handed on.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::iot_hub::{Cause, HubError, Refusal};

/// What ux4iot says when the hub fails.
pub(super) const HUB_FAILED: &str = "IoTHub Response: error";

/// What is said when calls are refused before the hub would.
pub(super) const THROTTLED: &str = "Too many calls to the IoT hub, try again later";

/// What is said of a request that the hub does not take, when it says nothing itself.
const NOT_ACCEPTED: &str = "The IoT hub does not accept the request";

/// After how many seconds one of many calls under way may have ended.
const PLACE_RETRY_AFTER_S: u64 = 1;

/// The answer to a direct method that failed: the hub's status.
pub(super) fn of_method(error: HubError) -> Response {
    match error {
        HubError::Refused(refusal) => {
            let status = match refusal.status {
                401 => StatusCode::INTERNAL_SERVER_ERROR,
                400..=599 => {
                    StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY)
                }
                _ => StatusCode::BAD_GATEWAY,
            };
            refused(status, refusal)
        }
        other => not_answered(&other, StatusCode::BAD_GATEWAY),
    }
}

/// The answer to a patch that failed: the hub's status where the caller can do something about it, 500 otherwise.
pub(super) fn of_patch(error: HubError) -> Response {
    match error {
        HubError::Refused(refusal) => {
            let status = match refusal.status {
                status @ (400 | 404 | 412 | 413 | 429) => StatusCode::from_u16(status),
                _ => Ok(StatusCode::INTERNAL_SERVER_ERROR),
            };
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            refused(status, refusal)
        }
        other => not_answered(&other, StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn refused(status: StatusCode, refusal: Refusal) -> Response {
    let Refusal {
        cause,
        body,
        retry_after_s,
        ..
    } = refusal;
    // A device that does not answer is the one failure behind the hub that callers are told about.
    let is_for_callers = status.is_client_error() || status == StatusCode::GATEWAY_TIMEOUT;
    let body = body.filter(|_| is_for_callers);
    let text = match cause {
        _ if !is_for_callers => HUB_FAILED,
        Cause::NoSuchDevice => "Device not found",
        Cause::DeviceOffline => "Device is not connected",
        Cause::DeviceSilent => "Device did not answer in time",
        Cause::Invalid => NOT_ACCEPTED,
        Cause::EtagMismatch => "The twin was changed by somebody else",
        Cause::Throttled => THROTTLED,
        Cause::Credentials | Cause::HubFailure => HUB_FAILED,
    };
    let text = body.unwrap_or_else(|| text.to_owned());
    let retry_after_s = retry_after_s.filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
    plain(status, text, retry_after_s)
}

fn not_answered(error: &HubError, unanswered: StatusCode) -> Response {
    let (status, text, retry_after_s) = match *error {
        HubError::ImpossibleId => (StatusCode::NOT_FOUND, "Device not found", None),
        HubError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, NOT_ACCEPTED, None),
        HubError::OverBudget { retry_after_s } => (
            StatusCode::TOO_MANY_REQUESTS,
            THROTTLED,
            Some(retry_after_s),
        ),
        HubError::TooManyCalls => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many calls wait for the IoT hub's answer, try again later",
            Some(PLACE_RETRY_AFTER_S),
        ),
        HubError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "Shutting down", None),
        HubError::Unreachable | HubError::NoAnswer | HubError::Refused(_) => {
            (unanswered, HUB_FAILED, None)
        }
    };
    plain(status, text.to_owned(), retry_after_s)
}

fn plain(status: StatusCode, text: String, retry_after_s: Option<u64>) -> Response {
    let mut response = (status, text).into_response();
    if let Some(seconds) = retry_after_s {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    const SAID: &str = r#"{"Message":"ErrorCode:X;what the hub says"}"#;

    fn refusal(status: u16, cause: Cause, body: Option<&str>) -> HubError {
        HubError::Refused(Refusal {
            status,
            cause,
            body: body.map(str::to_owned),
            retry_after_s: Some(7),
        })
    }

    async fn seen(response: Response) -> (u16, String, Option<String>) {
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (
            status,
            String::from_utf8(body.to_vec()).unwrap(),
            retry_after,
        )
    }

    #[tokio::test]
    async fn a_method_hands_on_the_hubs_status_and_what_it_says_to_callers() {
        for (status, cause) in [
            (400, Cause::Invalid),
            (403, Cause::Credentials),
            (404, Cause::DeviceOffline),
            (413, Cause::Invalid),
            (504, Cause::DeviceSilent),
        ] {
            let answer = seen(of_method(refusal(status, cause, Some(SAID)))).await;
            assert_eq!(answer, (status, SAID.to_owned(), None));
        }
        let throttled = refusal(429, Cause::Throttled, Some(SAID));
        let answer = seen(of_method(throttled)).await;
        assert_eq!(answer, (429, SAID.to_owned(), Some("7".to_owned())));
    }

    #[tokio::test]
    async fn the_relays_own_credentials_and_the_hubs_failures_are_not_shown() {
        for (status, shown, cause) in [
            (401, 500, Cause::Credentials),
            (500, 500, Cause::HubFailure),
            (502, 502, Cause::HubFailure),
            (503, 503, Cause::HubFailure),
            (302, 502, Cause::HubFailure),
        ] {
            let answer = seen(of_method(refusal(status, cause, Some(SAID)))).await;
            assert_eq!(answer, (shown, HUB_FAILED.to_owned(), None), "{status}");
        }
    }

    #[tokio::test]
    async fn without_a_word_of_the_hubs_there_is_one_of_ours() {
        let offline = seen(of_method(refusal(404, Cause::DeviceOffline, None))).await;
        assert_eq!(offline.1, "Device is not connected");
        let unknown = seen(of_method(refusal(404, Cause::NoSuchDevice, None))).await;
        assert_eq!(unknown.1, "Device not found");
        let silent = seen(of_method(refusal(504, Cause::DeviceSilent, None))).await;
        assert_eq!(silent.1, "Device did not answer in time");
    }

    #[tokio::test]
    async fn a_patch_hands_on_what_its_caller_can_change() {
        for status in [400, 404, 412, 413, 429] {
            let answer = seen(of_patch(refusal(status, Cause::Invalid, Some(SAID)))).await;
            assert_eq!((answer.0, &*answer.1), (status, SAID));
        }
        for status in [302, 401, 403, 409, 500, 502, 503, 504] {
            let answer = seen(of_patch(refusal(status, Cause::HubFailure, Some(SAID)))).await;
            assert_eq!((answer.0, &*answer.1), (500, HUB_FAILED), "{status}");
        }
    }

    #[tokio::test]
    async fn what_the_hub_did_not_answer_has_a_status_of_its_own() {
        for error in [HubError::Unreachable, HubError::NoAnswer] {
            let answer = seen(of_method(error.clone())).await;
            assert_eq!(answer, (502, HUB_FAILED.to_owned(), None));
            let answer = seen(of_patch(error)).await;
            assert_eq!(answer, (500, HUB_FAILED.to_owned(), None));
        }
        let answer = seen(of_patch(HubError::OverBudget { retry_after_s: 3 })).await;
        assert_eq!((answer.0, answer.2.as_deref()), (429, Some("3")));
        let answer = seen(of_method(HubError::TooManyCalls)).await;
        assert_eq!((answer.0, answer.2.as_deref()), (429, Some("1")));
        assert_eq!(seen(of_method(HubError::ImpossibleId)).await.0, 404);
        assert_eq!(seen(of_method(HubError::TooLarge)).await.0, 413);
        assert_eq!(seen(of_patch(HubError::TooLarge)).await.0, 413);
        assert_eq!(seen(of_method(HubError::Stopping)).await.0, 503);
    }
}
