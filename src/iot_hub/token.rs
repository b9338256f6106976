//! The token with which the relay calls the IoT hub: signed with the decoded key of its policy, kept, and signed anew
//! in good time before it lapses.

use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::HeaderValue;

use crate::clock::SharedClock;
use crate::config::IotHubConnectionString;
use crate::shared_access_signature::sign;

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_hours(1);

/// How much of that must be left for a token to be used: more than a call can take, and than clocks differ.
const MARGIN: Duration = Duration::from_mins(15);

/// Signs tokens when they are needed.
#[derive(Debug)]
pub(super) struct Tokens {
    connection_string: IotHubConnectionString,
    clock: SharedClock,
    current: Mutex<Option<Token>>,
}

#[derive(Clone, Debug)]
struct Token {
    header: HeaderValue,
    signed_unix_ms: i64,
}

impl Tokens {
    pub(super) fn new(connection_string: &IotHubConnectionString, clock: SharedClock) -> Self {
        Self {
            connection_string: connection_string.clone(),
            clock,
            current: Mutex::new(None),
        }
    }

    /// The value of `Authorization` for a call that begins now.
    pub(super) fn authorization(&self) -> HeaderValue {
        let now_ms = self.clock.unix_ms();
        let mut current = self.current.lock();
        match &*current {
            // A clock that was set back makes a token look as if it came from the future; it may then outlive its time.
            Some(token) if (0..usable_ms()).contains(&(now_ms - token.signed_unix_ms)) => {
                token.header.clone()
            }
            _ => {
                let token = self.issue(now_ms);
                let header = token.header.clone();
                *current = Some(token);
                header
            }
        }
    }

    /// Has the next call sign anew: the hub did not accept the token, and its clock may have been wrong.
    pub(super) fn discard(&self) {
        *self.current.lock() = None;
    }

    fn issue(&self, now_ms: i64) -> Token {
        let expires_unix_s = (now_ms + ms(LIFETIME)) / 1000;
        let IotHubConnectionString { host, policy, .. } = &self.connection_string;
        let key = self.connection_string.key_bytes();
        let text = sign(host, policy, &key, expires_unix_s);
        let mut header =
            HeaderValue::from_str(text.expose()).expect("an encoded token is printable ASCII");
        header.set_sensitive(true);
        Token {
            header,
            signed_unix_ms: now_ms,
        }
    }
}

fn usable_ms() -> i64 {
    ms(LIFETIME) - ms(MARGIN)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    const START_MS: i64 = 1_700_000_000_000;

    fn tokens() -> (ManualClock, Tokens) {
        let text =
            "HostName=hub.example.net:8443;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0";
        let clock = ManualClock::at(START_MS);
        let tokens = Tokens::new(&text.parse().unwrap(), Arc::new(clock.clone()));
        (clock, tokens)
    }

    #[test]
    fn a_token_is_signed_with_the_decoded_key_for_the_host() {
        let (_, tokens) = tokens();

        let signed = sign("hub.example.net", "service", b"secret", 1_700_003_600);
        let authorization = tokens.authorization();
        assert_eq!(authorization.to_str().unwrap(), signed.expose());
        assert!(!format!("{authorization:?} {tokens:?}").contains("sig="));
    }

    #[test]
    fn a_token_is_kept_until_a_quarter_of_an_hour_before_its_end() {
        let (clock, tokens) = tokens();
        let first = tokens.authorization();
        clock.advance(Duration::from_mins(44));
        assert_eq!(tokens.authorization(), first);
        clock.advance(Duration::from_mins(1));
        let second = tokens.authorization();
        assert_ne!(second, first);
        assert!(second.to_str().unwrap().contains("se=1700006300"));
    }

    #[test]
    fn a_token_is_signed_anew_when_the_clock_was_set_back_or_the_hub_did_not_accept_it() {
        let (clock, tokens) = tokens();
        let first = tokens.authorization();
        clock.set_unix_ms(START_MS - 60_000);
        let second = tokens.authorization();
        assert_ne!(second, first);
        clock.set_unix_ms(START_MS + 1000);
        tokens.discard();
        assert_ne!(tokens.authorization(), second);
    }
}
