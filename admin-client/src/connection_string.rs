//! The connection string of a security backend.

use std::{fmt, str::FromStr};

use reqwest::header::HeaderValue;

use crate::{Endpoint, EndpointError};

/// Where the relay is and the key that administers it: `Endpoint=https://host[:port];SharedAccessKey=<key>`.
///
/// Read as the published clients of ux4iot read it: parts are separated by `;` and may come in any order; the first
/// `=` of a part ends its name, so keys may contain `=`; parts without `=` and unknown names are ignored; names are
/// case-sensitive; of a name that comes twice the last counts.
///
/// ```
/// use admin_client::{ConnectionString, ConnectionStringError};
///
/// let connection: ConnectionString = "Endpoint=https://relay.example;SharedAccessKey=a2V5Cg==".parse()?;
/// assert_eq!(connection.endpoint.as_str(), "https://relay.example/");
/// assert!(!format!("{connection:?}").contains("a2V5"));
///
/// let refused = "HostName=relay.example;Key=a2V5Cg==".parse::<ConnectionString>();
/// assert_eq!(refused, Err(ConnectionStringError::Missing("Endpoint")));
/// # Ok::<(), ConnectionStringError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionString {
    /// Origin of the relay.
    pub endpoint: Endpoint,
    /// The primary or the secondary key.
    pub shared_access_key: SharedAccessKey,
}

/// A shared access key. `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedAccessKey(HeaderValue);

impl SharedAccessKey {
    /// A key as the relay is configured with it: visible ASCII characters, at least one.
    pub fn new(key: &str) -> Result<Self, InvalidSharedAccessKey> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidSharedAccessKey);
        }
        let mut header = HeaderValue::from_str(key).map_err(|_| InvalidSharedAccessKey)?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// The value of the header that carries the key, marked as sensitive.
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedAccessKey(masked)")
    }
}

/// A key is empty, or holds characters that no HTTP header carries unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shared access key consists of visible ASCII characters, at least one")]
pub struct InvalidSharedAccessKey;

/// Why a connection string was refused. No variant repeats the string, which holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// A required part is absent or empty.
    #[error(
        "the connection string has no {0}; the form is Endpoint=https://host[:port];SharedAccessKey=key"
    )]
    Missing(&'static str),
    /// The endpoint is no HTTP origin.
    #[error("the Endpoint of the connection string is refused: {0}")]
    Endpoint(#[from] EndpointError),
    /// The key cannot be sent.
    #[error("the SharedAccessKey of the connection string is refused: {0}")]
    SharedAccessKey(#[from] InvalidSharedAccessKey),
}

impl FromStr for ConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |wanted: &'static str| {
            text.split(';')
                .filter_map(|part| part.split_once('='))
                .rfind(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
                .filter(|value| !value.is_empty())
                .ok_or(ConnectionStringError::Missing(wanted))
        };
        Ok(Self {
            endpoint: part("Endpoint")?.parse()?,
            shared_access_key: SharedAccessKey::new(part("SharedAccessKey")?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parsed: &ConnectionString) -> &str {
        parsed.shared_access_key.0.to_str().unwrap()
    }

    #[test]
    fn order_padding_and_foreign_parts_do_not_matter() {
        let parsed: ConnectionString =
            "SharedAccessKey=a=b==;noise;X=y;Endpoint=https://relay.example:8443/;"
                .parse()
                .unwrap();
        assert_eq!(parsed.endpoint.as_str(), "https://relay.example:8443/");
        assert_eq!(key(&parsed), "a=b==");
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_counts() {
        let parsed: ConnectionString =
            "Endpoint=x;SharedAccessKey=old;Endpoint=https://relay.example;SharedAccessKey=new"
                .parse()
                .unwrap();
        assert_eq!(key(&parsed), "new");
    }

    #[test]
    fn both_parts_are_required() {
        for (text, missing) in [
            ("", "Endpoint"),
            ("SharedAccessKey=k", "Endpoint"),
            ("Endpoint=https://relay.example", "SharedAccessKey"),
            (
                "Endpoint=https://relay.example;SharedAccessKey=",
                "SharedAccessKey",
            ),
            (
                "endpoint=https://relay.example;SharedAccessKey=k",
                "Endpoint",
            ),
            ("HostName=relay.example;Key=k", "Endpoint"),
        ] {
            assert_eq!(
                text.parse::<ConnectionString>(),
                Err(ConnectionStringError::Missing(missing)),
                "{text}"
            );
        }
    }

    #[test]
    fn an_endpoint_that_is_no_origin_is_refused() {
        let refused = "Endpoint=https://relay.example/path;SharedAccessKey=k".parse();
        let refused: Result<ConnectionString, _> = refused;
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the Endpoint of the connection string is refused: it must not have a path"
        );
    }

    #[test]
    fn a_key_that_no_header_carries_is_refused_without_being_shown() {
        for key in ["hidden\n", "hidden key", "hiddén"] {
            let text = format!("Endpoint=https://relay.example;SharedAccessKey={key}");
            let refused = text.parse::<ConnectionString>().unwrap_err();
            assert_eq!(
                refused,
                ConnectionStringError::SharedAccessKey(InvalidSharedAccessKey)
            );
            assert!(!format!("{refused:?} {refused}").contains("hid"));
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let parsed: ConnectionString = "Endpoint=https://relay.example;SharedAccessKey=hidden"
            .parse()
            .unwrap();
        assert!(!format!("{parsed:?}").contains("hidden"));
    }
}
