//! The hub in process: what services and devices see of each other, and what the event hub gets to tell of it.

mod connections;
mod direct_methods;
mod registry;
mod twins;

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::LogBounds;
use crate::amqp::message::Message;
use crate::event_hub::ConsumerGroups;

/// 2022-01-16T16:36:53.814Z
const START_MS: i64 = 1_642_351_013_814;

#[derive(Debug)]
struct ManualClock(Mutex<i64>);

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.0.lock().unwrap()
    }
}

/// A hub with one partition, all of whose events can be read.
struct Fixture {
    hub: IotHub,
    events: EventHub,
    clock: Arc<ManualClock>,
}

/// An event by what distinguishes it: source, operation, device or `device/module`, body.
#[derive(Debug, PartialEq)]
struct Told {
    source: String,
    operation: String,
    about: String,
    body: Value,
}

fn told(source: &str, operation: &str, about: &str, body: Value) -> Told {
    Told {
        source: source.to_owned(),
        operation: operation.to_owned(),
        about: about.to_owned(),
        body,
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with_routes(Routes::default())
    }

    fn with_routes(routes: Routes) -> Self {
        let clock = Arc::new(ManualClock(Mutex::new(START_MS)));
        let events = EventHub::new(
            "events",
            1,
            ConsumerGroups::Any,
            LogBounds::default(),
            clock.clone(),
        );
        let settings = IotHubSettings {
            name: "factory".to_owned(),
            key: SharedAccessKey::new("c2VjcmV0"),
            routes,
        };
        Self {
            hub: IotHub::new(settings, events.clone(), clock.clone()),
            events,
            clock,
        }
    }

    fn create(&self, id: &IdentityId) -> IdentityDescription {
        self.hub
            .create_identity(id, IdentitySettings::default())
            .unwrap()
    }

    fn connect(&self, id: &IdentityId) -> DeviceLink {
        self.hub.connect(id, AUTH).unwrap()
    }

    /// All events so far.
    fn told(&self) -> Vec<Told> {
        let partition = self.events.partition(0).unwrap();
        let log = partition.log.lock();
        log.read_from(0)
            .map(|(_, stored)| {
                let message = Message::decode(&stored.encoded).unwrap();
                let annotation = |name| message.annotations.unwrap().text(name);
                let device = annotation("iothub-connection-device-id").unwrap();
                let about = match annotation("iothub-connection-module-id") {
                    Some(module) => format!("{device}/{module}"),
                    None => device.to_owned(),
                };
                let operation = message
                    .application_properties
                    .and_then(|properties| properties.text("opType"));
                let body = message.data().next().unwrap();
                Told {
                    source: annotation("iothub-message-source").unwrap().to_owned(),
                    operation: operation.unwrap_or_default().to_owned(),
                    about,
                    body: serde_json::from_slice(body).unwrap(),
                }
            })
            .collect()
    }

    /// Operations and ids of the events since there were `from`.
    fn operations(&self, from: usize) -> Vec<(String, String)> {
        self.told()
            .into_iter()
            .skip(from)
            .map(|event| (event.operation, event.about))
            .collect()
    }
}

const AUTH: AuthMethod = AuthMethod {
    scope: AuthScope::Device,
    kind: AuthKind::Sas,
    expires_at_ms: None,
};

fn press() -> IdentityId {
    IdentityId::device("press").unwrap()
}

fn spindle() -> IdentityId {
    IdentityId::module("press", "spindle").unwrap()
}

fn operations(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(operation, about)| ((*operation).to_owned(), (*about).to_owned()))
        .collect()
}

/// Far longer than anything takes here.
const NEVER: Duration = Duration::from_mins(1);
const SOON: Duration = Duration::from_millis(50);

/// A call with time-outs that need not be whole seconds.
fn call(response_timeout: Duration, connect_timeout: Duration) -> MethodCall {
    MethodCall {
        name: "echo".to_owned(),
        payload: Bytes::from_static(b"null"),
        response_timeout,
        connect_timeout,
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, HubError>) -> ErrorCode {
    result.unwrap_err().code()
}

async fn method(link: &mut DeviceLink) -> (String, String, Bytes) {
    match link.next().await {
        ToDevice::Method {
            request_id,
            name,
            payload,
        } => (request_id, name, payload),
        other => panic!("{other:?}"),
    }
}
