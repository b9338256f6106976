//! The JSON forms of identities: what clients send, and what they are told.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::iot_hub::{
    Authentication, HubError, IdentityDescription, IdentitySettings, IdentityStatus, SymmetricKeys,
    Thumbprints, connection_state, time_text,
};
use crate::sas::SharedAccessKey;

/// An identity as clients send it. Members that only the service sets are ignored: clients send back what they have read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdentityForm {
    #[serde(alias = "id")]
    pub(super) device_id: String,
    pub(super) module_id: Option<String>,
    status: Option<StatusForm>,
    status_reason: Option<String>,
    authentication: Option<AuthenticationForm>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StatusForm {
    Enabled,
    Disabled,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationForm {
    #[serde(rename = "type")]
    kind: Option<String>,
    symmetric_key: Option<KeysForm>,
    #[serde(rename = "x509Thumbprint")]
    x509_thumbprint: Option<ThumbprintsForm>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeysForm {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ThumbprintsForm {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

impl IdentityForm {
    pub(super) fn settings(self) -> Result<IdentitySettings, HubError> {
        let authentication = self
            .authentication
            .map(AuthenticationForm::authentication)
            .transpose()?
            .flatten();
        Ok(IdentitySettings {
            status: match self.status {
                Some(StatusForm::Disabled) => IdentityStatus::Disabled,
                Some(StatusForm::Enabled) | None => IdentityStatus::Enabled,
            },
            status_reason: given(self.status_reason),
            authentication,
        })
    }
}

impl AuthenticationForm {
    /// `None` when it leaves the keys to the service.
    fn authentication(self) -> Result<Option<Authentication>, HubError> {
        match self.kind.as_deref() {
            None | Some("sas") => {
                let Some(keys) = self.symmetric_key else {
                    return Ok(None);
                };
                let key = |text| given(text).map(SharedAccessKey::new);
                match (key(keys.primary_key), key(keys.secondary_key)) {
                    (None, None) => Ok(None),
                    (Some(primary), Some(secondary)) => {
                        Ok(Some(Authentication::Sas(SymmetricKeys {
                            primary,
                            secondary,
                        })))
                    }
                    _ => Err(HubError::invalid(
                        "authentication.symmetricKey must have both keys or none",
                    )),
                }
            }
            Some("selfSigned") => {
                let form = self
                    .x509_thumbprint
                    .ok_or_else(|| HubError::invalid("authentication.x509Thumbprint is missing"))?;
                Ok(Some(Authentication::SelfSigned(Thumbprints {
                    primary: given(form.primary_thumbprint),
                    secondary: given(form.secondary_thumbprint),
                })))
            }
            Some(_) => Err(HubError::invalid(
                "authentication.type must be sas or selfSigned: this hub knows no certificate authorities",
            )),
        }
    }
}

/// Clients send empty texts for what they leave out.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn to_json(identity: &IdentityDescription) -> Value {
    let (kind, keys, thumbprints) = match &identity.authentication {
        Authentication::Sas(keys) => ("sas", Some(keys), None),
        Authentication::SelfSigned(thumbprints) => ("selfSigned", None, Some(thumbprints)),
    };
    let mut json = json!({
        "deviceId": identity.id.device_id(),
        "generationId": identity.generation_id,
        "etag": identity.etag,
        "connectionState": connection_state(identity.is_connected),
        "connectionStateUpdatedTime": time_text(identity.connection_updated_ms),
        "lastActivityTime": time_text(identity.last_activity_ms),
        "cloudToDeviceMessageCount": identity.message_count,
        "authentication": {
            "symmetricKey": {
                "primaryKey": keys.map(|keys| keys.primary.expose()),
                "secondaryKey": keys.map(|keys| keys.secondary.expose()),
            },
            "x509Thumbprint": {
                "primaryThumbprint": thumbprints.and_then(|both| both.primary.as_deref()),
                "secondaryThumbprint": thumbprints.and_then(|both| both.secondary.as_deref()),
            },
            "type": kind,
        },
    });
    if let Some(module_id) = identity.id.module_id() {
        json["moduleId"] = module_id.into();
        json["managedBy"] = Value::Null;
    } else {
        json["status"] = identity.status.text().into();
        json["statusReason"] = identity.status_reason.clone().into();
        json["statusUpdatedTime"] = time_text(identity.status_updated_ms).into();
        json["capabilities"] = json!({ "iotEdge": false });
    }
    json
}
