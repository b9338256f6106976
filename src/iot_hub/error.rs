//! Why a call to the IoT hub did not succeed.

use super::refusal::Refusal;
use crate::telemetry::metrics::HubCallOutcome;

/// Why a call to the IoT hub did not succeed. Says nothing of the hub's address, the relay's credentials or the inside
/// of either; that is in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The hub refused it, or failed.
    #[error("the IoT hub answers with status {}", .0.status)]
    Refused(Refusal),
    /// No device of a hub can have such an id.
    #[error("there is no such device")]
    ImpossibleId,
    /// Not passed on: it is larger than anything that the hub takes.
    #[error("the request is too large for the IoT hub")]
    TooLarge,
    /// The hub cannot be reached, or is not trusted. It certainly did not get the call.
    #[error("the IoT hub cannot be reached")]
    Unreachable,
    /// The hub may have got the call, and gave no answer that can be understood.
    #[error("the IoT hub gives no answer")]
    NoAnswer,
    /// Not passed on: as many calls were made as the hub takes.
    #[error("too many calls to the IoT hub")]
    OverBudget {
        /// Whole seconds after which it is worth another try.
        retry_after_s: u64,
    },
    /// Not passed on: as many calls wait for an answer as may.
    #[error("too many calls to the IoT hub wait for an answer")]
    TooManyCalls,
    /// The relay stops. The hub may have got the call.
    #[error("the relay stops")]
    Stopping,
}

impl HubError {
    /// Under which outcome it counts.
    pub(super) fn outcome(&self) -> HubCallOutcome {
        match self {
            Self::Refused(refusal) => refusal.cause.outcome(),
            Self::ImpossibleId => HubCallOutcome::NoSuchDevice,
            Self::TooLarge => HubCallOutcome::Invalid,
            Self::Unreachable => HubCallOutcome::Unreachable,
            Self::NoAnswer => HubCallOutcome::NoAnswer,
            Self::OverBudget { .. } => HubCallOutcome::OverBudget,
            Self::TooManyCalls => HubCallOutcome::TooMany,
            Self::Stopping => HubCallOutcome::Stopped,
        }
    }
}
