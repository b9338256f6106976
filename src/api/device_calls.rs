//! Calls to devices by way of the IoT hub: direct methods, and patches of twins.
//!
//! Only a session makes them, and only what it was granted; a key does not replace that. A request is checked in ux4iot's
//! order: the session, the form of the request, whether there is a hub, the grant. Payloads and patches are passed on as
//! they were written. A call that was sent cannot be called back, so it runs to its end when its caller hangs up.

use std::borrow::Cow;

use axum::extract;
use axum::http::HeaderValue;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::State;
use super::auth::SessionHeader;
use super::body::{self, RequestBody};
use super::error::Error;
use super::{hub_failure, json_response};
use crate::domain::grant::{Access, METHOD_NAME_BYTES_MAX};
use crate::domain::hub_twin::HubTwin;
use crate::domain::id::{DeviceId, DeviceName, SessionId};
use crate::domain::raw_json::RawJson;
use crate::iot_hub::{IotHub, MethodCall, TwinSection};

/// How long a device may take to answer a direct method when the caller does not say: the hub's default.
const RESPONSE_TIMEOUT_S: u32 = 30;

/// `POST /directMethod`.
pub(super) async fn direct_method(
    extract::State(state): extract::State<State>,
    session: SessionHeader,
    body: RequestBody,
) -> Result<Response, Error> {
    let session = session.required()?;
    state.check_session(session)?;
    let malformed = |_| Error::MalformedDirectMethod;
    let request: DirectMethodRequest<'_> = body.text().and_then(body::object).map_err(malformed)?;
    let params: MethodParams<'_> = body::object(request.method_params.get()).map_err(malformed)?;
    let device = device(&request.device_id, request.module_id.as_deref());
    let device = device.ok_or(Error::MalformedDirectMethod)?;
    let call = params.call().ok_or(Error::MalformedDirectMethod)?;
    let hub = state.hub()?;

    let access = Access::DirectMethod {
        name: call.name,
        payload: call.payload,
    };
    state.check_call(session, &device, &access).await?;
    match hub.invoke_method(session, &device, call).await {
        Ok(answer) => Ok(json_response(answer.as_str().to_owned())),
        Err(error) => Ok(hub_failure::of_method(error)),
    }
}

/// `PATCH /deviceTwinDesiredProperties`.
pub(super) async fn patch_desired_properties(
    extract::State(state): extract::State<State>,
    session: SessionHeader,
    body: RequestBody,
) -> Result<Response, Error> {
    patch_twin(&state, session, &body, TwinSection::DesiredProperties).await
}

/// `PATCH /deviceTwinTags`.
pub(super) async fn patch_tags(
    extract::State(state): extract::State<State>,
    session: SessionHeader,
    body: RequestBody,
) -> Result<Response, Error> {
    patch_twin(&state, session, &body, TwinSection::Tags).await
}

async fn patch_twin(
    state: &State,
    session: SessionHeader,
    body: &RequestBody,
    section: TwinSection,
) -> Result<Response, Error> {
    let session = session.required()?;
    state.check_session(session)?;
    let request: Result<TwinPatchRequest<'_>, _> = body.text().and_then(body::object);
    let patch = request.ok().and_then(|request| request.patch(section));
    let TwinPatch {
        device,
        patch,
        if_match,
    } = patch.ok_or(match section {
        TwinSection::DesiredProperties => Error::MalformedDesiredProperties,
        TwinSection::Tags => Error::MalformedTags,
    })?;
    let hub = state.hub()?;

    let access = match section {
        TwinSection::DesiredProperties => Access::DesiredProperties { patch },
        TwinSection::Tags => Access::Tags { patch },
    };
    state.check_call(session, &device, &access).await?;
    let patched = hub
        .patch_twin(session, &device, section, patch, if_match)
        .await;
    let twin = match patched {
        Ok(twin) => twin,
        Err(error) => return Ok(hub_failure::of_patch(error)),
    };
    let shown = state.after_patch(session, &device, &access, twin).await;
    let payload = shown.as_ref().map_or("null", RawJson::as_str);
    let json = format!(r#"{{"status":200,"payload":{payload}}}"#);
    Ok(json_response(json))
}

impl State {
    /// The client of the hub.
    fn hub(&self) -> Result<&IotHub, Error> {
        self.iot_hub.as_ref().ok_or(Error::HubApiDisabled)
    }

    /// Whether a session may make a call. A refusal leaves a line for whoever audits the relay.
    async fn check_call(
        &self,
        session: SessionId,
        device: &DeviceId,
        access: &Access<'_>,
    ) -> Result<(), Error> {
        let Some(denial) = self.relay.deny(session, device, access).await? else {
            return Ok(());
        };
        let (call, method) = match *access {
            Access::DirectMethod { name, .. } => ("direct method", name),
            Access::DesiredProperties { .. } => ("patch of desired properties", ""),
            _ => ("patch of tags", ""),
        };
        tracing::warn!(
            target: "hubrelay::audit",
            {
                session.id = ?session,
                device.id = device.as_str(),
                module.id = device.module(),
                call.kind = call,
                call.method = method,
                call.denial = %denial,
            },
            "a call to a device was refused"
        );
        Err(Error::CallNotGranted)
    }

    /// Takes in the twin that a patch brought about, and returns what the session may see of it: nothing but the version
    /// if it has lost its grants meanwhile.
    async fn after_patch(
        &self,
        session: SessionId,
        device: &DeviceId,
        change: &Access<'_>,
        patched: HubTwin,
    ) -> Option<RawJson> {
        let newest = self.relay.learn_twin(device, patched).await.ok()?;
        let view = self.relay.twin_view_after(session, device, change).await;
        Some(view.unwrap_or_default().cut(&newest.twin))
    }
}

fn device(device: &str, module: Option<&str>) -> Option<DeviceId> {
    DeviceName { device, module }.to_id()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectMethodRequest<'a> {
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow)]
    module_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method_params: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MethodParams<'a> {
    #[serde(borrow)]
    method_name: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(rename = "responseTimeoutInSeconds")]
    response_timeout_s: Option<u32>,
    #[serde(rename = "connectTimeoutInSeconds")]
    connect_timeout_s: Option<u32>,
}

impl MethodParams<'_> {
    fn call(&self) -> Option<MethodCall<'_>> {
        let is_name = (1..=METHOD_NAME_BYTES_MAX).contains(&self.method_name.len());
        is_name.then(|| MethodCall {
            name: &self.method_name,
            payload: self.payload.map_or("null", RawValue::get),
            response_timeout_s: self.response_timeout_s.unwrap_or(RESPONSE_TIMEOUT_S),
            connect_timeout_s: self.connect_timeout_s.unwrap_or(0),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TwinPatchRequest<'a> {
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    #[serde(borrow)]
    module_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    desired_property_patch: Option<&'a RawValue>,
    #[serde(borrow)]
    tag_patch: Option<&'a RawValue>,
    #[serde(borrow)]
    if_match: Option<Cow<'a, str>>,
}

/// A patch of either section of a twin.
struct TwinPatch<'a> {
    device: DeviceId,
    patch: &'a str,
    if_match: Option<HeaderValue>,
}

impl<'a> TwinPatchRequest<'a> {
    /// What is asked for, if it can be: the patch of the section is an object, and the etag could be one.
    fn patch(self, section: TwinSection) -> Option<TwinPatch<'a>> {
        let patch = match section {
            TwinSection::DesiredProperties => self.desired_property_patch,
            TwinSection::Tags => self.tag_patch,
        };
        let if_match = match self.if_match {
            None => None,
            Some(etag) => Some(if_match(&etag)?),
        };
        Some(TwinPatch {
            device: device(&self.device_id, self.module_id.as_deref())?,
            patch: patch
                .map(RawValue::get)
                .filter(|patch| patch.starts_with('{'))?,
            if_match,
        })
    }
}

/// An etag as the header `If-Match` has it (RFC 9110 §8.8.3). In the JSON of a twin it stands without its quotes.
fn if_match(etag: &str) -> Option<HeaderValue> {
    let bare = etag
        .strip_prefix('"')
        .and_then(|etag| etag.strip_suffix('"'))
        .unwrap_or(etag);
    let is_etag = !bare.is_empty()
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"');
    let header = if bare == "*" {
        "*".to_owned()
    } else {
        format!("\"{bare}\"")
    };
    is_etag
        .then(|| HeaderValue::try_from(header).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_quoted_once_whichever_way_it_is_given() {
        for (given, header) in [
            ("AAAAAAAAAAE=", "\"AAAAAAAAAAE=\""),
            ("\"AAAAAAAAAAE=\"", "\"AAAAAAAAAAE=\""),
            ("*", "*"),
            ("\"*\"", "*"),
        ] {
            assert_eq!(if_match(given).unwrap(), header, "{given}");
        }
        for given in ["", "\"\"", "a b", "a\"b", "a\r\nX: y", "\"a", "é"] {
            assert_eq!(if_match(given), None, "{given:?}");
        }
    }
}
