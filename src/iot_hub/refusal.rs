//! What the IoT hub says when it refuses a call.
//!
//! The body of an error is a JSON object whose `Message` is either `ErrorCode:<name>;<text>` or the text of another JSON
//! object with `errorCode`; beside it the header `iothub-errorcode` names the error (Azure documentation, "IoT Hub REST
//! API", and what the service sends). The status alone does not tell a device that does not exist from one that is
//! offline: both are 404.

use std::borrow::Cow;

use serde::Deserialize;

use crate::telemetry::metrics::HubCallOutcome;

/// Longest body of an error that is handed on.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// A call that the hub refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 300 or above.
    pub status: u16,
    /// What it means.
    pub cause: Cause,
    /// What the hub says about it, when that may be shown to anybody.
    pub body: Option<String>,
    /// When the hub wants to be asked again, in seconds.
    pub retry_after_s: Option<u64>,
}

/// Why the hub refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is no such device, or it has no such module.
    NoSuchDevice,
    /// The device is not connected, or does not listen for methods, or went away during the call.
    DeviceOffline,
    /// The device got the method and did not answer in time.
    DeviceSilent,
    /// The call, or the patch, is not what the hub takes.
    Invalid,
    /// The twin has another etag.
    EtagMismatch,
    /// The hub asks to slow down.
    Throttled,
    /// The hub does not accept the credentials of the relay, or its policy lacks a right.
    Credentials,
    /// Anything else: the hub failed.
    HubFailure,
}

impl Cause {
    /// Under which outcome it counts.
    pub(super) fn outcome(self) -> HubCallOutcome {
        match self {
            Self::NoSuchDevice => HubCallOutcome::NoSuchDevice,
            Self::DeviceOffline => HubCallOutcome::DeviceOffline,
            Self::DeviceSilent => HubCallOutcome::DeviceSilent,
            Self::Invalid => HubCallOutcome::Invalid,
            Self::EtagMismatch => HubCallOutcome::EtagMismatch,
            Self::Throttled => HubCallOutcome::Throttled,
            Self::Credentials => HubCallOutcome::Credentials,
            Self::HubFailure => HubCallOutcome::HubFailure,
        }
    }

    fn of(status: u16, code: Option<&str>) -> Self {
        match (status, code) {
            (_, Some("404001" | "DeviceNotFound" | "404010" | "ModuleNotFound")) => {
                Self::NoSuchDevice
            }
            (
                _,
                Some("404103" | "DeviceNotOnline" | "404104" | "DeviceConnectionClosedRemotely"),
            ) => Self::DeviceOffline,
            (404, _) => Self::NoSuchDevice,
            (504, _) => Self::DeviceSilent,
            (412, _) => Self::EtagMismatch,
            (429, _) => Self::Throttled,
            // Quotas of the hub, and too many methods under way at it; with a name of its own where it is a right.
            (403, Some(code)) if !code.contains("Unauthorized") => Self::Throttled,
            (401 | 403, _) => Self::Credentials,
            (400..500, _) => Self::Invalid,
            _ => Self::HubFailure,
        }
    }
}

impl Refusal {
    /// Reads an answer. `private` are texts that must not be handed on, such as the hub's address.
    pub(super) fn read(
        status: u16,
        error_header: Option<&str>,
        retry_after_s: Option<u64>,
        body: &[u8],
        private: &[&str],
    ) -> Self {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let code = code_in(text).or_else(|| error_header.map(str::to_owned));
        Self {
            status,
            cause: Cause::of(status, code.as_deref()),
            body: is_harmless(text, private).then(|| text.to_owned()),
            retry_after_s,
        }
    }
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow, rename = "Message", alias = "message")]
    message: Option<Cow<'a, str>>,
    #[serde(rename = "errorCode")]
    error_code: Option<u32>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "errorCode")]
    error_code: u32,
}

/// Number or name of the error.
fn code_in(body: &str) -> Option<String> {
    let outer: Outer<'_> = serde_json::from_str(body).ok()?;
    if let Some(code) = outer.error_code {
        return Some(code.to_string());
    }
    let message = outer.message?;
    if let Ok(inner) = serde_json::from_str::<Inner>(&message) {
        return Some(inner.error_code.to_string());
    }
    let name = message.strip_prefix("ErrorCode:")?;
    let name = name.split([';', ' ']).next().unwrap_or(name);
    Some(name.to_owned())
}

/// Whether a body is what the hub tells callers, and shows nothing that is not theirs to see: no page of a proxy, no
/// stack, no credential, nothing private.
fn is_harmless(body: &str, private: &[&str]) -> bool {
    const TELLTALE: [&str; 5] = [
        "sharedaccess",
        "sig=",
        "authorization",
        "   at ",
        "exception:",
    ];
    let lower = body.to_ascii_lowercase();
    let lower = lower.trim();
    !lower.is_empty()
        && body.len() <= BODY_BYTES_MAX
        && !lower.starts_with('<')
        && !body
            .chars()
            .any(|letter| letter.is_control() && !letter.is_ascii_whitespace())
        && !TELLTALE.iter().any(|telltale| lower.contains(telltale))
        && !private
            .iter()
            .any(|private| lower.contains(&private.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(status: u16, body: &str) -> Cause {
        Refusal::read(status, None, None, body.as_bytes(), &[]).cause
    }

    #[test]
    fn an_unknown_device_and_an_offline_one_are_told_apart_in_either_form() {
        let unknown = r#"{"Message":"ErrorCode:DeviceNotFound;E2E-device 'x' not registered","ExceptionMessage":"Tracking ID:1-G:4"}"#;
        let module = r#"{"Message":"ErrorCode:ModuleNotFound;no","ExceptionMessage":""}"#;
        let offline = r#"{"Message":"{\"errorCode\":404103,\"trackingId\":\"1\",\"message\":\"not online\",\"info\":{\"timeout\":\"00:00:00\"}}","ExceptionMessage":""}"#;
        let nested_unknown = r#"{"Message":"{\"errorCode\":404001,\"message\":\"no\"}"}"#;
        let closed = r#"{"Message":"{\"errorCode\":404104,\"message\":\"gone\"}"}"#;
        let flat = r#"{"errorCode":404103,"message":"not online"}"#;
        assert_eq!(cause(404, unknown), Cause::NoSuchDevice);
        assert_eq!(cause(404, module), Cause::NoSuchDevice);
        assert_eq!(cause(404, nested_unknown), Cause::NoSuchDevice);
        assert_eq!(cause(404, offline), Cause::DeviceOffline);
        assert_eq!(cause(404, closed), Cause::DeviceOffline);
        assert_eq!(cause(404, flat), Cause::DeviceOffline);
        let by_header = Refusal::read(404, Some("DeviceNotOnline"), None, b"", &[]);
        assert_eq!(by_header.cause, Cause::DeviceOffline);
    }

    #[test]
    fn a_body_that_cannot_be_read_leaves_the_status() {
        for body in [
            "",
            "no",
            "[]",
            "{}",
            r#"{"Message":7}"#,
            r#"{"Message":"{"}"#,
            "\u{0}",
        ] {
            assert_eq!(cause(404, body), Cause::NoSuchDevice, "{body}");
            assert_eq!(cause(401, body), Cause::Credentials, "{body}");
            assert_eq!(cause(403, body), Cause::Credentials, "{body}");
            assert_eq!(cause(412, body), Cause::EtagMismatch, "{body}");
            assert_eq!(cause(413, body), Cause::Invalid, "{body}");
            assert_eq!(cause(429, body), Cause::Throttled, "{body}");
            assert_eq!(cause(503, body), Cause::HubFailure, "{body}");
            assert_eq!(cause(504, body), Cause::DeviceSilent, "{body}");
            assert_eq!(cause(302, body), Cause::HubFailure, "{body}");
        }
        let quota =
            r#"{"Message":"ErrorCode:IotHubQuotaExceeded;Total number of messages exceeded"}"#;
        assert_eq!(cause(403, quota), Cause::Throttled);
    }

    #[test]
    fn what_shows_something_private_is_not_handed_on() {
        let private = ["hub.example.net", "service-policy"];
        let harmless = r#"{"Message":"ErrorCode:ArgumentInvalid;too long","ExceptionMessage":"Tracking ID:1"}"#;
        assert!(is_harmless(harmless, &private));
        assert!(is_harmless("Device is not online", &private));
        for body in [
            "",
            "  ",
            "<html><body>Bad gateway</body></html>",
            "at Hub.Example.NET:443",
            "policy service-policy lacks it",
            "SharedAccessSignature sr=x",
            r#"{"ExceptionMessage":"boom\r\n   at Microsoft.Azure.Devices.Run()"}"#,
            "\u{1b}[31mred",
        ] {
            assert!(!is_harmless(body, &private), "{body}");
        }
        assert!(!is_harmless(&"x".repeat(BODY_BYTES_MAX + 1), &private));
    }
}
