//! What a client's text asks for: read from JSON, checked, and put into the words of the domain.
//!
//! Nothing of a message takes effect when any part of it is wrong. What is wrong is told with a code, and with the member
//! where it can be named; texts of clients come back in errors cut to a bounded length.

use relay_protocol::ModuleId;
use relay_protocol::native::{
    ClientMessage, ErrorCode, ErrorMessage, GrantToken, Hello, NewSubscription, REQUEST_ID_MAX,
    Refused, Selector, Values,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::domain::id::{
    DEVICE_ID_BYTES_MAX, DeviceId, MODULE_ID_BYTES_MAX, TELEMETRY_KEY_BYTES_MAX, TelemetryKey,
};
use crate::domain::session::SubscribeRefusal;
use crate::domain::subscription::{Delivery, KeyPattern, Subscription};
use crate::push::refused::why_refused;
use crate::relay::Wanted;

/// Most keys, patterns, and selectors with neither, that one message may name.
pub(super) const KEYS_PER_MESSAGE_MAX: usize = 10_000;

/// Longest text of an error, in bytes.
const MESSAGE_BYTES_MAX: usize = 300;

/// A text that could be read.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The beginning of a conversation.
    Hello(Hello),
    /// Something that is answered under its id.
    Request(Request),
}

/// Something that is answered under its id.
#[derive(Debug)]
pub(super) struct Request {
    /// Its number.
    pub(super) id: u64,
    /// What is asked for.
    pub(super) body: RequestBody,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// More grants.
    Authorize(GrantToken),
    /// Values and their changes.
    Subscribe(Vec<Wanted>, Selectors),
    /// The end of subscriptions.
    Unsubscribe(Vec<(DeviceId, Subscription)>),
    /// Last values, once.
    LastValues(Vec<(DeviceId, Subscription)>, Selectors),
    /// A sign of life.
    Ping,
}

/// The selectors of a request, to name those that were refused.
#[derive(Debug)]
pub(super) struct Selectors(Vec<Selector>);

/// Reads a text. An error tells the client what is wrong; its id is there if it can be read.
pub(super) fn read(text: &str) -> Result<Incoming, ErrorMessage> {
    let message: ClientMessage = serde_json::from_str(text).map_err(|_| explain(text))?;
    let Some(id) = message.id() else {
        return match message {
            ClientMessage::Hello(hello) if hello.resume.is_some() && hello.session_id.is_none() => {
                Err(wrong(
                    ErrorCode::InvalidMessage,
                    "a resume names the session that it resumes",
                    "sessionId".to_owned(),
                ))
            }
            ClientMessage::Hello(hello) => Ok(Incoming::Hello(hello)),
            other => unreachable!("only a hello has no id: {other:?}"),
        };
    };
    if !is_id(id) {
        return Err(wrong(
            ErrorCode::InvalidMessage,
            format!("an id is an integer from 1 to {REQUEST_ID_MAX}"),
            "id".to_owned(),
        ));
    }
    match body(message) {
        Ok(body) => Ok(Incoming::Request(Request { id, body })),
        Err(error) => Err(ErrorMessage {
            id: Some(id),
            ..error
        }),
    }
}

fn body(message: ClientMessage) -> Result<RequestBody, ErrorMessage> {
    Ok(match message {
        ClientMessage::Hello(_) => unreachable!("a hello is no request"),
        ClientMessage::Authorize { token, .. } => RequestBody::Authorize(token),
        ClientMessage::Subscribe { subscriptions, .. } => {
            let mut places = Places::new("subscriptions");
            let mut wanted = Vec::new();
            for subscription in &subscriptions {
                let delivery = places.delivery(subscription)?;
                places.expand(&subscription.selector, |device, subscription| {
                    wanted.push(Wanted {
                        device,
                        subscription,
                        delivery,
                    });
                })?;
            }
            let selectors = subscriptions
                .into_iter()
                .map(|subscription| subscription.selector)
                .collect();
            RequestBody::Subscribe(wanted, Selectors(selectors))
        }
        ClientMessage::Unsubscribe { subscriptions, .. } => {
            RequestBody::Unsubscribe(Places::new("subscriptions").expand_all(&subscriptions)?)
        }
        ClientMessage::LastValues { of, .. } => {
            if let Some(index) = of
                .iter()
                .position(|selector| selector.values == Values::D2cMessages)
            {
                return Err(wrong(
                    ErrorCode::InvalidSelector,
                    "device-to-cloud messages have no last value",
                    format!("of[{index}].type"),
                ));
            }
            RequestBody::LastValues(Places::new("of").expand_all(&of)?, Selectors(of))
        }
        ClientMessage::Ping { .. } => RequestBody::Ping,
    })
}

impl Selectors {
    /// Names what was refused; `outcomes` has one for each place, in the order of the request.
    pub(super) fn refused(&self, outcomes: &[Result<(), SubscribeRefusal>]) -> Vec<Refused> {
        let mut outcomes = outcomes.iter();
        let mut refused = Vec::new();
        for (index, selector) in self.0.iter().enumerate() {
            // Those of this selector, at most one for each reason.
            let first = refused.len();
            let mut judge = |key: Option<&String>, pattern: Option<&String>| {
                let Some(Err(refusal)) = outcomes.next() else {
                    return;
                };
                let (code, message) = why_refused(*refusal);
                let known = refused[first..]
                    .iter()
                    .position(|refused: &Refused| refused.code == code);
                let place = known.map_or(refused.len(), |known| first + known);
                if known.is_none() {
                    refused.push(Refused {
                        index,
                        telemetry_keys: Vec::new(),
                        telemetry_key_patterns: Vec::new(),
                        code,
                        message: message.to_owned(),
                    });
                }
                refused[place].telemetry_keys.extend(key.cloned());
                refused[place]
                    .telemetry_key_patterns
                    .extend(pattern.cloned());
            };
            match &selector.values {
                Values::Telemetry { keys, patterns }
                    if !keys.is_empty() || !patterns.is_empty() =>
                {
                    for key in keys {
                        judge(Some(key), None);
                    }
                    for pattern in patterns {
                        judge(None, Some(pattern));
                    }
                }
                _ => judge(None, None),
            }
        }
        refused
    }
}

/// The places of a request: one for each key, each pattern, and each selector with neither.
struct Places {
    /// The member that holds the selectors.
    member: &'static str,
    /// Selectors before the current one.
    index: usize,
    count: usize,
    /// The device of the selector before: most requests name one many times.
    device: Option<DeviceId>,
}

impl Places {
    fn new(member: &'static str) -> Self {
        Self {
            member,
            index: 0,
            count: 0,
            device: None,
        }
    }

    fn expand_all(
        mut self,
        selectors: &[Selector],
    ) -> Result<Vec<(DeviceId, Subscription)>, ErrorMessage> {
        let mut places = Vec::new();
        for selector in selectors {
            self.expand(selector, |device, subscription| {
                places.push((device, subscription));
            })?;
        }
        Ok(places)
    }

    /// Hands each place of a selector to `take`, in order: keys, then patterns.
    fn expand(
        &mut self,
        selector: &Selector,
        mut take: impl FnMut(DeviceId, Subscription),
    ) -> Result<(), ErrorMessage> {
        let device = self.device(selector)?;
        let whole = match &selector.values {
            Values::Telemetry { keys, patterns } => {
                self.add(keys.len() + patterns.len())?;
                for (place, key) in keys.iter().enumerate() {
                    let key = TelemetryKey::new(key).ok_or_else(|| {
                        self.wrong(
                            ErrorCode::InvalidTelemetryKey,
                            format!("a telemetry key has 1 to {TELEMETRY_KEY_BYTES_MAX} bytes"),
                            &format!("telemetryKeys[{place}]"),
                        )
                    })?;
                    take(device.clone(), Subscription::Telemetry(Some(key)));
                }
                for (place, pattern) in patterns.iter().enumerate() {
                    let pattern = KeyPattern::new(pattern).ok_or_else(|| {
                        self.wrong(
                            ErrorCode::InvalidPattern,
                            "a pattern has 1 to 256 bytes and at most 8 `*`",
                            &format!("telemetryKeyPatterns[{place}]"),
                        )
                    })?;
                    take(device.clone(), Subscription::TelemetryPattern(pattern));
                }
                (keys.is_empty() && patterns.is_empty()).then_some(Subscription::Telemetry(None))
            }
            Values::ConnectionState => Some(Subscription::ConnectionState),
            Values::DeviceTwin => Some(Subscription::DeviceTwin),
            Values::D2cMessages => Some(Subscription::D2cMessages),
        };
        if let Some(whole) = whole {
            self.add(1)?;
            take(device, whole);
        }
        self.index += 1;
        Ok(())
    }

    /// How the current selector is to be delivered.
    fn delivery(&self, subscription: &NewSubscription) -> Result<Delivery, ErrorMessage> {
        let min_interval_ms = subscription.min_interval_ms.unwrap_or(0);
        let is_telemetry = matches!(subscription.selector.values, Values::Telemetry { .. });
        let (message, field) = if min_interval_ms > 0 && !is_telemetry {
            ("only telemetry has an interval", "minIntervalMs")
        } else if subscription.changes_only && !is_telemetry {
            ("only telemetry can be had as changes", "changesOnly")
        } else if min_interval_ms > Delivery::MIN_INTERVAL_MS_MAX.into() {
            ("an interval is a day at most", "minIntervalMs")
        } else {
            return Ok(Delivery {
                min_interval_ms: u32::try_from(min_interval_ms).expect("a day fits"),
                changes_only: subscription.changes_only,
            });
        };
        Err(self.wrong(ErrorCode::InvalidSelector, message, field))
    }

    fn device(&mut self, selector: &Selector) -> Result<DeviceId, ErrorMessage> {
        let device_id = selector.device_id.as_str();
        let module_id = selector.module_id.as_ref().map(ModuleId::as_str);
        if let Some(device) = &self.device
            && device.as_str() == device_id
            && device.module() == module_id
        {
            return Ok(device.clone());
        }
        let mut device = DeviceId::new(device_id).ok_or_else(|| {
            self.wrong(
                ErrorCode::InvalidDeviceId,
                format!("a device id has 1 to {DEVICE_ID_BYTES_MAX} bytes"),
                "deviceId",
            )
        })?;
        if let Some(module_id) = module_id {
            device = DeviceId::of_module(device_id, module_id).ok_or_else(|| {
                self.wrong(
                    ErrorCode::InvalidModuleId,
                    format!("a module id has 1 to {MODULE_ID_BYTES_MAX} bytes"),
                    "moduleId",
                )
            })?;
        }
        self.device = Some(device.clone());
        Ok(device)
    }

    fn add(&mut self, places: usize) -> Result<(), ErrorMessage> {
        self.count += places;
        if self.count > KEYS_PER_MESSAGE_MAX {
            return Err(wrong(
                ErrorCode::TooManyKeys,
                format!("one message names at most {KEYS_PER_MESSAGE_MAX} keys"),
                self.member.to_owned(),
            ));
        }
        Ok(())
    }

    /// An error in a member of the current selector.
    fn wrong(&self, code: ErrorCode, message: impl Into<String>, member: &str) -> ErrorMessage {
        let field = format!("{}[{}].{member}", self.member, self.index);
        wrong(code, message, field)
    }
}

fn is_id(number: u64) -> bool {
    (1..=REQUEST_ID_MAX).contains(&number)
}

fn wrong(code: ErrorCode, message: impl Into<String>, field: String) -> ErrorMessage {
    ErrorMessage {
        id: None,
        code,
        message: message.into(),
        field: Some(field),
    }
}

/// The members that every message has, as far as they are there.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Finds out what is wrong with a text that is no message. Slower than reading one, and only done then.
fn explain(text: &str) -> ErrorMessage {
    let error = |code, message: String| ErrorMessage {
        id: None,
        code,
        message: bounded(message),
        field: None,
    };
    if let Err(failure) = serde_json::from_str::<IgnoredAny>(text) {
        return error(ErrorCode::MalformedJson, failure.to_string());
    }
    if !text.trim_ascii_start().starts_with('{') {
        return error(
            ErrorCode::InvalidMessage,
            "a message is a JSON object".to_owned(),
        );
    }
    let envelope = match serde_json::from_str::<Envelope<'_>>(text) {
        Ok(envelope) => envelope,
        Err(failure) => return error(ErrorCode::InvalidMessage, failure.to_string()),
    };
    let id = envelope
        .id
        .and_then(|id| serde_json::from_str(id.get()).ok())
        .filter(|id| is_id(*id));
    let kind: Option<String> = envelope
        .kind
        .and_then(|kind| serde_json::from_str(kind.get()).ok());
    let explained = match kind {
        None => wrong(
            ErrorCode::InvalidMessage,
            "a message has a `type`",
            "type".to_owned(),
        ),
        Some(kind) if !ClientMessage::TYPES.contains(&kind.as_str()) => wrong(
            ErrorCode::UnknownType,
            format!("the types are {}", ClientMessage::TYPES.join(", ")),
            "type".to_owned(),
        ),
        Some(_) => wrong_member(text),
    };
    ErrorMessage { id, ..explained }
}

fn wrong_member(text: &str) -> ErrorMessage {
    let mut json = serde_json::Deserializer::from_str(text);
    let (field, message) = match serde_path_to_error::deserialize::<_, ClientMessage>(&mut json) {
        Ok(_) => (None, String::new()),
        Err(error) => {
            let field = error.path().to_string();
            // Mostly of the wrong type; but what is JSON by its grammar may also be a number beyond all bounds, or a text
            // with half of a surrogate pair.
            (
                (field != ".").then_some(field),
                error.into_inner().to_string(),
            )
        }
    };
    ErrorMessage {
        id: None,
        code: ErrorCode::InvalidMessage,
        message: bounded(message),
        field,
    }
}

fn bounded(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}

#[cfg(test)]
mod tests;
