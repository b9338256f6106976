//! Subscriptions: a session says what it wants to see, one at a time or in bulk.
//!
//! Bulk calls answer with the elements they applied exactly as these came in, so elements are kept as text.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::extract;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::State;
use super::auth::SessionHeader;
use super::body::{self, Malformed, RequestBody};
use super::error::Error;
use super::json_response;
use crate::domain::id::{DeviceId, DeviceName, SessionId};
use crate::domain::subscription::Subscription;
use crate::grant_members::{WrongMember, even_null, telemetry_key};
use crate::relay::SubscriptionRequest;

/// `PUT /subscription`.
pub(super) async fn add(
    extract::State(state): extract::State<State>,
    header: SessionHeader,
    body: RequestBody,
) -> Result<StatusCode, Error> {
    state.relay.subscribe(read_one(&body, header)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /subscription`. It must be granted, but need not be there.
pub(super) async fn remove(
    extract::State(state): extract::State<State>,
    header: SessionHeader,
    body: RequestBody,
) -> Result<StatusCode, Error> {
    state.relay.unsubscribe(read_one(&body, header)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /subscriptions`. Elements that are not granted are skipped.
pub(super) async fn add_all(
    extract::State(state): extract::State<State>,
    header: SessionHeader,
    body: RequestBody,
) -> Result<Response, Error> {
    let elements = read_all(&body, header)?;
    let requests = requests(&elements)?;
    let applied = state.relay.subscribe_all(requests).await?;
    Ok(applied_elements(&elements, &applied))
}

/// `DELETE /subscriptions`. An element that is granted counts as removed even when it was not there.
pub(super) async fn remove_all(
    extract::State(state): extract::State<State>,
    header: SessionHeader,
    body: RequestBody,
) -> Result<Response, Error> {
    let elements = read_all(&body, header)?;
    let requests = requests(&elements)?;
    let removed = state.relay.unsubscribe_all(requests).await?;
    Ok(applied_elements(&elements, &removed))
}

/// One subscription request, as it came in and as it is meant.
struct Element<'a> {
    text: &'a str,
    session: Session<'a>,
    device: DeviceId,
    subscription: Subscription,
}

/// Where the session id of an element comes from.
enum Session<'a> {
    /// The element itself.
    Own(String),
    /// The header. `own` is the text of a member that holds no id, if there is one.
    Header {
        session: SessionHeader,
        own: Option<&'a str>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow)]
    module_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    telemetry_key: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped<'a> {
    #[serde(borrow)]
    subscription_requests: Vec<&'a RawValue>,
}

/// A malformed body is answered before an unknown session.
fn read_one(body: &RequestBody, header: SessionHeader) -> Result<SubscriptionRequest, Error> {
    let element = body
        .text()
        .and_then(|text| Element::parse(text, header))
        .map_err(|Malformed| Error::UnknownSubscriptionType)?;
    element.request()
}

/// Takes a bare array or an object that wraps one.
fn read_all(body: &RequestBody, header: SessionHeader) -> Result<Vec<Element<'_>>, Error> {
    let parse = || {
        let text = body.text()?;
        let elements = if text.trim_ascii_start().starts_with('[') {
            serde_json::from_str::<Vec<&RawValue>>(text).map_err(|_| Malformed)?
        } else {
            body::object::<Wrapped<'_>>(text)?.subscription_requests
        };
        elements
            .into_iter()
            .map(|element| Element::parse(element.get(), header))
            .collect::<Result<Vec<_>, _>>()
    };
    parse().map_err(|Malformed| Error::NotSubscriptionRequests)
}

fn requests(elements: &[Element<'_>]) -> Result<Vec<SubscriptionRequest>, Error> {
    elements.iter().map(Element::request).collect()
}

impl<'a> Element<'a> {
    fn parse(text: &'a str, header: SessionHeader) -> Result<Self, Malformed> {
        let members: Members<'a> = body::object(text)?;
        let session = match body::optional_string(members.session_id)? {
            Some(own) if !own.is_empty() => Session::Own(own),
            Some(_) | None => match header {
                SessionHeader::Missing => return Err(Malformed),
                SessionHeader::Unknown | SessionHeader::Named(_) => Session::Header {
                    session: header,
                    own: members.session_id.map(RawValue::get),
                },
            },
        };
        let subscription = match &*members.kind {
            "telemetry" => Subscription::Telemetry(
                telemetry_key(members.telemetry_key).map_err(|WrongMember { .. }| Malformed)?,
            ),
            "deviceTwin" => Subscription::DeviceTwin,
            "connectionState" => Subscription::ConnectionState,
            "d2cMessages" => Subscription::D2cMessages,
            _ => return Err(Malformed),
        };
        let device = DeviceName {
            device: &members.device_id,
            module: members.module_id.as_deref(),
        };
        let device = device.to_id().ok_or(Malformed)?;
        Ok(Self {
            text,
            session,
            device,
            subscription,
        })
    }

    fn request(&self) -> Result<SubscriptionRequest, Error> {
        Ok(SubscriptionRequest {
            session: self.session.id()?,
            device: self.device.clone(),
            subscription: self.subscription.clone(),
        })
    }

    /// Appends the element as it came in, with the session id added when that came from the header.
    fn write_to(&self, json: &mut String) {
        let Session::Header {
            session: SessionHeader::Named(session),
            own,
        } = &self.session
        else {
            json.push_str(self.text);
            return;
        };
        if let Some(own) = own {
            // A part of the same text, so its place is the distance between the two.
            let start = own.as_ptr().addr() - self.text.as_ptr().addr();
            json.push_str(&self.text[..start]);
            let _ = write!(json, "\"{session}\"");
            json.push_str(&self.text[start + own.len()..]);
        } else {
            // An element has at least a device id and a type, so a comma belongs behind the new member.
            let _ = write!(json, "{{\"sessionId\":\"{session}\",");
            json.push_str(
                self.text
                    .trim_ascii_start()
                    .strip_prefix('{')
                    .expect("an element is an object"),
            );
        }
    }
}

impl Session<'_> {
    fn id(&self) -> Result<SessionId, Error> {
        match self {
            Self::Own(id) => SessionId::parse(id).ok_or(Error::NoSuchSession),
            Self::Header { session, .. } => session.required(),
        }
    }
}

/// The applied elements as a bare array.
fn applied_elements(elements: &[Element<'_>], applied: &[bool]) -> Response {
    let mut json = String::from("[");
    for (element, _) in elements
        .iter()
        .zip(applied)
        .filter(|(_, applied)| **applied)
    {
        if json.len() > 1 {
            json.push(',');
        }
        element.write_to(&mut json);
    }
    json.push(']');
    json_response(json)
}
