//! Last values that are there before the clients come.

use std::time::{Duration, Instant};

use anyhow::ensure;
use relay_protocol::native::{DeviceSnapshot, Hello, Selector};
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use crate::contender::Running as _;
use crate::contender::hubrelay::RunningRelay;
use crate::event_message;
use crate::event_sender;
use crate::feed;
use crate::grant_token::{self, DeviceGrant};
use crate::native_client::NativeClient;

const LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A message of some device.
#[derive(Clone, Debug)]
pub(crate) struct SeedMessage {
    pub(crate) device_id: String,
    pub(crate) body: Vec<u8>,
}

/// Sends messages of these devices and waits until the relay keeps so many last values of them.
pub(crate) async fn seed(
    relay: &RunningRelay,
    messages: Vec<SeedMessage>,
    devices: &[String],
    values: usize,
) -> anyhow::Result<()> {
    if let Some(event_hub) = relay.event_hub() {
        let encoded = messages
            .into_iter()
            .map(|message| event_message::encode(&message.device_id, message.body));
        event_sender::send_all(event_hub, encoded.collect::<anyhow::Result<_>>()?).await?;
    } else {
        let mut bytes = Vec::new();
        for message in &messages {
            feed::push_message(message.device_id.as_bytes(), &message.body, &mut bytes);
        }
        relay.publisher().await?.stream.write_all(&bytes).await?;
    }
    let grants: Vec<_> = devices
        .iter()
        .map(|device| DeviceGrant::telemetry(device.clone(), None))
        .collect();
    let hello = Hello {
        token: Some(grant_token::sign(&grants)?),
        ..Hello::default()
    };
    let mut witness = NativeClient::open(&relay.authority, hello).await?;
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
