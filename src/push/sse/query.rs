//! What the query of `GET /events` asks for.
//!
//! Members are named after the kind of subscription and may be there many times: `telemetry=d1/temperature` for one key
//! (which may hold slashes), `telemetry=d1` for every key, `connectionState=d1`, `deviceTwin=d1`, `d2cMessages=d1`.
//! With `moduleId=m1` all of them are about that module of their device. Members are encoded as HTML forms encode them:
//! `+` is a blank. Members that nobody knows are ignored.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::domain::id::{DeviceId, SessionId, TelemetryKey};
use crate::domain::subscription::{Delivery, Subscription};
use crate::relay::{Resume, Wanted};

/// Most subscriptions that one request may ask for.
const WANTED_MAX: usize = 10_000;

/// What a request asks for.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// The session that it names.
    pub(super) session_id: Option<String>,
    /// The grant token that it brings.
    pub(super) token: Option<String>,
    /// Where its client says it was.
    pub(super) last_event_id: Option<String>,
    /// What its client wants to see.
    pub(super) wanted: Vec<Wanted>,
}

/// What a query cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    #[error("The query is not valid UTF-8 after its escapes are decoded")]
    Encoding,
    #[error("The query member `{0}` is there more than once")]
    Repeated(&'static str),
    #[error("The query member `{0}` is not a deviceId of 1 to 1024 bytes")]
    Device(&'static str),
    #[error(
        "The query member `telemetry` is not a deviceId, or a deviceId, a slash and a telemetryKey of 1 to 4096 bytes"
    )]
    Telemetry,
    #[error("The query member `moduleId` is not a moduleId of 1 to 128 bytes")]
    Module,
    #[error(
        "The query member `minIntervalMs` is not a whole number from 0 to {}",
        Delivery::MIN_INTERVAL_MS_MAX
    )]
    MinInterval,
    #[error("The query member `changesOnly` is neither true nor false")]
    ChangesOnly,
    #[error("The query asks for more than {WANTED_MAX} subscriptions")]
    TooMany,
}

impl Query {
    /// Reads the text behind the question mark.
    pub(super) fn parse(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::default();
        let mut module_id: Option<String> = None;
        let mut min_interval_ms = None;
        let mut changes_only = None;
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            match &*name {
                "sessionId" => set(&mut query.session_id, "sessionId", value.into())?,
                "token" => set(&mut query.token, "token", value.into())?,
                "lastEventId" => set(&mut query.last_event_id, "lastEventId", value.into())?,
                "moduleId" => set(&mut module_id, "moduleId", value.into())?,
                "minIntervalMs" => {
                    let ms = value
                        .parse()
                        .ok()
                        .filter(|ms| *ms <= Delivery::MIN_INTERVAL_MS_MAX);
                    let ms = ms.ok_or(QueryError::MinInterval)?;
                    set(&mut min_interval_ms, "minIntervalMs", ms)?;
                }
                "changesOnly" => {
                    let only = value.parse().map_err(|_| QueryError::ChangesOnly)?;
                    set(&mut changes_only, "changesOnly", only)?;
                }
                "telemetry" => {
                    let (device, key) = match value.split_once('/') {
                        Some((device, key)) => (device, Some(key)),
                        None => (&*value, None),
                    };
                    let key = key.map(|key| TelemetryKey::new(key).ok_or(QueryError::Telemetry));
                    let device = DeviceId::new(device).ok_or(QueryError::Telemetry)?;
                    query.want(device, Subscription::Telemetry(key.transpose()?))?;
                }
                "connectionState" => {
                    query.want(
                        device("connectionState", &value)?,
                        Subscription::ConnectionState,
                    )?;
                }
                "deviceTwin" => {
                    query.want(device("deviceTwin", &value)?, Subscription::DeviceTwin)?;
                }
                "d2cMessages" => {
                    query.want(device("d2cMessages", &value)?, Subscription::D2cMessages)?;
                }
                _ => {}
            }
        }
        let delivery = Delivery {
            min_interval_ms: min_interval_ms.unwrap_or(0),
            changes_only: changes_only.unwrap_or(false),
        };
        if let Some(module_id) = &module_id {
            // Checked even when nothing is asked for that it would apply to.
            DeviceId::of_module("device", module_id).ok_or(QueryError::Module)?;
        }
        for wanted in &mut query.wanted {
            if let Some(module_id) = &module_id {
                wanted.device = DeviceId::of_module(wanted.device.as_str(), module_id)
                    .ok_or(QueryError::Module)?;
            }
            if let Subscription::Telemetry(_) = wanted.subscription {
                wanted.delivery = delivery;
            }
        }
        Ok(query)
    }

    fn want(&mut self, device: DeviceId, subscription: Subscription) -> Result<(), QueryError> {
        if self.wanted.len() == WANTED_MAX {
            return Err(QueryError::TooMany);
        }
        self.wanted.push(Wanted {
            device,
            subscription,
            delivery: Delivery::default(),
        });
        Ok(())
    }
}

/// Where a client was when it lost its connection: the `id` of the last event that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventId {
    /// The session, whose secret this is as well.
    pub(super) session: SessionId,
    /// The place in its updates.
    pub(super) resume: Resume,
}

impl EventId {
    /// Reads what [`Display`](std::fmt::Display) writes; anything else is no place in any stream.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let session = SessionId::parse(parts.next()?)?;
        let epoch = parts.next()?.parse().ok()?;
        let sequence = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self {
            session,
            resume: Resume { epoch, sequence },
        })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Resume { epoch, sequence } = self.resume;
        write!(formatter, "{}.{epoch}.{sequence}", self.session)
    }
}

fn device(name: &'static str, value: &str) -> Result<DeviceId, QueryError> {
    DeviceId::new(value).ok_or(QueryError::Device(name))
}

fn set<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), QueryError> {
    if place.replace(value).is_some() {
        return Err(QueryError::Repeated(name));
    }
    Ok(())
}

fn decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    let text: Cow<'_, str> = if text.contains('+') {
        text.replace('+', " ").into()
    } else {
        text.into()
    };
    match text {
        Cow::Borrowed(text) => percent_decode_str(text).decode_utf8(),
        Cow::Owned(text) => percent_decode_str(&text)
            .decode_utf8()
            .map(|text| text.into_owned().into()),
    }
    .map_err(|_| QueryError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    fn wanted(query: &Query) -> Vec<(&str, Subscription)> {
        let all = query.wanted.iter();
        all.map(|wanted| (wanted.device.as_str(), wanted.subscription.clone()))
            .collect()
    }

    fn key(key: &str) -> Subscription {
        Subscription::Telemetry(Some(TelemetryKey::new(key).unwrap()))
    }

    #[test]
    fn subscriptions_are_named_after_their_kind() {
        let query = parse(
            "telemetry=d1/temperature&telemetry=d2&connectionState=d1&deviceTwin=d3&d2cMessages=d4&telemetry=d1/temperature",
        );
        assert_eq!(
            wanted(&query),
            [
                ("d1", key("temperature")),
                ("d2", Subscription::Telemetry(None)),
                ("d1", Subscription::ConnectionState),
                ("d3", Subscription::DeviceTwin),
                ("d4", Subscription::D2cMessages),
                ("d1", key("temperature")),
            ]
        );
        assert!(parse("").wanted.is_empty());
        assert!(parse("&&").wanted.is_empty());
    }

    #[test]
    fn names_are_decoded_once_and_keys_may_hold_slashes() {
        for (text, device, name) in [
            ("d1/a/b", "d1", "a/b"),
            ("d1%2Fa%2Fb", "d1", "a/b"),
            ("d+1/a%2Bb", "d 1", "a+b"),
            ("d1//a/", "d1", "/a/"),
            ("d1/a=b", "d1", "a=b"),
            ("d1/%C3%A9%2525", "d1", "é%25"),
        ] {
            let query = parse(&format!("telemetry={text}"));
            assert_eq!(wanted(&query), [(device, key(name))], "{text}");
        }
    }

    #[test]
    fn a_module_is_that_of_all_devices() {
        let query = parse("telemetry=d1/t&moduleId=m+1&connectionState=d2");
        let devices: Vec<_> = query.wanted.iter().map(|wanted| &wanted.device).collect();
        let module = |device| DeviceId::of_module(device, "m 1").unwrap();
        assert_eq!(devices, [&module("d1"), &module("d2")]);
    }

    #[test]
    fn the_way_of_delivery_is_that_of_all_telemetry() {
        let query = parse(
            "telemetry=d1&minIntervalMs=500&connectionState=d1&changesOnly=true&telemetry=d2/t",
        );
        let deliveries: Vec<_> = query.wanted.iter().map(|wanted| wanted.delivery).collect();
        let asked = Delivery {
            min_interval_ms: 500,
            changes_only: true,
        };
        assert_eq!(deliveries, [asked, Delivery::default(), asked]);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let long = format!("d2cMessages={}", "d".repeat(1025));
        for (text, error) in [
            ("telemetry", QueryError::Telemetry),
            ("telemetry=", QueryError::Telemetry),
            ("telemetry=/t", QueryError::Telemetry),
            ("telemetry=d1/", QueryError::Telemetry),
            ("connectionState=", QueryError::Device("connectionState")),
            ("deviceTwin", QueryError::Device("deviceTwin")),
            (&*long, QueryError::Device("d2cMessages")),
            ("telemetry=d1&moduleId=", QueryError::Module),
            ("moduleId", QueryError::Module),
            ("moduleId=a&moduleId=a", QueryError::Repeated("moduleId")),
            ("telemetry=%ff", QueryError::Encoding),
            ("%ff=1", QueryError::Encoding),
            ("minIntervalMs=", QueryError::MinInterval),
            ("minIntervalMs=-1", QueryError::MinInterval),
            ("minIntervalMs=1.5", QueryError::MinInterval),
            ("minIntervalMs=86400001", QueryError::MinInterval),
            (
                "minIntervalMs=1&minIntervalMs=1",
                QueryError::Repeated("minIntervalMs"),
            ),
            ("changesOnly=", QueryError::ChangesOnly),
            ("changesOnly=True", QueryError::ChangesOnly),
            ("token=a&token=b", QueryError::Repeated("token")),
            ("sessionId=a&sessionId=a", QueryError::Repeated("sessionId")),
            (
                "lastEventId=a&lastEventId=a",
                QueryError::Repeated("lastEventId"),
            ),
        ] {
            assert_eq!(Query::parse(text).unwrap_err(), error, "{text}");
        }
        let most = vec!["deviceTwin=d"; WANTED_MAX];
        assert!(Query::parse(&most.join("&")).is_ok());
        let more = vec!["deviceTwin=d"; WANTED_MAX + 1];
        assert_eq!(
            Query::parse(&more.join("&")).unwrap_err(),
            QueryError::TooMany
        );
    }

    #[test]
    fn an_event_id_reads_back_and_nothing_else_is_one() {
        let id = EventId {
            session: SessionId::issue(1_700_000_000_123, [7; 10]),
            resume: Resume {
                epoch: 3,
                sequence: u64::MAX,
            },
        };
        let text = id.to_string();
        assert_eq!(EventId::parse(&text), Some(id));
        for other in [
            "",
            "1",
            ".1.2",
            "..",
            &text[1..],
            &format!("{text}.1"),
            &format!("{text}1"),
            &format!("{}.-1.1", id.session),
            &format!("{}.1", id.session),
        ] {
            assert_eq!(EventId::parse(other), None, "{other}");
        }
    }
}
