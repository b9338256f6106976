//! What native clients are told of subscriptions that they do not get, whatever they are connected by.

use relay_protocol::native::ErrorCode;

use crate::domain::session::SubscribeRefusal;

/// The code of a refusal, and a text for people.
pub(super) fn why_refused(refusal: SubscribeRefusal) -> (ErrorCode, &'static str) {
    match refusal {
        SubscribeRefusal::NotGranted => (ErrorCode::NotGranted, "no grant covers it"),
        SubscribeRefusal::TooMany => (
            ErrorCode::TooManySubscriptions,
            "the session would have too many subscriptions",
        ),
        SubscribeRefusal::TooManyDeliveries => (
            ErrorCode::TooManyDeliveries,
            "the device's telemetry would be delivered in too many different ways",
        ),
        SubscribeRefusal::TooManyPatterns => (
            ErrorCode::TooManyPatterns,
            "there would be too many patterns for the device",
        ),
    }
}
