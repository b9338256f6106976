//! What native clients are told of subscriptions that ended without their doing, whatever they are connected by.

use relay_protocol::ModuleId;
use relay_protocol::native::{Ended, Selector, Values};

use crate::domain::id::DeviceId;
use crate::domain::subscription::Subscription;
use crate::relay::{EndReason, EndedSubscription};

/// What tells a client of subscriptions that ended, by reason.
pub(super) fn ended_messages(ended: Vec<EndedSubscription>) -> Vec<Ended> {
    let mut messages = Vec::<Ended>::new();
    for EndedSubscription {
        device,
        subscription,
        reason,
    } in ended
    {
        let reason = match reason {
            EndReason::Revoked => relay_protocol::native::EndReason::Revoked,
            EndReason::Expired => relay_protocol::native::EndReason::Expired,
        };
        let place = messages.iter().position(|message| message.reason == reason);
        let place = place.unwrap_or_else(|| {
            messages.push(Ended {
                subscriptions: Vec::new(),
                reason,
            });
            messages.len() - 1
        });
        add(&mut messages[place].subscriptions, &device, &subscription);
    }
    messages
}

/// Adds a subscription to the selector before it, where that is possible, otherwise as a selector of its own.
fn add(selectors: &mut Vec<Selector>, device: &DeviceId, subscription: &Subscription) {
    let named = |keys: Vec<String>, patterns: Vec<String>| Values::Telemetry { keys, patterns };
    let values = match subscription {
        Subscription::Telemetry(None) => named(Vec::new(), Vec::new()),
        Subscription::Telemetry(Some(key)) => named(vec![key.as_str().to_owned()], Vec::new()),
        Subscription::TelemetryPattern(pattern) => {
            named(Vec::new(), vec![pattern.as_str().to_owned()])
        }
        Subscription::DeviceTwin => Values::DeviceTwin,
        Subscription::ConnectionState => Values::ConnectionState,
        Subscription::D2cMessages => Values::D2cMessages,
    };
    let is_named = |values: &Values| match values {
        Values::Telemetry { keys, patterns } => !keys.is_empty() || !patterns.is_empty(),
        _ => false,
    };
    let is_of_device = |selector: &Selector| {
        let module_id = selector.module_id.as_ref().map(ModuleId::as_str);
        selector.device_id.as_str() == device.as_str() && module_id == device.module()
    };
    let before = selectors
        .last_mut()
        .filter(|before| is_of_device(before) && is_named(&before.values));
    if let Some(before) = before
        && let (
            Values::Telemetry { keys, patterns },
            Values::Telemetry {
                keys: new_keys,
                patterns: new_patterns,
            },
        ) = (&mut before.values, &values)
        && is_named(&values)
    {
        keys.extend_from_slice(new_keys);
        patterns.extend_from_slice(new_patterns);
        return;
    }
    selectors.push(Selector {
        device_id: device.as_str().into(),
        module_id: device.module().map(Into::into),
        values,
    });
}
