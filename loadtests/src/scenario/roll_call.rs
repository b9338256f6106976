//! The proof that quiet clients are still served: one message of each device, which everybody must get.

use super::Options;
use crate::audience::Audience;
use crate::contender::Running;
use crate::event_message::EventTemplate;
use crate::event_sender;
use crate::generator::{Feeder, Generator, Receiver, Task};
use crate::message::Body;
use crate::pace::Pace;
use crate::report::Pass;

/// Makes a generator that publishes nothing of its own accord.
pub(super) async fn listen(
    server: &dyn Running,
    audience: &Audience,
    receivers: Vec<Receiver>,
    options: &Options,
) -> anyhow::Result<Generator> {
    let feeder = match server.event_hub() {
        None => Some(Feeder::new(server.publisher().await?, audience.devices)?),
        Some(_) => None,
    };
    let task = Task {
        receivers,
        feeder,
        pace: Pace::InFlight(0),
        recipients: audience.recipients(),
        has_own_core: options.cores.generator().is_some(),
    };
    Generator::new(task, options.stop.clone())
}

/// Publishes one message of each device and adds what everybody got.
pub(super) async fn call(
    server: &dyn Running,
    audience: &Audience,
    generator: &mut Generator,
    options: &Options,
    pass: &mut Pass,
) -> anyhow::Result<()> {
    options.progress.tick("sending one message of each device");
    match server.event_hub() {
        None => generator.publish_once(audience.devices as u64)?,
        Some(event_hub) => {
            let message =
                |device| Ok(EventTemplate::new(device)?.message(Body::new().set(device, 1)));
            let messages: anyhow::Result<_> = (0..audience.devices).map(message).collect();
            event_sender::send_all(event_hub, messages?).await?;
        }
    }
    let expected = audience.expected(|_| 1);
    generator.drain(expected)?;
    let missing = (generator.receivers().iter())
        .map(|receiver| receiver.follower.missing(|_| 1))
        .sum();
    pass.deliveries(&generator.tally(), expected, missing);
    Ok(())
}
