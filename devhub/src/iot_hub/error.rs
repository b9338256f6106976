//! What the hub refuses, by the codes of IoT Hub ("Troubleshoot error codes" in the Azure documentation).

use std::time::Duration;

use super::identity_id::InvalidId;

/// A code of IoT Hub. The first three digits of its number are the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// A value that is not allowed.
    ArgumentInvalid,
    /// No valid token, or one without the right.
    IotHubUnauthorized,
    /// The hub's daily quota of messages is used up; here only a fault switch says so.
    IotHubQuotaExceeded,
    /// The device's queue of messages is full.
    DeviceMaximumQueueDepthExceeded,
    /// The identity is disabled.
    DeviceDisabled,
    /// Too many calls of direct methods wait for one identity.
    DeviceMaximumInflightMethodExceeded,
    /// No such path.
    GenericNotFound,
    /// No such device.
    DeviceNotFound,
    /// No such module.
    ModuleNotFound,
    /// The identity is not connected, or does not listen for direct methods.
    DeviceNotOnline,
    /// The connection ended while a call was under way.
    DeviceConnectionClosedRemotely,
    /// The path has no such method.
    GenericMethodNotAllowed,
    /// There is such a device.
    DeviceAlreadyExists,
    /// There is such a module.
    ModuleAlreadyExistsOnDevice,
    /// The etag is another one.
    PreconditionFailed,
    /// A message was completed that is not locked by this connection.
    DeviceMessageLockLost,
    /// A body over its limit.
    MessageTooLarge,
    /// The registry is full.
    TooManyDevices,
    /// The device has as many modules as it may.
    TooManyModulesOnDevice,
    /// Too many requests.
    ThrottlingException,
    /// A fault of the hub.
    ServerError,
    /// The device's answer is not an answer.
    BadDeviceResponse,
    /// The hub is busy.
    ServiceUnavailable,
    /// The device did not answer in time.
    GatewayTimeout,
}

impl ErrorCode {
    /// The six digits.
    pub fn number(self) -> u32 {
        self.describe().0
    }

    /// The name, as in the header `iothub-errorcode`.
    pub fn name(self) -> &'static str {
        self.describe().1
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        u16::try_from(self.number() / 1000).expect("three digits")
    }

    fn describe(self) -> (u32, &'static str) {
        match self {
            Self::ArgumentInvalid => (400_004, "ArgumentInvalid"),
            Self::IotHubUnauthorized => (401_003, "IotHubUnauthorized"),
            Self::IotHubQuotaExceeded => (403_002, "IotHubQuotaExceeded"),
            Self::DeviceMaximumQueueDepthExceeded => (403_004, "DeviceMaximumQueueDepthExceeded"),
            Self::DeviceDisabled => (403_012, "DeviceDisabled"),
            Self::DeviceMaximumInflightMethodExceeded => {
                (403_800, "DeviceMaximumInflightMethodExceeded")
            }
            Self::GenericNotFound => (404_000, "GenericNotFound"),
            Self::DeviceNotFound => (404_001, "DeviceNotFound"),
            Self::ModuleNotFound => (404_010, "ModuleNotFound"),
            Self::DeviceNotOnline => (404_103, "DeviceNotOnline"),
            Self::DeviceConnectionClosedRemotely => (404_104, "DeviceConnectionClosedRemotely"),
            Self::GenericMethodNotAllowed => (405_000, "GenericMethodNotAllowed"),
            Self::DeviceAlreadyExists => (409_001, "DeviceAlreadyExists"),
            Self::ModuleAlreadyExistsOnDevice => (409_301, "ModuleAlreadyExistsOnDevice"),
            Self::PreconditionFailed => (412_001, "PreconditionFailed"),
            Self::DeviceMessageLockLost => (412_002, "DeviceMessageLockLost"),
            Self::MessageTooLarge => (413_001, "MessageTooLarge"),
            Self::TooManyDevices => (413_002, "TooManyDevices"),
            Self::TooManyModulesOnDevice => (413_003, "TooManyModulesOnDevice"),
            Self::ThrottlingException => (429_001, "ThrottlingException"),
            Self::ServerError => (500_001, "ServerError"),
            Self::BadDeviceResponse => (502_000, "BadDeviceResponse"),
            Self::ServiceUnavailable => (503_003, "ServiceUnavailable"),
            Self::GatewayTimeout => (504_101, "GatewayTimeout"),
        }
    }
}

/// A refusal: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}: {message}", code.number(), code.name())]
pub struct HubError {
    code: ErrorCode,
    message: String,
    timeout: Option<Duration>,
}

impl HubError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            timeout: None,
        }
    }

    /// Says how long was waited in vain.
    pub(crate) fn after(self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ArgumentInvalid, message)
    }

    /// What kind of refusal.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// How long was waited in vain, if waiting was what failed.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// What happened, for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<InvalidId> for HubError {
    fn from(invalid: InvalidId) -> Self {
        Self::invalid(invalid.to_string())
    }
}
