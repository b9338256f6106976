//! The origin at which a relay is reached.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// Origin of a relay: `https://host[:port]` or `http://host[:port]`, with or without a slash at the end.
///
/// A path is not part of it. The relay serves at the root of its origin, and published clients of ux4iot keep a path
/// for some calls and drop it for others.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Why a text is no [`Endpoint`]. No variant repeats the text, which may hold credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL, for the reason named.
    #[error("it is no URL ({0}); write an origin such as https://host or http://host:8080")]
    NoUrl(String),
    /// It has a scheme other than `http` and `https`.
    #[error("its scheme must be http or https")]
    Scheme,
    /// It has a user name or a password.
    #[error("it must not contain a user name or password")]
    Credentials,
    /// It has a path.
    #[error("it must not have a path")]
    Path,
    /// It has a query or a fragment.
    #[error("it must not have a query or fragment")]
    QueryOrFragment,
}

impl Endpoint {
    /// The origin with a slash at its end.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The URL below the origin whose path has these segments, each percent-encoded as far as needed.
    pub(crate) fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("an HTTP origin has a path")
            .clear()
            .extend(segments);
        url
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text).map_err(|error| EndpointError::NoUrl(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Credentials);
        }
        if url.path() != "/" {
            return Err(EndpointError::Path);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::QueryOrFragment);
        }
        Ok(Self(url))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_with_and_without_a_slash() {
        for text in [
            "https://relay.example",
            "https://relay.example/",
            "http://[::1]:8080",
        ] {
            assert!(text.parse::<Endpoint>().is_ok(), "{text}");
        }
    }

    #[test]
    fn whatever_is_no_origin_is_refused_for_its_own_reason() {
        for (text, reason) in [
            ("ftp://relay.example", EndpointError::Scheme),
            ("localhost:8080", EndpointError::Scheme),
            ("https://user@relay.example", EndpointError::Credentials),
            ("https://:secret@relay.example", EndpointError::Credentials),
            ("https://relay.example/path", EndpointError::Path),
            ("https://relay.example?q", EndpointError::QueryOrFragment),
            ("https://relay.example#f", EndpointError::QueryOrFragment),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(reason), "{text}");
        }
        for text in ["relay.example", "https://", "https://relay.example:x"] {
            let refused = text.parse::<Endpoint>();
            assert!(matches!(refused, Err(EndpointError::NoUrl(_))), "{text}");
        }
    }

    #[test]
    fn a_name_is_escaped_as_one_path_segment() {
        let endpoint: Endpoint = "http://relay.example:8080".parse().unwrap();
        assert_eq!(
            endpoint.join(&["lastValue", "a/b %c", "k?#"]).as_str(),
            "http://relay.example:8080/lastValue/a%2Fb%20%25c/k%3F%23"
        );
    }
}
