//! The direct methods of a simulated device: what it is asked to do, and how it answers.

use bytes::Bytes;
use serde_json::{Value, json};

/// How long a calibration takes.
pub(super) const CALIBRATION_MS: i64 = 4_000;

/// The longest wait that may be asked for before a device goes down.
const REBOOT_DELAY_SECONDS_MAX: f64 = 60.0;

/// What the device is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    /// Go down in `delay_ms`, and come back.
    Reboot { delay_ms: i64 },
    /// Measure at this interval: a number of milliseconds, if the caller kept to the rules.
    SetInterval { interval: Value },
    /// Answer the payload.
    Echo { payload: Bytes },
    /// Take [`CALIBRATION_MS`], then answer.
    Calibrate,
    /// Find a fault.
    SelfTest,
}

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Zero means nothing; like those of HTTP by convention.
    pub(super) status: u16,
    /// JSON.
    pub(super) payload: Bytes,
}

impl Answer {
    pub(super) fn new(status: u16, payload: &Value) -> Self {
        Self {
            status,
            payload: payload.to_string().into(),
        }
    }

    /// Says what is wrong with a call.
    pub(super) fn refusal(status: u16, message: &str) -> Self {
        Self::new(status, &json!({ "message": message }))
    }
}

impl Call {
    /// Understands a call; `payload` is JSON, or nothing.
    pub(super) fn parse(name: &str, payload: Bytes) -> Result<Self, Answer> {
        match name {
            "reboot" => {
                let delay_ms = reboot_delay_ms(&parsed(&payload)?)?;
                Ok(Self::Reboot { delay_ms })
            }
            "setInterval" => match parsed(&payload)?.get_mut("interval") {
                Some(interval) => Ok(Self::SetInterval {
                    interval: interval.take(),
                }),
                None => Err(interval_refusal()),
            },
            "echo" => Ok(Self::Echo {
                payload: if payload.is_empty() {
                    Bytes::from_static(b"null")
                } else {
                    payload
                },
            }),
            "calibrate" => Ok(Self::Calibrate),
            "selfTest" => Ok(Self::SelfTest),
            _ => Err(Answer::refusal(404, "the device has no such method")),
        }
    }
}

/// What `setInterval` answers when it is given no interval.
pub(super) fn interval_refusal() -> Answer {
    Answer::refusal(
        400,
        "expected {\"interval\": milliseconds}, a positive number",
    )
}

fn parsed(payload: &[u8]) -> Result<Value, Answer> {
    if payload.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(payload).map_err(|_| Answer::refusal(400, "expected JSON"))
}

/// The `delay` of a reboot, at once when there is none.
fn reboot_delay_ms(payload: &Value) -> Result<i64, Answer> {
    let refusal = || {
        Answer::refusal(
            400,
            "expected nothing, or {\"delay\": seconds} with at most 60 seconds",
        )
    };
    let delay = match payload {
        Value::Null => return Ok(0),
        Value::Object(members) => members.get("delay"),
        _ => return Err(refusal()),
    };
    let Some(delay) = delay else { return Ok(0) };
    let seconds = delay
        .as_f64()
        .filter(|seconds| (0.0..=REBOOT_DELAY_SECONDS_MAX).contains(seconds))
        .ok_or_else(refusal)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the bounds are far inside of an i64"
    )]
    let ms = (seconds * 1_000.0) as i64;
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, payload: &str) -> Result<Call, u16> {
        Call::parse(name, Bytes::copy_from_slice(payload.as_bytes()))
            .map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_reboot_may_be_asked_for_later() {
        for payload in ["", "null", "{}"] {
            let call = parse("reboot", payload);
            assert_eq!(call, Ok(Call::Reboot { delay_ms: 0 }), "{payload}");
        }
        let call = parse("reboot", r#"{"delay":1.5}"#);
        assert_eq!(call, Ok(Call::Reboot { delay_ms: 1_500 }));
        for payload in ["3", "[]", "{", r#"{"delay":-1}"#, r#"{"delay":61}"#] {
            assert_eq!(parse("reboot", payload), Err(400), "{payload}");
        }
    }

    #[test]
    fn an_echo_is_what_came_in() {
        for (payload, echo) in [("", "null"), ("[1.10]", "[1.10]")] {
            let Ok(Call::Echo { payload }) = parse("echo", payload) else {
                panic!("echo takes anything");
            };
            assert_eq!(payload, echo);
        }
    }

    #[test]
    fn what_a_device_cannot_do_is_refused_with_a_message() {
        assert_eq!(parse("setInterval", "null"), Err(400));
        assert_eq!(parse("setInterval", "12"), Err(400));
        assert_eq!(parse("explode", "{}"), Err(404));
        let refusal = Call::parse("explode", Bytes::new()).unwrap_err();
        let body: Value = serde_json::from_slice(&refusal.payload).unwrap();
        assert!(body["message"].is_string());
    }
}
