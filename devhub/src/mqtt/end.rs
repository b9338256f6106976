//! Why a connection ends. Only who is refused a connection is told (MQTT 3.1.1 has no DISCONNECT from
//! servers), so the reasons are logged.

use rumqttc::mqttbytes::{QoS, v4::ConnectReturnCode};

use super::{credentials, packets, topic};
use crate::iot_hub::{AuthError, EndReason, HubError};

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// By DISCONNECT, which takes the will back.
    #[error("the client disconnected")]
    Disconnected,
    /// Without a word.
    #[error("the client closed the connection")]
    Closed,
    /// One and a half keep-alive intervals without a packet (MQTT 3.1.1 §3.1.2.10).
    #[error("the client was not heard within its keep-alive interval")]
    Silent,
    /// No CONNECT in time.
    #[error("the client did not connect in time")]
    NoConnect,
    /// Nothing more can be written.
    #[error("the client does not read")]
    Stuck,
    /// The token that the client connected with ran out.
    #[error("the client's token is expired")]
    TokenExpired,
    /// devhub stops.
    #[error("devhub stops")]
    Stopped,
    /// The hub ended it.
    #[error("the hub ended the connection: {0:?}")]
    ByHub(EndReason),
    /// No CONNACK, or one with a code.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Bytes that are no packets of a client.
    #[error(transparent)]
    Packet(#[from] packets::Error),
    /// A packet that is valid, but not here.
    #[error("a packet that the protocol does not allow here: {0}")]
    Protocol(&'static str),
    /// IoT Hub does not support everything.
    #[error("quality of service {} is not supported", *.0 as u8)]
    QualityOfService(QoS),
    /// A topic that means nothing.
    #[error("publish: {0}")]
    Topic(#[from] topic::Error),
    /// A message that the hub does not take.
    #[error("the hub refuses a message: {0}")]
    Message(HubError),
}

impl End {
    /// Whether a client that is written correctly would not have come to it.
    pub(super) fn is_fault_of_client(&self) -> bool {
        match self {
            Self::Disconnected | Self::Closed | Self::Silent | Self::Stopped | Self::ByHub(_) => {
                false
            }
            Self::Packet(error) => !matches!(error, packets::Error::Io(_)),
            Self::NoConnect
            | Self::Stuck
            | Self::TokenExpired
            | Self::Refused(_)
            | Self::Protocol(_)
            | Self::QualityOfService(_)
            | Self::Topic(_)
            | Self::Message(_) => true,
        }
    }
}

/// Why a client may not connect.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// What it says about itself makes no sense.
    #[error(transparent)]
    Claim(#[from] credentials::Error),
    /// A will goes where telemetry goes, or nowhere.
    #[error("the will: {0}")]
    Will(topic::Error),
    /// The same for its quality of service, and for what is neither.
    #[error("the will is not a device-to-cloud message of quality of service 0 or 1")]
    NoTelemetry,
    /// Unknown, disabled, or unproven.
    #[error(transparent)]
    Credential(#[from] AuthError),
    /// The hub has no place for it.
    #[error(transparent)]
    Hub(#[from] HubError),
}

impl Refusal {
    /// How the client is told.
    pub(super) fn return_code(&self) -> ConnectReturnCode {
        match self {
            Self::Claim(error) => error.return_code(),
            Self::Will(_) | Self::NoTelemetry | Self::Credential(_) => {
                ConnectReturnCode::NotAuthorized
            }
            Self::Hub(_) => ConnectReturnCode::ServiceUnavailable,
        }
    }
}
