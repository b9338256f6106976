//! A direct method as the IoT hub is asked for it.

use std::fmt::Write as _;
use std::time::Duration;

/// Longest response time-out, and longest connect time-out, that the hub accepts; longer ones it refuses at once.
const TIMEOUT_MAX: Duration = Duration::from_mins(5);

/// A call of a direct method.
#[derive(Clone, Copy, Debug)]
pub struct MethodCall<'a> {
    /// Name of the method.
    pub name: &'a str,
    /// What the device gets: the text of one valid JSON value.
    pub payload: &'a str,
    /// How long the device may take to answer, in seconds.
    pub response_timeout_s: u32,
    /// How long the hub may wait for the device to connect, in seconds.
    pub connect_timeout_s: u32,
}

impl MethodCall<'_> {
    /// The body of the request.
    pub(super) fn to_json(self) -> String {
        let name = serde_json::to_string(self.name).expect("a string can be written as JSON");
        let mut json = format!(r#"{{"methodName":{name},"payload":"#);
        json.push_str(self.payload);
        let _ = write!(
            json,
            r#","responseTimeoutInSeconds":{},"connectTimeoutInSeconds":{}}}"#,
            self.response_timeout_s, self.connect_timeout_s
        );
        json
    }

    /// How long the hub may take at most, by what it was told.
    pub(super) fn time_told(self) -> Duration {
        [self.response_timeout_s, self.connect_timeout_s]
            .into_iter()
            .map(|s| Duration::from_secs(s.into()).min(TIMEOUT_MAX))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_goes_out_as_it_was_written() {
        let call = MethodCall {
            name: "set \"x\"",
            payload: "{ \"n\": 1.10e400, \"n\": 123456789012345678901 }",
            response_timeout_s: 30,
            connect_timeout_s: 0,
        };
        assert_eq!(
            call.to_json(),
            r#"{"methodName":"set \"x\"","payload":{ "n": 1.10e400, "n": 123456789012345678901 },"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}"#
        );
    }

    #[test]
    fn the_wait_is_bounded_by_what_the_hub_accepts() {
        let call = |response_timeout_s, connect_timeout_s| MethodCall {
            name: "m",
            payload: "null",
            response_timeout_s,
            connect_timeout_s,
        };
        assert_eq!(call(30, 5).time_told(), Duration::from_secs(35));
        assert_eq!(
            call(u32::MAX, u32::MAX).time_told(),
            Duration::from_mins(10)
        );
    }
}
