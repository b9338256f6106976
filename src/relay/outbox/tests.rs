use std::pin::pin;

use futures_util::FutureExt as _;

use super::*;
use crate::domain::time::{Stamp, Timestamp};
use crate::domain::update::UpdateBody;
use crate::telemetry::Metrics;

const CONNECTION: ConnectionNumber = ConnectionNumber(1);

/// Longer than a test may take.
const WRITE_WAIT: Duration = Duration::from_hours(1);

async fn attached() -> Arc<SharedOutbox> {
    let limits = OutboxLimits {
        frames_max: 10,
        bytes_max: 10_000,
        replay_frames_max: 10,
        replay_bytes_max: 10_000,
    };
    let outbox = SharedOutbox::new(Arc::new(limits), Metrics::new().relay);
    outbox.attach(CONNECTION).await;
    Arc::new(outbox)
}

fn push(outbox: &SharedOutbox, connected: bool) {
    let stamp = Stamp {
        timestamp: Timestamp::UnixMs(1),
        received_unix_ms: 1,
    };
    let device = DeviceId::new("d1").unwrap();
    let update = Update::new(device, stamp, UpdateBody::ConnectionState(connected));
    outbox.push(Arc::new(update));
}

fn take(outbox: &Arc<SharedOutbox>) -> Batch {
    let mut context = Context::from_waker(Waker::noop());
    match outbox.poll_next(CONNECTION, Takes::BytesMax(1), &mut context) {
        Poll::Ready(Next::Updates(batch)) => batch,
        other => panic!("no updates: {other:?}"),
    }
}

#[tokio::test]
async fn a_revocation_waits_for_the_write_that_is_under_way_and_for_none_that_follows() {
    let outbox = attached().await;
    push(&outbox, true);
    push(&outbox, false);
    let first = take(&outbox);
    let mut settle = pin!(outbox.settle(WRITE_WAIT));
    assert!(settle.as_mut().now_or_never().is_none());
    drop(first);
    // A connection that is behind takes more as soon as it has written.
    let second = take(&outbox);
    assert!(settle.now_or_never().is_some());
    let mut settle = pin!(outbox.settle(WRITE_WAIT));
    assert!(settle.as_mut().now_or_never().is_none());
    drop(second);
    assert!(settle.now_or_never().is_some());
}
