//! The users: who they are, and what they may see. Both are where a backend of your own differs.

use std::collections::BTreeMap;

use aws_lc_rs::{constant_time, digest};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use relay_protocol::{DeviceId, Grant, GrantRequest};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::refusal::Refusal;

/// Everybody who may log in.
pub(crate) struct Users(Vec<User>);

/// One of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct User {
    name: String,
    #[serde(deserialize_with = "sha256")]
    token_sha256: [u8; digest::SHA256_OUTPUT_LEN],
    devices: BTreeMap<DeviceId, Vec<Right>>,
}

/// A kind of right on a device, named as in a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Right {
    Telemetry,
    DeviceTwin,
    ConnectionState,
    D2cMessages,
    DesiredProperties,
    Tags,
    DirectMethod,
}

impl Users {
    pub(crate) fn parse(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json).map(Self)
    }

    /// Who is it? YOUR OWN LOGIN GOES HERE: verify the session cookie or the `OpenID` Connect token of your users.
    ///
    /// Only hashes of tokens are stored. All of them are compared, in constant time.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<&User, Refusal> {
        let (scheme, token) = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .ok_or(Refusal::Unauthenticated)?;
        let presented = digest::digest(&digest::SHA256, token.as_bytes());
        let mut found = None;
        for user in &self.0 {
            let hash = &user.token_sha256;
            if constant_time::verify_slices_are_equal(presented.as_ref(), hash).is_ok() {
                found = Some(user);
            }
        }
        found
            .filter(|_| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or(Refusal::Unauthenticated)
    }
}

impl User {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What may they see? YOUR OWN RULES GO HERE.
    ///
    /// A module of a device is not the device, and nobody here has rights on one. Whoever asks for a part of a right that
    /// is theirs gets that part.
    pub(crate) fn is_allowed(&self, request: &GrantRequest) -> bool {
        if request.module_id.is_some() {
            return false;
        }
        let needed = match &request.grant {
            Grant::Telemetry { .. } => Right::Telemetry,
            Grant::DeviceTwin { .. } => Right::DeviceTwin,
            Grant::ConnectionState => Right::ConnectionState,
            Grant::D2cMessages => Right::D2cMessages,
            Grant::DesiredProperties { .. } => Right::DesiredProperties,
            Grant::Tags { .. } => Right::Tags,
            Grant::DirectMethod { .. } => Right::DirectMethod,
        };
        self.devices
            .get(&request.device_id)
            .is_some_and(|rights| rights.contains(&needed))
    }

    /// All of it.
    pub(crate) fn rights(&self) -> impl Iterator<Item = (&DeviceId, Right)> {
        self.devices
            .iter()
            .flat_map(|(device_id, rights)| rights.iter().map(move |right| (device_id, *right)))
    }
}

fn sha256<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let hex = String::deserialize(deserializer)?;
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    if hex.len() != 2 * hash.len() || !hex.is_ascii() {
        return Err(de::Error::custom("a SHA-256 has 64 hexadecimal digits"));
    }
    for (byte, place) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hex[place..place + 2], 16).map_err(de::Error::custom)?;
    }
    Ok(hash)
}
