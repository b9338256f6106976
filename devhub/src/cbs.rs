//! Claims-based security (`$cbs`): tokens that a connection was given, and what they open.

use std::time::Duration;

use crate::{
    address::Address,
    amqp::{
        codec::Value,
        error::{RESOURCE_LIMIT_EXCEEDED, UNAUTHORIZED_ACCESS},
        message::{Message, Reply},
    },
    sas::{self, SharedAccessKey},
};

/// Tokens one connection can hold: a link to each of 32 partitions in both directions, and ample room.
const TOKENS_MAX: usize = 256;

/// Who may connect.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) policy: String,
    pub(crate) key: SharedAccessKey,
    /// Takes every token without looking at it, for quick starts.
    pub(crate) accepts_any_token: bool,
}

/// The tokens of one connection, one for each audience.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: Vec<Token>,
}

#[derive(Debug)]
struct Token {
    audience: Address,
    scope: Address,
    expires_ms: i64,
}

/// Why a request was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status_code: i32,
    pub(crate) condition: &'static str,
    pub(crate) description: String,
}

impl Refusal {
    fn new(status_code: i32, condition: &'static str, description: impl Into<String>) -> Self {
        Self {
            status_code,
            condition,
            description: description.into(),
        }
    }

    pub(crate) fn unauthorized(description: impl Into<String>) -> Self {
        Self::new(401, UNAUTHORIZED_ACCESS, description)
    }

    fn bad_request(description: impl Into<String>) -> Self {
        Self::new(400, "amqp:invalid-field", description)
    }

    pub(crate) fn reply<'a>(&'a self, correlation_id: Option<&'a [u8]>) -> Reply<'a> {
        Reply {
            correlation_id,
            status_code: self.status_code,
            status_description: &self.description,
            error_condition: Some(self.condition),
            body: &[],
        }
    }
}

impl Tokens {
    /// Carries out a put-token request.
    pub(crate) fn put(
        &mut self,
        request: &Message<'_>,
        authority: &Authority,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let properties = request
            .application_properties
            .ok_or_else(|| Refusal::bad_request("the request has no application properties"))?;
        if properties.text("operation") != Some("put-token") {
            return Err(Refusal::bad_request("the operation must be put-token"));
        }
        let audience = properties
            .text("name")
            .map(Address::parse)
            .ok_or_else(|| Refusal::bad_request("the request has no name"))?;
        let Some(Value::String(token)) = request.value() else {
            return Err(Refusal::bad_request("the body must be the token, a string"));
        };
        let (scope, expires_ms) = if authority.accepts_any_token {
            (audience.clone(), i64::MAX)
        } else {
            if properties.text("type") != Some("servicebus.windows.net:sastoken") {
                return Err(Refusal::bad_request(
                    "the token type must be servicebus.windows.net:sastoken",
                ));
            }
            verify(token, &audience, authority, now_ms)?
        };
        self.held.retain(|token| token.audience != audience);
        if self.held.len() >= TOKENS_MAX {
            return Err(Refusal::new(
                403,
                RESOURCE_LIMIT_EXCEEDED,
                format!("QuotaExceeded: a connection holds at most {TOKENS_MAX} tokens."),
            ));
        }
        self.held.push(Token {
            audience,
            scope,
            expires_ms,
        });
        Ok(())
    }

    /// Whether a token that has not lapsed opens this place.
    pub(crate) fn open(&self, place: &Address, now_ms: i64) -> bool {
        self.held
            .iter()
            .any(|token| token.expires_ms > now_ms && token.scope.covers(place))
    }

    /// Whether there is any token that has not lapsed.
    pub(crate) fn any(&self, now_ms: i64) -> bool {
        self.held.iter().any(|token| token.expires_ms > now_ms)
    }

    /// When the next token lapses, or lapsed without being forgotten yet.
    pub(crate) fn next_expiry_ms(&self) -> Option<i64> {
        self.held.iter().map(|token| token.expires_ms).min()
    }

    /// Forgets lapsed tokens. What they opened is to be closed then.
    pub(crate) fn forget_lapsed(&mut self, now_ms: i64) {
        self.held.retain(|token| token.expires_ms > now_ms);
    }
}

fn verify(
    token: &str,
    audience: &Address,
    authority: &Authority,
    now_ms: i64,
) -> Result<(Address, i64), Refusal> {
    let now = Duration::from_millis(now_ms.try_into().unwrap_or(0));
    let claims =
        sas::verify(token, &authority.policy, &authority.key, now).map_err(
            |error| match error {
                sas::Error::Expired => Refusal::unauthorized("ExpiredToken: The token is expired."),
                sas::Error::InvalidSignature | sas::Error::UnknownPolicy => {
                    Refusal::unauthorized("InvalidSignature: The token has an invalid signature.")
                }
                sas::Error::Malformed => {
                    Refusal::unauthorized("MalformedToken: The token is not well-formed.")
                }
            },
        )?;
    let scope = Address::parse(&claims.resource);
    if !scope.covers(audience) {
        return Err(Refusal::unauthorized(
            "InvalidAudience: The authorization header contains a token with the incorrect audience.",
        ));
    }
    let expires_ms = i64::try_from(claims.expires.as_millis()).unwrap_or(i64::MAX);
    Ok((scope, expires_ms))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::amqp::codec::{put_descriptor, put_map, put_string};

    const NOW_MS: i64 = 1_000_000;

    fn authority() -> Authority {
        Authority {
            policy: "policy".into(),
            key: SharedAccessKey::new("key"),
            accepts_any_token: false,
        }
    }

    fn token(resource: &str, lifetime_seconds: u64) -> String {
        let authority = authority();
        let expires = Duration::from_secs(1_000 + lifetime_seconds);
        sas::sign(resource, &authority.policy, &authority.key, expires)
    }

    fn put(tokens: &mut Tokens, name: &str, token: &str) -> Result<(), Refusal> {
        put_with(tokens, name, token, &authority())
    }

    fn put_with(
        tokens: &mut Tokens,
        name: &str,
        token: &str,
        authority: &Authority,
    ) -> Result<(), Refusal> {
        let mut request = BytesMut::new();
        put_descriptor(&mut request, 0x74);
        put_map(&mut request, |out| {
            put_string(out, "operation");
            put_string(out, "put-token");
            put_string(out, "type");
            put_string(out, "servicebus.windows.net:sastoken");
            put_string(out, "name");
            put_string(out, name);
            3
        });
        put_descriptor(&mut request, 0x77);
        put_string(&mut request, token);
        tokens.put(&Message::decode(&request).unwrap(), authority, NOW_MS)
    }

    #[test]
    fn a_token_opens_its_scope_until_it_lapses() {
        let mut tokens = Tokens::default();
        let place = Address::parse("hub/Partitions/0");
        assert!(!tokens.open(&place, NOW_MS));
        put(&mut tokens, "sb://h/hub", &token("sb://h/hub", 60)).unwrap();
        assert!(tokens.open(&place, NOW_MS));
        assert!(!tokens.open(&Address::parse("other"), NOW_MS));
        assert!(!tokens.open(&place, NOW_MS + 60_000));
        assert_eq!(tokens.next_expiry_ms(), Some(NOW_MS + 60_000));
        tokens.forget_lapsed(NOW_MS + 59_999);
        assert!(tokens.any(NOW_MS));
        tokens.forget_lapsed(NOW_MS + 60_000);
        assert_eq!(tokens.next_expiry_ms(), None);
    }

    #[test]
    fn a_token_for_another_place_is_refused() {
        let mut tokens = Tokens::default();
        let refusal = put(&mut tokens, "sb://h/hub", &token("sb://h/other", 60)).unwrap_err();
        assert_eq!(refusal.status_code, 401);
        assert!(refusal.description.starts_with("InvalidAudience"));
        assert!(put(&mut tokens, "sb://h/hub", &token("sb://h/hub", 0)).is_err());
        assert!(put(&mut tokens, "sb://h/hub", "anything").is_err());
        assert!(!tokens.open(&Address::parse("hub"), NOW_MS));
    }

    #[test]
    fn any_token_does_when_that_is_switched_on() {
        let mut tokens = Tokens::default();
        let open = Authority {
            accepts_any_token: true,
            ..authority()
        };
        put_with(&mut tokens, "sb://h/hub", "anything", &open).unwrap();
        assert!(tokens.open(&Address::parse("hub"), NOW_MS));
    }

    #[test]
    fn the_number_of_tokens_is_bounded_and_renewal_takes_no_room() {
        let mut tokens = Tokens::default();
        for at in 0..TOKENS_MAX {
            put(
                &mut tokens,
                &format!("sb://h/hub/{at}"),
                &token("sb://h/", 60),
            )
            .unwrap();
        }
        put(&mut tokens, "sb://h/hub/0", &token("sb://h/", 90)).unwrap();
        let refusal = put(&mut tokens, "sb://h/hub/more", &token("sb://h/", 60)).unwrap_err();
        assert_eq!(refusal.status_code, 403);
    }
}
