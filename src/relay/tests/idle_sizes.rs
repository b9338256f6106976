//! What an idle client costs, part by part. There are as many of each as there are clients, so growth is a decision.

use crate::domain::grant::DeviceGrants;
use crate::domain::session::Session;
use crate::domain::subscription::{DeviceSubscriptions, TelemetrySelection};
use crate::relay::Connection;
use crate::relay::outbox::SharedOutbox;
use crate::relay::sessions::SessionEntry;

#[test]
fn what_every_client_has_stays_small() {
    let budgets = [
        ("session", size_of::<Session>(), 104),
        ("session's entry", size_of::<SessionEntry>(), 64),
        ("grants of a device", size_of::<DeviceGrants>(), 80),
        (
            "subscriptions of a device",
            size_of::<DeviceSubscriptions>(),
            112,
        ),
        ("telemetry of a device", size_of::<TelemetrySelection>(), 80),
        ("outbox", size_of::<SharedOutbox>(), 216),
        ("connection", size_of::<Connection>(), 32),
    ];
    for (part, bytes, budget) in budgets {
        assert!(
            bytes <= budget,
            "{part}: {bytes} bytes, {budget} are allowed"
        );
    }
}
