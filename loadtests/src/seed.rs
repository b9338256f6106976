//! Last values that are there before the clients come.

use std::time::{Duration, Instant};

use anyhow::ensure;
use relay_protocol::native::{DeviceSnapshot, Hello, Selector};
use tokio::time::sleep;

use crate::event_sender;
use crate::grant_token::{self, DeviceGrant};
use crate::native_client::NativeClient;
use crate::servers::Servers;

const LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Sends encoded messages of these devices and waits until the relay keeps so many last values of them.
pub(crate) async fn seed(
    servers: &Servers,
    messages: Vec<Vec<u8>>,
    devices: &[String],
    values: usize,
) -> anyhow::Result<()> {
    event_sender::send_all(&servers.event_hub, messages).await?;
    let grants: Vec<_> = devices
        .iter()
        .map(|device| DeviceGrant::telemetry(device.clone(), None))
        .collect();
    let hello = Hello {
        token: Some(grant_token::sign(&grants)?),
        ..Hello::default()
    };
    let mut witness = NativeClient::open(&servers.authority, hello, READ_BUFFER_BYTES).await?;
    let of: Vec<_> = devices
        .iter()
        .map(|device| Selector::telemetry(device.as_str(), [""; 0]))
        .collect();
    let begun = Instant::now();
    while telemetry_values(&witness.last_values(of.clone()).await?) < values {
        ensure!(
            begun.elapsed() < LIMIT,
            "the relay does not have all values after {LIMIT:?}"
        );
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// How many telemetry values a snapshot holds.
pub(crate) fn telemetry_values(snapshot: &[DeviceSnapshot]) -> usize {
    snapshot.iter().map(|device| device.telemetry.len()).sum()
}
