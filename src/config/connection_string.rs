//! The connection strings of Event Hubs and of the IoT Hub service.
//!
//! Both are `Name=Value` pairs joined by `;`. A pair is split at its first `=`, because keys end in base64 padding;
//! blanks around names and values do not count, nor do empty pairs; names are compared without regard to case, and
//! unknown ones are ignored. Error messages name parts, never their values.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::secret::{MASK, Secret};

const AMQP_PORT: u16 = 5672;
const AMQPS_PORT: u16 = 5671;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Where an event hub is, and how to be admitted to it.
///
/// `Endpoint=sb://<host>[:port]/;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=<event hub>`, with
/// `SharedAccessSignature=…` in place of name and key when a token was issued beforehand, and
/// `UseDevelopmentEmulator=true` for a stand-in without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHubConnectionString {
    /// Host name or address, without port; an IPv6 address without its brackets.
    pub host: String,
    /// The port, when the endpoint names one.
    pub port: Option<u16>,
    /// The event hub (`EntityPath`).
    pub event_hub: String,
    /// How to be admitted.
    pub credential: EventHubCredential,
    /// Whether the other end is a stand-in that speaks plain TCP.
    pub development_emulator: bool,
}

/// What an event hub accepts as proof of a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventHubCredential {
    /// A policy and its key, from which tokens are signed and renewed. The text of the key signs as it is, without
    /// decoding.
    SharedAccessKey {
        /// Name of the policy.
        name: String,
        /// Its key.
        key: Secret,
    },
    /// A token issued beforehand, beginning with `SharedAccessSignature sr=`. It cannot be renewed.
    SharedAccessSignature(Secret),
}

impl EventHubCredential {
    /// Whether new tokens can be signed.
    pub fn is_renewable(&self) -> bool {
        match self {
            Self::SharedAccessKey { .. } => true,
            Self::SharedAccessSignature(_) => false,
        }
    }
}

impl EventHubConnectionString {
    /// Whether the connection is made with TLS.
    pub fn uses_tls(&self) -> bool {
        !self.development_emulator
    }

    /// The port for AMQP over TCP.
    pub fn amqp_port(&self) -> u16 {
        let default = if self.uses_tls() {
            AMQPS_PORT
        } else {
            AMQP_PORT
        };
        self.port.unwrap_or(default)
    }

    /// The port for AMQP over WebSocket.
    pub fn websocket_port(&self) -> u16 {
        let default = if self.uses_tls() {
            HTTPS_PORT
        } else {
            HTTP_PORT
        };
        self.port.unwrap_or(default)
    }
}

impl FromStr for EventHubConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, ConnectionStringError> {
        let mut parts = Parts::parse(text)?;
        let Some(endpoint) = parts.take("Endpoint") else {
            return Err(if parts.has("HostName") {
                ConnectionStringError::IotHubGivenForEventHub
            } else {
                ConnectionStringError::MissingPart("Endpoint")
            });
        };
        let (host, port) = parse_endpoint(endpoint)?;
        let event_hub = parts
            .take("EntityPath")
            .ok_or(ConnectionStringError::MissingPart("EntityPath"))?
            .to_owned();
        let development_emulator = match parts.take("UseDevelopmentEmulator") {
            None => false,
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            Some(value) if value.eq_ignore_ascii_case("false") => false,
            Some(_) => return Err(ConnectionStringError::InvalidEmulatorFlag),
        };
        let name = parts.take("SharedAccessKeyName");
        let key = parts.take("SharedAccessKey");
        let signature = parts.take("SharedAccessSignature");
        let credential = match (name, key, signature) {
            (None, None, Some(token)) => {
                EventHubCredential::SharedAccessSignature(Secret::new(token))
            }
            (_, _, Some(_)) => return Err(ConnectionStringError::KeyAndSignature),
            (Some(name), Some(key), None) => EventHubCredential::SharedAccessKey {
                name: name.to_owned(),
                key: Secret::new(key),
            },
            (None, _, None) => {
                return Err(ConnectionStringError::MissingPart("SharedAccessKeyName"));
            }
            (Some(_), None, None) => {
                return Err(ConnectionStringError::MissingPart("SharedAccessKey"));
            }
        };
        Ok(Self {
            host,
            port,
            event_hub,
            credential,
            development_emulator,
        })
    }
}

/// Where the service REST API of an IoT hub is, and the policy that opens it:
/// `HostName=<host>[:port];SharedAccessKeyName=<policy>;SharedAccessKey=<base64>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotHubConnectionString {
    /// Host name or address, without port; an IPv6 address without its brackets.
    pub host: String,
    /// The port, when `HostName` carries one.
    pub port: Option<u16>,
    /// Name of the policy; it needs the rights *registry read* and *service connect*.
    pub policy: String,
    /// Its key in base64; tokens are signed with the decoded bytes.
    pub key: Secret,
}

impl IotHubConnectionString {
    /// The HTTPS port.
    pub fn https_port(&self) -> u16 {
        self.port.unwrap_or(HTTPS_PORT)
    }

    /// The decoded key.
    pub fn key_bytes(&self) -> Vec<u8> {
        STANDARD
            .decode(self.key.expose())
            .expect("the key was decoded once when the connection string was parsed")
    }
}

impl FromStr for IotHubConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, ConnectionStringError> {
        let mut parts = Parts::parse(text)?;
        let Some(host_name) = parts.take("HostName") else {
            return Err(if parts.has("Endpoint") {
                ConnectionStringError::EventHubGivenForIotHub
            } else {
                ConnectionStringError::MissingPart("HostName")
            });
        };
        if parts.has("DeviceId") || parts.has("ModuleId") {
            return Err(ConnectionStringError::DeviceGivenForService);
        }
        let (host, port) = parse_host_and_port(host_name, "HostName")?;
        let policy = parts
            .take("SharedAccessKeyName")
            .ok_or(ConnectionStringError::MissingPart("SharedAccessKeyName"))?;
        let key = parts
            .take("SharedAccessKey")
            .ok_or(ConnectionStringError::MissingPart("SharedAccessKey"))?;
        if STANDARD.decode(key).is_err() {
            return Err(ConnectionStringError::KeyNotBase64);
        }
        Ok(Self {
            host,
            port,
            policy: policy.to_owned(),
            key: Secret::new(key),
        })
    }
}

/// Why a text is not the connection string it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// There is no text.
    #[error("it is empty")]
    Empty,
    /// Something between two `;` is not a pair.
    #[error("part {position} has no `=`; expected `Name=Value` pairs joined by `;`")]
    NotAPair {
        /// Its place, counted from one, empty parts included.
        position: usize,
    },
    /// A name that matters occurs twice.
    #[error("`{0}` is given twice")]
    DuplicatePart(&'static str),
    /// A required part is absent or empty.
    #[error("`{0}` is missing")]
    MissingPart(&'static str),
    /// The endpoint is no `sb://` address.
    #[error("`Endpoint` must have the form `sb://<host>[:port]/`")]
    InvalidEndpoint,
    /// A host name or port is unusable.
    #[error("`{0}` does not hold a host name and, if any, a port from 1 to 65535")]
    InvalidHost(&'static str),
    /// The emulator flag is neither true nor false.
    #[error("`UseDevelopmentEmulator` must be `true` or `false`")]
    InvalidEmulatorFlag,
    /// Two kinds of credential at once.
    #[error("`SharedAccessSignature` excludes `SharedAccessKeyName` and `SharedAccessKey`")]
    KeyAndSignature,
    /// The key of an IoT hub policy is not base64.
    #[error("`SharedAccessKey` is not valid base64")]
    KeyNotBase64,
    /// The string of an IoT hub was given where that of an event hub belongs.
    #[error(
        "this is the connection string of an IoT hub (it has `HostName`); needed is the Event Hub-compatible one, which begins with `Endpoint=sb://` (in the Azure portal under Built-in endpoints)"
    )]
    IotHubGivenForEventHub,
    /// The string of an event hub was given where that of an IoT hub belongs.
    #[error(
        "this is the connection string of an event hub (it has `Endpoint`); needed is that of a service policy of the IoT hub, which begins with `HostName=`"
    )]
    EventHubGivenForIotHub,
    /// The string of a device was given where that of the service belongs.
    #[error(
        "this is the connection string of a device or module; needed is that of a service policy of the IoT hub, with `SharedAccessKeyName`"
    )]
    DeviceGivenForService,
}

/// A connection string with every value hidden that is not known to be harmless.
pub fn masked(text: &str) -> String {
    const SHOWN: [&str; 5] = [
        "Endpoint",
        "EntityPath",
        "HostName",
        "SharedAccessKeyName",
        "UseDevelopmentEmulator",
    ];
    const HIDDEN: [&str; 2] = ["SharedAccessKey", "SharedAccessSignature"];

    let mask = |part: &str| {
        let part = part.trim();
        let name = part.split_once('=').map_or("", |(name, _)| name.trim());
        let named = |known: &&str| name.eq_ignore_ascii_case(known);
        if part.is_empty() || SHOWN.iter().any(named) {
            part.to_owned()
        } else if HIDDEN.iter().any(named) {
            format!("{name}={MASK}")
        } else {
            MASK.to_owned()
        }
    };
    text.split(';').map(mask).collect::<Vec<_>>().join(";")
}

/// Every name that says something here.
const KNOWN: [&str; 9] = [
    "DeviceId",
    "Endpoint",
    "EntityPath",
    "HostName",
    "ModuleId",
    "SharedAccessKey",
    "SharedAccessKeyName",
    "SharedAccessSignature",
    "UseDevelopmentEmulator",
];

/// The pairs of a connection string by their name in [`KNOWN`]; empty values count as absent.
struct Parts<'a>(BTreeMap<&'static str, &'a str>);

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Result<Self, ConnectionStringError> {
        if text.split(';').all(|pair| pair.trim().is_empty()) {
            return Err(ConnectionStringError::Empty);
        }
        let mut parts = BTreeMap::new();
        for (index, pair) in text.split(';').enumerate() {
            if pair.trim().is_empty() {
                continue;
            }
            let (name, value) = pair
                .split_once('=')
                .filter(|(name, _)| !name.trim().is_empty())
                .ok_or(ConnectionStringError::NotAPair {
                    position: index + 1,
                })?;
            let name = name.trim();
            // What is no known name may be a stray piece of a key, so it must not get into an error.
            let Some(known) = KNOWN.iter().find(|known| name.eq_ignore_ascii_case(known)) else {
                continue;
            };
            if parts.insert(*known, value.trim()).is_some() {
                return Err(ConnectionStringError::DuplicatePart(known));
            }
        }
        Ok(Self(parts))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }
}

fn parse_endpoint(endpoint: &str) -> Result<(String, Option<u16>), ConnectionStringError> {
    const SCHEME: &str = "sb://";
    let (scheme, authority) = endpoint
        .split_at_checked(SCHEME.len())
        .ok_or(ConnectionStringError::InvalidEndpoint)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(ConnectionStringError::InvalidEndpoint);
    }
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    parse_host_and_port(authority, "Endpoint")
}

fn parse_host_and_port(
    authority: &str,
    named: &'static str,
) -> Result<(String, Option<u16>), ConnectionStringError> {
    let invalid = || ConnectionStringError::InvalidHost(named);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(invalid)?;
            host.parse::<Ipv6Addr>().map_err(|_| invalid())?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(invalid()),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    if !is_name(host) && host.parse::<Ipv6Addr>().is_err() {
        return Err(invalid());
    }
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(
            digits
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(invalid)?,
        ),
        Some(_) => return Err(invalid()),
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for EventHubConnectionString {
    /// Where it leads, without credentials: for logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sb://{}", self.host)?;
        if let Some(port) = self.port {
            write!(formatter, ":{port}")?;
        }
        write!(formatter, "/{}", self.event_hub)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "(?s).{0,80}", name in "[A-Za-z]{0,20}") {
            for text in [
                text.clone(),
                format!("Endpoint={text}"),
                format!("Endpoint=sb://{text}"),
                format!("HostName=h;{name}={text};{text}"),
            ] {
                let _ = text.parse::<EventHubConnectionString>();
                let _ = text.parse::<IotHubConnectionString>();
                masked(&text);
            }
        }

        #[test]
        fn neither_masked_text_nor_errors_show_a_key(key in "[A-Za-z0-9+/]{12,44}={0,2}", misspelt in "[A-Z][a-z]{3,12}") {
            for text in [
                format!("Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey={key}"),
                format!("HostName=h;SharedAccessKeyName=n;sharedAccessKey = {key}"),
                format!("Endpoint=sb://h/;{misspelt}={key}"),
                format!("Endpoint=sb://h/;{key}"),
                format!("Endpoint=sb://h/;{key};{key}"),
                key.clone(),
            ] {
                prop_assert!(!masked(&text).contains(&key));
                for error in [
                    text.parse::<EventHubConnectionString>().err(),
                    text.parse::<IotHubConnectionString>().err(),
                ].into_iter().flatten() {
                    prop_assert!(!error.to_string().contains(&key), "{error}");
                }
            }
        }
    }

    const BUILT_IN: &str = "Endpoint=sb://ihsuprodblres055dednamespace.servicebus.windows.net/;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0PT0=;EntityPath=iothub-ehub-plant-1-2a";

    fn event_hub_error(text: &str) -> ConnectionStringError {
        text.parse::<EventHubConnectionString>()
            .expect_err("the text is malformed")
    }

    fn iot_hub_error(text: &str) -> ConnectionStringError {
        text.parse::<IotHubConnectionString>()
            .expect_err("the text is malformed")
    }

    #[test]
    fn the_built_in_endpoint_is_read() {
        let parsed: EventHubConnectionString = BUILT_IN.parse().unwrap();
        assert_eq!(
            parsed.host,
            "ihsuprodblres055dednamespace.servicebus.windows.net"
        );
        assert_eq!(parsed.event_hub, "iothub-ehub-plant-1-2a");
        assert_eq!(
            parsed.credential,
            EventHubCredential::SharedAccessKey {
                name: "service".into(),
                key: Secret::new("c2VjcmV0PT0="),
            }
        );
        assert!(parsed.uses_tls());
        assert_eq!((parsed.amqp_port(), parsed.websocket_port()), (5671, 443));
    }

    #[test]
    fn the_emulator_flag_turns_tls_off_and_the_port_is_honoured() {
        let parsed: EventHubConnectionString = "Endpoint=sb://localhost;SharedAccessKeyName=Root;SharedAccessKey=k;UseDevelopmentEmulator=true;EntityPath=hub".parse().unwrap();
        assert!(!parsed.uses_tls());
        assert_eq!((parsed.amqp_port(), parsed.websocket_port()), (5672, 80));

        let parsed: EventHubConnectionString = "Endpoint=sb://[::1]:6000/;SharedAccessKeyName=Root;SharedAccessKey=k;UseDevelopmentEmulator=false;EntityPath=hub".parse().unwrap();
        assert!(parsed.uses_tls());
        assert_eq!(parsed.host, "::1");
        assert_eq!((parsed.amqp_port(), parsed.websocket_port()), (6000, 6000));
    }

    #[test]
    fn case_of_names_blanks_order_and_empty_pairs_do_not_matter() {
        let parsed: EventHubConnectionString = " entitypath = hub ;; SHAREDACCESSKEY=a=b==; SharedAccessKeyName = n;endpoint=SB://h:1/ ; TransportType=Amqp; ".parse().unwrap();
        assert_eq!(parsed.to_string(), "sb://h:1/hub");
        assert_eq!(
            parsed.credential,
            EventHubCredential::SharedAccessKey {
                name: "n".into(),
                key: Secret::new("a=b=="),
            }
        );
    }

    #[test]
    fn a_ready_token_is_read_and_excludes_a_key() {
        let text = "Endpoint=sb://h/;EntityPath=e;SharedAccessSignature=SharedAccessSignature sr=sb%3a%2f%2fh&sig=x%3d&se=1&skn=n";
        let parsed: EventHubConnectionString = text.parse().unwrap();
        assert_eq!(
            parsed.credential,
            EventHubCredential::SharedAccessSignature(Secret::new(
                "SharedAccessSignature sr=sb%3a%2f%2fh&sig=x%3d&se=1&skn=n"
            ))
        );
        assert_eq!(
            event_hub_error(&format!("{text};SharedAccessKey=k")),
            ConnectionStringError::KeyAndSignature
        );
    }

    #[test]
    fn each_malformed_event_hub_string_says_what_is_wrong() {
        use ConnectionStringError as E;
        let cases = [
            ("", E::Empty),
            (" ; ;", E::Empty),
            ("Endpoint=sb://h/;nonsense", E::NotAPair { position: 2 }),
            ("=x", E::NotAPair { position: 1 }),
            (
                "Endpoint=sb://h/;endpoint=sb://g/",
                E::DuplicatePart("Endpoint"),
            ),
            ("EntityPath=e", E::MissingPart("Endpoint")),
            (
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=k",
                E::MissingPart("EntityPath"),
            ),
            (
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=;EntityPath=e",
                E::MissingPart("SharedAccessKey"),
            ),
            (
                "Endpoint=sb://h/;SharedAccessKey=k;EntityPath=e",
                E::MissingPart("SharedAccessKeyName"),
            ),
            (
                "Endpoint=localhost:5672;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e",
                E::InvalidEndpoint,
            ),
            (
                "Endpoint=sb:/é;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e",
                E::InvalidEndpoint,
            ),
            (
                "Endpoint=sb://;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e",
                E::InvalidHost("Endpoint"),
            ),
            (
                "Endpoint=sb://h:70000/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e",
                E::InvalidHost("Endpoint"),
            ),
            (
                "Endpoint=sb://h:0/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e",
                E::InvalidHost("Endpoint"),
            ),
            (
                "Endpoint=sb://user@h/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e",
                E::InvalidHost("Endpoint"),
            ),
            (
                "Endpoint=sb://h/path;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e",
                E::InvalidHost("Endpoint"),
            ),
            (
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=e;UseDevelopmentEmulator=yes",
                E::InvalidEmulatorFlag,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(event_hub_error(text), expected, "{text}");
        }
    }

    #[test]
    fn a_string_of_the_wrong_service_is_recognised() {
        let error = event_hub_error("HostName=h;SharedAccessKeyName=n;SharedAccessKey=a2V5");
        assert_eq!(error, ConnectionStringError::IotHubGivenForEventHub);
        assert!(error.to_string().contains("Built-in endpoints"));
        assert_eq!(
            iot_hub_error(BUILT_IN),
            ConnectionStringError::EventHubGivenForIotHub
        );
        assert_eq!(
            iot_hub_error("HostName=h;DeviceId=d;SharedAccessKey=a2V5"),
            ConnectionStringError::DeviceGivenForService
        );
    }

    #[test]
    fn the_service_string_is_read_with_or_without_port() {
        let parsed: IotHubConnectionString =
            "HostName=plant.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=a2V5"
                .parse()
                .unwrap();
        assert_eq!(parsed.host, "plant.azure-devices.net");
        assert_eq!(parsed.policy, "service");
        assert_eq!(parsed.https_port(), 443);
        assert_eq!(parsed.key_bytes(), b"key");

        let parsed: IotHubConnectionString =
            "HostName=localhost:8443;SharedAccessKeyName=service;SharedAccessKey=a2V5"
                .parse()
                .unwrap();
        assert_eq!(
            (parsed.host.as_str(), parsed.https_port()),
            ("localhost", 8443)
        );
    }

    #[test]
    fn each_malformed_service_string_says_what_is_wrong() {
        use ConnectionStringError as E;
        let cases = [
            ("", E::Empty),
            ("nonsense", E::NotAPair { position: 1 }),
            ("SharedAccessKeyName=n", E::MissingPart("HostName")),
            (
                "HostName=h;SharedAccessKey=a2V5",
                E::MissingPart("SharedAccessKeyName"),
            ),
            (
                "HostName=h;SharedAccessKeyName=n",
                E::MissingPart("SharedAccessKey"),
            ),
            (
                "HostName=h;SharedAccessKeyName=n;SharedAccessKey=not base64!",
                E::KeyNotBase64,
            ),
            (
                "HostName=h:port;SharedAccessKeyName=n;SharedAccessKey=a2V5",
                E::InvalidHost("HostName"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(iot_hub_error(text), expected, "{text}");
        }
    }

    #[test]
    fn masking_hides_keys_tokens_and_whatever_is_not_known() {
        assert_eq!(
            masked(BUILT_IN),
            "Endpoint=sb://ihsuprodblres055dednamespace.servicebus.windows.net/;SharedAccessKeyName=service;SharedAccessKey=***;EntityPath=iothub-ehub-plant-1-2a"
        );
        assert_eq!(
            masked("sharedaccesskey=k;SharedAccessSignature=t;SharedAccesKey=typo;bare;"),
            "sharedaccesskey=***;SharedAccessSignature=***;***;***;"
        );
    }

    #[test]
    fn debug_and_display_show_no_key() {
        let parsed: EventHubConnectionString = BUILT_IN.parse().unwrap();
        assert!(!format!("{parsed:?} {parsed}").contains("c2VjcmV0"));
        let parsed: IotHubConnectionString =
            "HostName=h;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0"
                .parse()
                .unwrap();
        assert!(!format!("{parsed:?}").contains("c2VjcmV0"));
    }
}
