//! The hub's shared access policies: the five that every IoT hub starts with, with their rights and keys. See "Control
//! access to IoT Hub by using shared access signatures" in the Azure documentation.

use std::time::Duration;

use crate::sas::{self, SharedAccessKey, Token};

/// What a policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Reading the identity registry.
    RegistryRead,
    /// Changing the identity registry.
    RegistryWrite,
    /// What a service does: twins, queries, direct methods, messages.
    ServiceConnect,
    /// What a device does.
    DeviceConnect,
}

/// The policy with all rights.
pub const OWNER_POLICY: &str = "iothubowner";

const POLICIES: [(&str, &[Right]); 5] = [
    (
        OWNER_POLICY,
        &[
            Right::RegistryRead,
            Right::RegistryWrite,
            Right::ServiceConnect,
            Right::DeviceConnect,
        ],
    ),
    ("service", &[Right::ServiceConnect]),
    ("device", &[Right::DeviceConnect]),
    ("registryRead", &[Right::RegistryRead]),
    (
        "registryReadWrite",
        &[Right::RegistryRead, Right::RegistryWrite],
    ),
];

/// The policies of one hub. Their keys all come from one, so that there is one secret to keep.
#[derive(Clone, Debug)]
pub(super) struct AccessPolicies {
    key: SharedAccessKey,
}

impl AccessPolicies {
    pub(super) fn new(key: SharedAccessKey) -> Self {
        Self { key }
    }

    /// The key of a policy; `None` if there is no such policy.
    pub(super) fn key(&self, name: &str) -> Option<SharedAccessKey> {
        let (name, _) = POLICIES.iter().find(|(own, _)| *own == name)?;
        Some(self.key.derive(&format!("policy/{name}")))
    }

    /// What a token signed by a policy allows, and when it lapses.
    pub(super) fn verify(
        &self,
        token: &Token<'_>,
        now: Duration,
    ) -> Result<(&'static [Right], Duration), sas::Error> {
        let named = token.policy().ok_or(sas::Error::UnknownPolicy)?;
        let (name, rights) = POLICIES
            .iter()
            .find(|(name, _)| *name == named)
            .ok_or(sas::Error::UnknownPolicy)?;
        let key = self.key(name).expect("the policy was just found");
        let expires = token.verify_for_iot_hub(&key, now)?;
        Ok((rights, expires))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);
    const LATER: Duration = Duration::from_secs(2_000);

    fn policies() -> AccessPolicies {
        AccessPolicies::new(SharedAccessKey::new("c2VjcmV0"))
    }

    #[test]
    fn a_token_has_the_rights_of_its_policy_alone() {
        let policies = policies();
        let verified = |signer: &str, named: &str| {
            let key = policies.key(signer).unwrap();
            let token = sas::sign_for_iot_hub("h", Some(named), &key, LATER).unwrap();
            policies.verify(&Token::parse(&token).unwrap(), NOW)
        };
        assert_eq!(
            verified("service", "service"),
            Ok((&[Right::ServiceConnect][..], LATER))
        );
        assert_eq!(
            verified("service", OWNER_POLICY),
            Err(sas::Error::InvalidSignature)
        );
        assert_eq!(verified("service", "root"), Err(sas::Error::UnknownPolicy));
        assert_eq!(policies.key("root"), None);
    }

    #[test]
    fn keys_are_the_same_again_for_the_same_secret() {
        assert_eq!(policies().key("service"), policies().key("service"));
        assert_ne!(policies().key("service"), policies().key("device"));
    }
}
