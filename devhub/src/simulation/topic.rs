//! The topics of IoT Hub as a device sees them. See "Communicate with an IoT hub using the MQTT
//! protocol" in the Azure documentation.

/// Filters to subscribe to.
pub(super) const METHODS: &str = "$iothub/methods/POST/#";
pub(super) const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
pub(super) const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";

/// What a message from the hub is, by its topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromHub<'a> {
    /// A direct method is called.
    Method { name: &'a str, request_id: &'a str },
    /// A read or a report of the twin is answered.
    TwinAnswer { status: u16, request_id: &'a str },
    /// Desired properties have changed.
    Desired { version: u64 },
}

/// Reads the topic of a message; `None` when it is none of those that a device subscribes to.
pub(super) fn parse(topic: &str) -> Option<FromHub<'_>> {
    let (path, query) = topic.strip_prefix("$iothub/")?.split_once("/?")?;
    if let Some(name) = path.strip_prefix("methods/POST/") {
        let request_id = parameter(query, "$rid")?;
        return Some(FromHub::Method { name, request_id });
    }
    if let Some(status) = path.strip_prefix("twin/res/") {
        return Some(FromHub::TwinAnswer {
            status: status.parse().ok()?,
            request_id: parameter(query, "$rid")?,
        });
    }
    if path == "twin/PATCH/properties/desired" {
        let version = parameter(query, "$version")?.parse().ok()?;
        return Some(FromHub::Desired { version });
    }
    None
}

/// Where JSON telemetry goes.
pub(super) fn telemetry(device_id: &str) -> String {
    format!("devices/{device_id}/messages/events/$.ct=application%2Fjson&$.ce=utf-8")
}

/// Where the answer to a method goes.
pub(super) fn method_answer(status: u16, request_id: &str) -> String {
    format!("$iothub/methods/res/{status}/?$rid={request_id}")
}

/// Asks for the twin.
pub(super) fn twin_read(request_id: &str) -> String {
    format!("$iothub/twin/GET/?$rid={request_id}")
}

/// Changes the reported properties.
pub(super) fn report(request_id: u64) -> String {
    format!("$iothub/twin/PATCH/properties/reported/?$rid={request_id}")
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hub_says_is_known_by_its_topic() {
        for (topic, expected) in [
            (
                "$iothub/methods/POST/reboot/?$rid=a-1",
                FromHub::Method {
                    name: "reboot",
                    request_id: "a-1",
                },
            ),
            (
                "$iothub/twin/res/204/?$rid=7&$version=3",
                FromHub::TwinAnswer {
                    status: 204,
                    request_id: "7",
                },
            ),
            (
                "$iothub/twin/PATCH/properties/desired/?$version=12",
                FromHub::Desired { version: 12 },
            ),
        ] {
            assert_eq!(parse(topic), Some(expected), "{topic}");
        }
        for topic in [
            "devices/a/messages/devicebound/",
            "$iothub/twin/res/ok/?$rid=1",
            "$iothub/methods/POST/reboot",
            "$iothub/twin/PATCH/properties/desired/?$version=new",
        ] {
            assert_eq!(parse(topic), None, "{topic}");
        }
    }
}
