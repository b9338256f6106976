//! Who a client says that it is: the client id, username and password of a CONNECT.
//!
//! The client id is `device` or `device/module`. The username repeats it between the hub's host name and
//! `?api-version=…`; the slash before the question mark may be missing. Whatever name or port a client
//! knows the hub by, it is this hub. See "Communicate with an IoT hub using the MQTT protocol" in the Azure documentation.

use percent_encoding::percent_decode_str;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode};

use crate::iot_hub::IdentityId;

/// What a CONNECT says about the client, not proven yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Who connects.
    pub(crate) identity: IdentityId,
    /// The Plug-and-Play model of the device.
    pub(crate) model_id: Option<String>,
}

/// Why a CONNECT claims nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The client id cannot be one.
    #[error("the client id is not the id of a device, nor of a device and a module")]
    ClientId,
    /// The username has another form.
    #[error("the username is not host/client id/?api-version=date")]
    Username,
    /// The username names somebody else.
    #[error("the username does not repeat the client id")]
    OtherIdentity,
    /// The username asks for no version of the API.
    #[error("the username has no api-version of the form yyyy-mm-dd")]
    ApiVersion,
}

impl Error {
    /// How the client is told.
    pub(crate) fn return_code(self) -> ConnectReturnCode {
        match self {
            Self::ClientId => ConnectReturnCode::BadClientId,
            Self::Username | Self::ApiVersion => ConnectReturnCode::BadUserNamePassword,
            Self::OtherIdentity => ConnectReturnCode::NotAuthorized,
        }
    }
}

impl Claim {
    /// Reads the claim of a CONNECT.
    pub(crate) fn parse(connect: &Connect) -> Result<Self, Error> {
        let (device_id, module_id) = match connect.client_id.split_once('/') {
            Some((device_id, module_id)) => (device_id, Some(module_id.to_owned())),
            None => (connect.client_id.as_str(), None),
        };
        let identity = IdentityId::new(device_id, module_id).map_err(|_| Error::ClientId)?;
        let username = connect.login.as_ref().map(|login| login.username.as_str());
        let (path, query) = username
            .and_then(|username| username.split_once('?'))
            .ok_or(Error::Username)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let (host, client_id) = path.split_once('/').ok_or(Error::Username)?;
        if host.is_empty() {
            return Err(Error::Username);
        }
        if client_id != connect.client_id {
            return Err(Error::OtherIdentity);
        }
        let field = |name| {
            let mut fields = query.split('&').filter_map(|field| field.split_once('='));
            let (_, value) = fields.find(|(own, _)| *own == name)?;
            Some(value)
        };
        if !field("api-version").is_some_and(is_api_version) {
            return Err(Error::ApiVersion);
        }
        let model_id =
            field("model-id").map(|id| percent_decode_str(id).decode_utf8_lossy().into_owned());
        Ok(Self { identity, model_id })
    }
}

/// `2021-04-12`, with or without a word such as `-preview` after it.
fn is_api_version(text: &str) -> bool {
    let Some((date, word)) = text.split_at_checked(10) else {
        return false;
    };
    let is_date = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_date && (word.is_empty() || word.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(client_id: &str, username: &str) -> Result<Claim, Error> {
        let mut connect = Connect::new(client_id);
        connect.set_login(username, "token");
        Claim::parse(&connect)
    }

    #[test]
    fn devices_and_modules_claim_what_their_sdks_write() {
        let device = IdentityId::device("press-01").unwrap();
        let module = IdentityId::module("press-01", "plc").unwrap();
        for (client_id, username, identity) in [
            (
                "press-01",
                "localhost:8883/press-01/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4",
                &device,
            ),
            (
                "press-01",
                "localhost/press-01?api-version=2019-10-01",
                &device,
            ),
            (
                "press-01/plc",
                "localhost/press-01/plc/?model-id=dtmi%3Ax%3B1&api-version=2020-05-31-preview",
                &module,
            ),
        ] {
            let expected = Claim {
                identity: identity.clone(),
                model_id: identity.module_id().map(|_| "dtmi:x;1".to_owned()),
            };
            assert_eq!(claim(client_id, username), Ok(expected));
        }
    }

    #[test]
    fn each_fault_has_its_code() {
        use ConnectReturnCode::{BadClientId, BadUserNamePassword, NotAuthorized};
        for (client_id, username, code) in [
            ("", "h/?api-version=2021-04-12", BadClientId),
            ("a/b/c", "h/a/b/c/?api-version=2021-04-12", BadClientId),
            ("a b", "h/a b/?api-version=2021-04-12", BadClientId),
            ("a", "", BadUserNamePassword),
            ("a", "h/a/", BadUserNamePassword),
            ("a", "h?api-version=2021-04-12", BadUserNamePassword),
            ("a", "/a/?api-version=2021-04-12", BadUserNamePassword),
            ("a", "h/a/?api-version=", BadUserNamePassword),
            ("a", "h/a/?api-version=latest", BadUserNamePassword),
            ("a", "h/a/?api-version=2021-04-12x", BadUserNamePassword),
            ("a", "h/b/?api-version=2021-04-12", NotAuthorized),
            ("a", "h/a/m/?api-version=2021-04-12", NotAuthorized),
            ("a", "h/A/?api-version=2021-04-12", NotAuthorized),
        ] {
            let error = claim(client_id, username).unwrap_err();
            assert_eq!(error.return_code(), code, "{client_id:?} {username:?}");
        }
        assert_eq!(Claim::parse(&Connect::new("a")), Err(Error::Username));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(client_id in ".*", username in ".*") {
            let _ = claim(&client_id, &username);
            let _ = claim("a", &format!("h/a/?{username}"));
            let _ = claim("a", &format!("h/a/?api-version={username}"));
        }
    }
}
