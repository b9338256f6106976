//! Why a call towards a device failed, as the answer of the relay tells it.

use std::time::Duration;

use serde::Deserialize;

/// Why a call towards a device failed: a direct method, a change of its twin, or a read that the IoT hub had to answer.
///
/// The relay passes the answer of the IoT hub on, whose status 404 stands for several things and whose error code tells
/// them apart. So this is read from the body where the status does not say enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceFailure {
    /// The hub has no such device or module.
    Unknown,
    /// The device is not connected, or does not take direct methods.
    Offline,
    /// The connection of the device was lost while it had the call. It may or may not have acted on it.
    ConnectionLost,
    /// The device got the call and did not answer in time. It may or may not have acted on it.
    TimedOut,
    /// There are too many calls. Nothing was done.
    Throttled {
        /// When to try again, where that was said.
        retry_after: Option<Duration>,
    },
    /// The twin no longer has the `etag` that the change was for. Nothing was done.
    TwinChanged,
}

impl DeviceFailure {
    /// Reads an answer outside 2xx; `None` when it is not about a device, or does not say.
    pub(crate) fn from_answer(
        status: u16,
        body: &str,
        retry_after: Option<Duration>,
    ) -> Option<Self> {
        let code = HubCode::from_body(body).or_else(|| HubCode::from_text(body));
        match (status, code) {
            (404, Some(HubCode::DeviceNotFound | HubCode::ModuleNotFound)) => Some(Self::Unknown),
            (404, Some(HubCode::DeviceNotOnline)) => Some(Self::Offline),
            (404, Some(HubCode::DeviceConnectionClosedRemotely)) => Some(Self::ConnectionLost),
            (504, Some(HubCode::GatewayTimeout)) => Some(Self::TimedOut),
            (412, _) => Some(Self::TwinChanged),
            (429, Some(HubCode::Throttling)) => Some(Self::Throttled { retry_after }),
            (429, _) if retry_after.is_some() => Some(Self::Throttled { retry_after }),
            _ => None,
        }
    }
}

/// An error code of IoT Hub
/// (<https://learn.microsoft.com/azure/iot-hub/troubleshoot-error-codes>), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HubCode {
    DeviceNotFound,
    ModuleNotFound,
    DeviceNotOnline,
    DeviceConnectionClosedRemotely,
    GatewayTimeout,
    Throttling,
}

/// The body of an error, in its two forms: `{"Message":"ErrorCode:DeviceNotFound;…"}`, and an object with a number, which
/// stands as a text in `Message`.
#[derive(Deserialize)]
struct HubError {
    #[serde(rename = "Message")]
    message: Option<String>,
    #[serde(rename = "errorCode")]
    code: Option<u32>,
}

impl HubCode {
    fn from_body(body: &str) -> Option<Self> {
        let error: HubError = serde_json::from_str(body).ok()?;
        if let Some(number) = error.code {
            return Self::from_number(number);
        }
        let message = error.message?;
        if let Ok(HubError {
            code: Some(number), ..
        }) = serde_json::from_str(&message)
        {
            return Self::from_number(number);
        }
        let name = message.strip_prefix("ErrorCode:")?;
        Self::from_name(name.split(';').next()?)
    }

    /// Reads what the relay says where the hub said nothing that may be passed on.
    fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "Device not found" | "No device found" | "No last devicetwin found" => {
                Self::DeviceNotFound
            }
            "Device is not connected" => Self::DeviceNotOnline,
            "Device did not answer in time" => Self::GatewayTimeout,
            "Too many calls to the IoT hub, try again later" => Self::Throttling,
            _ => return None,
        })
    }

    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            404_001 => Self::DeviceNotFound,
            404_010 => Self::ModuleNotFound,
            404_103 => Self::DeviceNotOnline,
            404_104 => Self::DeviceConnectionClosedRemotely,
            504_101 => Self::GatewayTimeout,
            429_001..=429_003 => Self::Throttling,
            _ => return None,
        })
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "DeviceNotFound" => Self::DeviceNotFound,
            "ModuleNotFound" => Self::ModuleNotFound,
            "DeviceNotOnline" => Self::DeviceNotOnline,
            "DeviceConnectionClosedRemotely" => Self::DeviceConnectionClosedRemotely,
            "GatewayTimeout" => Self::GatewayTimeout,
            "ThrottlingException" => Self::Throttling,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn by_name(name: &str) -> String {
        json!({"Message": format!("ErrorCode:{name};text"), "ExceptionMessage": ""}).to_string()
    }

    fn by_number(number: u32) -> String {
        let inner = json!({"errorCode": number, "message": "text"}).to_string();
        json!({"Message": inner, "ExceptionMessage": ""}).to_string()
    }

    #[test]
    fn what_one_status_says_of_several_things_is_told_apart_in_both_forms() {
        for (status, number, name, failure) in [
            (404, 404_001, "DeviceNotFound", DeviceFailure::Unknown),
            (404, 404_010, "ModuleNotFound", DeviceFailure::Unknown),
            (404, 404_103, "DeviceNotOnline", DeviceFailure::Offline),
            (504, 504_101, "GatewayTimeout", DeviceFailure::TimedOut),
        ] {
            for body in [
                by_number(number),
                by_name(name),
                json!({"errorCode": number}).to_string(),
            ] {
                let read = DeviceFailure::from_answer(status, &body, None);
                assert_eq!(read, Some(failure), "{body}");
            }
        }
    }

    #[test]
    fn the_relays_own_words_say_it_too() {
        for (status, text, failure) in [
            (404, "Device not found", DeviceFailure::Unknown),
            (404, "Device is not connected", DeviceFailure::Offline),
            (
                504,
                "Device did not answer in time",
                DeviceFailure::TimedOut,
            ),
        ] {
            let read = DeviceFailure::from_answer(status, text, None);
            assert_eq!(read, Some(failure), "{text}");
        }
    }

    #[test]
    fn throttling_says_when_to_try_again_if_that_is_known() {
        let second = Some(Duration::from_secs(1));
        let throttled = |retry_after| Some(DeviceFailure::Throttled { retry_after });
        for (body, retry_after, read) in [
            (by_number(429_001), None, throttled(None)),
            (by_name("ThrottlingException"), second, throttled(second)),
            ("Too many calls".to_owned(), second, throttled(second)),
            ("Too many grants in this session".to_owned(), None, None),
        ] {
            let failure = DeviceFailure::from_answer(429, &body, retry_after);
            assert_eq!(failure, read, "{body}");
        }
    }

    #[test]
    fn what_is_not_about_a_device_is_not_taken_for_it() {
        for (status, body) in [
            (404, "No such sessionId"),
            (404, "{}"),
            (404, "[1]"),
            (504, "upstream timed out"),
            (403, "Forbidden"),
            (500, &*by_name("DeviceNotFound")),
        ] {
            assert_eq!(
                DeviceFailure::from_answer(status, body, None),
                None,
                "{body}"
            );
        }
    }
}
