//! Grant tokens, signed as a security backend does.

use std::time::Duration;

use devhub::clock::{Clock as _, SystemClock};
use jsonwebtoken::{EncodingKey, Header, encode};
use relay_protocol::Grant;
use relay_protocol::native::GrantToken;
use serde::Serialize;

use crate::contender::Wish;
use crate::message::{device_id, key_name};

/// What the relay under test and this program share. It opens nothing but a relay on a loopback address that ends with
/// this run.
pub(crate) const SECRET: &str = "loadtests-loadtests-loadtests-loadtests";

const LIFETIME: Duration = Duration::from_hours(1);

/// A grant on a device, as it stands in a token.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceGrant {
    pub(crate) device_id: String,
    #[serde(flatten)]
    pub(crate) grant: Grant,
}

impl DeviceGrant {
    /// Telemetry of a device: one key, or every key with `None`.
    pub(crate) fn telemetry(device_id: String, key: Option<&str>) -> Self {
        Self {
            device_id,
            grant: Grant::Telemetry {
                telemetry_key: key.map(str::to_owned),
            },
        }
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    exp: u64,
    hubrelay: Hubrelay<'a>,
}

#[derive(Serialize)]
struct Hubrelay<'a> {
    grants: &'a [DeviceGrant],
}

/// A token that grants these wishes and nothing else.
pub(crate) fn for_wishes(wishes: &[Wish]) -> anyhow::Result<GrantToken> {
    let grants: Vec<_> = wishes
        .iter()
        .map(|wish| {
            let key = wish.key.map(key_name);
            DeviceGrant::telemetry(device_id(wish.device), key.as_deref())
        })
        .collect();
    sign(&grants)
}

/// A token (HS256) with these grants.
pub(crate) fn sign(grants: &[DeviceGrant]) -> anyhow::Result<GrantToken> {
    let now = Duration::from_millis(u64::try_from(SystemClock.now_ms())?);
    let claims = Claims {
        exp: (now + LIFETIME).as_secs(),
        hubrelay: Hubrelay { grants },
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(encode(&Header::default(), &claims, &key)?.into())
}
