//! The connection string of a security backend.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// Where the relay is and the key that administers it: `Endpoint=https://host[:port];SharedAccessKey=<key>`.
///
/// Parts are separated by `;` and may come in any order; the first `=` of a part ends its name, so keys may contain
/// `=`. Parts without `=` and unknown names are ignored. Names are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionString {
    /// Origin of the relay; a path is not part of it.
    pub endpoint: Url,
    /// The primary or the secondary key.
    pub shared_access_key: SharedAccessKey,
}

/// A shared access key. `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedAccessKey(String);

impl SharedAccessKey {
    /// The key itself, for the header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SharedAccessKey {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedAccessKey(masked)")
    }
}

/// Why a connection string was refused. No variant repeats the string, which holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// A required part is absent or empty.
    #[error(
        "the connection string has no {0}; the form is Endpoint=https://host[:port];SharedAccessKey=key"
    )]
    Missing(&'static str),
    /// The endpoint is no HTTP origin.
    #[error(
        "the Endpoint of the connection string must be an origin such as https://host or http://host:8080"
    )]
    Endpoint,
}

impl FromStr for ConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |wanted: &'static str| {
            text.split(';')
                .filter_map(|part| part.split_once('='))
                .find_map(|(name, value)| (name == wanted && !value.is_empty()).then_some(value))
                .ok_or(ConnectionStringError::Missing(wanted))
        };
        let endpoint = Url::parse(part("Endpoint")?)
            .ok()
            .filter(is_origin)
            .ok_or(ConnectionStringError::Endpoint)?;
        let shared_access_key = SharedAccessKey(part("SharedAccessKey")?.to_owned());
        Ok(Self {
            endpoint,
            shared_access_key,
        })
    }
}

fn is_origin(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_padding_and_foreign_parts_do_not_matter() {
        let parsed: ConnectionString =
            "SharedAccessKey=a=b==;noise;X=y;Endpoint=https://relay.example:8443/"
                .parse()
                .unwrap();
        assert_eq!(parsed.endpoint.as_str(), "https://relay.example:8443/");
        assert_eq!(parsed.shared_access_key.expose(), "a=b==");
    }

    #[test]
    fn both_parts_are_required() {
        for (text, missing) in [
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
        for endpoint in [
            "relay.example",
            "ftp://relay.example",
            "https://relay.example/path",
        ] {
            assert_eq!(
                format!("Endpoint={endpoint};SharedAccessKey=k").parse::<ConnectionString>(),
                Err(ConnectionStringError::Endpoint),
                "{endpoint}"
            );
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
