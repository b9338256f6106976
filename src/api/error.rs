//! Every refusal of the REST API: its status and its text, in one place.
//!
//! The texts are part of the contract with ux4iot's clients, which hand them to the application as they are. A text for
//! a status of 500 and above says nothing of the inside.

use std::borrow::Cow;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::hub_failure;
use crate::grant_token::TokenError;
use crate::relay::{GrantError, NoSuchSession, SubscribeError};
use crate::telemetry::metrics::RequestRejection;

/// How a refused bearer token is answered (RFC 6750 §3.1).
const INVALID_TOKEN: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");

/// When a key set that could not be fetched has been tried again.
const KEYS_RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("10");

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// An administrative call without a key.
    KeyMissing,
    /// An administrative call with a key that is not one of the two.
    KeyWrong,
    /// A grant token that is refused.
    Token(TokenError),
    /// A read with neither a key nor a session.
    ReadCredentialMissing,
    /// A read with a wrong key.
    ReadKeyWrong,
    /// A read by a session that no grant allows it.
    ReadNotGranted,
    /// The session does not exist (any more).
    NoSuchSession,
    /// The body is not a grant request.
    UnknownGrantType,
    /// The grant needs the hub API, which is disabled.
    GrantUnavailable,
    /// The session has as many grants as it may have.
    TooManyGrants,
    /// The body is not a subscription request.
    UnknownSubscriptionType,
    /// The body is not a list of subscription requests.
    NotSubscriptionRequests,
    /// No grant covers the subscription.
    SubscriptionNotGranted,
    /// The session has as many subscriptions as it may have.
    TooManySubscriptions,
    /// The path names a device or telemetry key that no device message can have.
    NameTooLong,
    /// The module that the query names cannot be one, or is named more than once.
    WrongModuleId,
    /// The device never sent that telemetry key.
    NoLastTelemetry,
    /// Nothing is known of the device's connection state, and nobody can be asked.
    NoDevice,
    /// The connection state is not known here and the hub cannot be asked.
    ConnectionStateNeedsHub,
    /// The twin is not known here and the hub cannot be asked.
    DeviceTwinNeedsHub,
    /// The body is not a direct method call.
    MalformedDirectMethod,
    /// The body is not a patch of desired properties.
    MalformedDesiredProperties,
    /// The body is not a patch of tags.
    MalformedTags,
    /// A call to a device needs the hub API, which is disabled.
    HubApiDisabled,
    /// No grant of the session allows the call to a device.
    CallNotGranted,
    /// The hub knows no such device, so there is no twin.
    NoDeviceTwin,
    /// The hub could not be asked, or gave no usable answer.
    HubFailed,
    /// The hub is asked too much.
    HubThrottled {
        /// When it may be tried again.
        retry_after_s: u64,
    },
    /// There is no such log level.
    UnknownLogLevel,
    /// One address creates sessions too fast.
    TooManySessionRequests {
        /// When it may try again.
        retry_after_s: u64,
    },
    /// There are as many sessions as there may be.
    TooManySessions,
    /// The body is longer than allowed.
    BodyTooLarge {
        /// Longest body that is read.
        bytes_max: usize,
    },
    /// The body did not arrive in time.
    BodyTimedOut,
    /// The body ended early or is not framed as HTTP wants it.
    BodyUnreadable,
    /// There is nothing at the path.
    NotFound,
    /// The path does not take the method.
    MethodNotAllowed,
}

impl Error {
    fn status(self) -> StatusCode {
        match self {
            Self::TooManySessions | Self::Token(TokenError::KeysUnavailable) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::KeyMissing | Self::KeyWrong | Self::Token(_) | Self::ReadCredentialMissing => {
                StatusCode::UNAUTHORIZED
            }
            Self::ReadKeyWrong
            | Self::ReadNotGranted
            | Self::SubscriptionNotGranted
            | Self::CallNotGranted => StatusCode::FORBIDDEN,
            Self::HubFailed => StatusCode::BAD_GATEWAY,
            Self::UnknownGrantType
            | Self::GrantUnavailable
            | Self::UnknownSubscriptionType
            | Self::NotSubscriptionRequests
            | Self::NameTooLong
            | Self::WrongModuleId
            | Self::ConnectionStateNeedsHub
            | Self::DeviceTwinNeedsHub
            | Self::MalformedDirectMethod
            | Self::MalformedDesiredProperties
            | Self::MalformedTags
            | Self::HubApiDisabled
            | Self::UnknownLogLevel
            | Self::BodyUnreadable => StatusCode::BAD_REQUEST,
            Self::NoSuchSession
            | Self::NoLastTelemetry
            | Self::NoDevice
            | Self::NoDeviceTwin
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyGrants
            | Self::TooManySubscriptions
            | Self::TooManySessionRequests { .. }
            | Self::HubThrottled { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn text(self) -> Cow<'static, str> {
        let text = match self {
            Self::KeyMissing => "Unauthorized: missing shared-access-key",
            Self::KeyWrong => "Unauthorized: invalid shared-access-key",
            Self::Token(error @ TokenError::KeysUnavailable) => return error.to_string().into(),
            Self::Token(error) => return format!("Unauthorized: {error}").into(),
            Self::ReadCredentialMissing => {
                "Provide either a Shared-Access-Key or a sessionId header"
            }
            Self::ReadKeyWrong => {
                "Forbidden to read last value of device: invalid shared-access-key"
            }
            Self::ReadNotGranted => "Forbidden to read last value of device: missing grant",
            Self::NoSuchSession => "No such sessionId",
            Self::UnknownGrantType => "unknown grant type",
            Self::GrantUnavailable => "Grant unavailable",
            Self::TooManyGrants => "Too many grants in this session",
            Self::UnknownSubscriptionType => "unknown subscription type",
            Self::NotSubscriptionRequests => {
                "Not all elements in the request body are subscription requests"
            }
            Self::SubscriptionNotGranted => "subscription request not granted",
            Self::TooManySubscriptions => "Too many subscriptions in this session",
            Self::NameTooLong => "The deviceId or telemetryKey in the path is empty or too long",
            Self::WrongModuleId => {
                "The query member moduleId is not a moduleId of 1 to 128 bytes, or there more than once"
            }
            Self::NoLastTelemetry => "No last telemetry found",
            Self::NoDevice => "No device found",
            Self::ConnectionStateNeedsHub => "IoT Hub API disabled, cannot read connection state",
            Self::DeviceTwinNeedsHub => "IoT Hub API disabled, cannot read device twin",
            Self::MalformedDirectMethod => "Malformed direct method request",
            Self::MalformedDesiredProperties => "Malformed desired properties request",
            Self::MalformedTags => "Malformed tags request",
            Self::CallNotGranted => "Forbidden",
            Self::NoDeviceTwin => "No last devicetwin found",
            Self::HubFailed => hub_failure::HUB_FAILED,
            Self::HubThrottled { .. } => hub_failure::THROTTLED,
            Self::HubApiDisabled => "IoT Hub API disabled, cannot invoke direct method",
            Self::UnknownLogLevel => "Unknown log level",
            Self::TooManySessionRequests { .. } => "Too many sessions created, try again later",
            Self::TooManySessions => "Too many sessions",
            Self::BodyTooLarge { bytes_max } => {
                return format!("Request body is longer than {bytes_max} bytes").into();
            }
            Self::BodyTimedOut => "Request body did not arrive in time",
            Self::BodyUnreadable => "Request body could not be read",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
        };
        text.into()
    }

    /// Under which reason a request counts that was refused for what it is rather than for what it asks.
    pub(super) fn rejection(self) -> Option<RequestRejection> {
        match self {
            Self::KeyMissing
            | Self::KeyWrong
            | Self::Token(_)
            | Self::ReadCredentialMissing
            | Self::ReadKeyWrong => Some(RequestRejection::Unauthorized),
            Self::UnknownGrantType
            | Self::UnknownSubscriptionType
            | Self::NotSubscriptionRequests
            | Self::NameTooLong
            | Self::WrongModuleId
            | Self::MalformedDirectMethod
            | Self::MalformedDesiredProperties
            | Self::MalformedTags
            | Self::BodyUnreadable => Some(RequestRejection::Malformed),
            Self::BodyTooLarge { .. } => Some(RequestRejection::BodyTooLarge),
            Self::BodyTimedOut => Some(RequestRejection::Timeout),
            Self::ReadNotGranted
            | Self::NoSuchSession
            | Self::GrantUnavailable
            | Self::TooManyGrants
            | Self::SubscriptionNotGranted
            | Self::TooManySubscriptions
            | Self::NoLastTelemetry
            | Self::NoDevice
            | Self::ConnectionStateNeedsHub
            | Self::DeviceTwinNeedsHub
            | Self::HubApiDisabled
            | Self::CallNotGranted
            | Self::NoDeviceTwin
            | Self::HubFailed
            | Self::HubThrottled { .. }
            | Self::UnknownLogLevel
            | Self::TooManySessionRequests { .. }
            | Self::TooManySessions
            | Self::NotFound
            | Self::MethodNotAllowed => None,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.text()).into_response();
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        match self {
            Self::TooManySessionRequests { retry_after_s }
            | Self::HubThrottled { retry_after_s } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            Self::Token(TokenError::KeysUnavailable) => {
                headers.insert(RETRY_AFTER, KEYS_RETRY_AFTER_S);
            }
            Self::Token(_) => {
                headers.insert(WWW_AUTHENTICATE, INVALID_TOKEN);
            }
            _ => {}
        }
        response
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<NoSuchSession> for Error {
    fn from(NoSuchSession: NoSuchSession) -> Self {
        Self::NoSuchSession
    }
}

impl From<GrantError> for Error {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::NoSuchSession(NoSuchSession) => Self::NoSuchSession,
            GrantError::TooMany => Self::TooManyGrants,
        }
    }
}

impl From<SubscribeError> for Error {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::NoSuchSession(NoSuchSession) => Self::NoSuchSession,
            SubscribeError::NotGranted => Self::SubscriptionNotGranted,
            SubscribeError::TooMany => Self::TooManySubscriptions,
        }
    }
}
