//! The topics of an IoT hub: each is a command, a filter stands for one kind of what the hub sends.
//!
//! See "Communicate with an IoT hub using the MQTT protocol" in the Azure documentation. A client
//! reaches its own topics only. Device and module ids stand in topics as they are, not percent-encoded.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::property_bag;
use crate::iot_hub::IdentityId;

/// Both SDKs use UUIDs. What is longer would not fit into every answer's topic.
const REQUEST_ID_BYTES_MAX: usize = 1024;

/// What a client asks for by publishing to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A device-to-cloud message with these properties.
    Telemetry(Vec<(String, String)>),
    /// The twin, please.
    ReadTwin {
        /// Names the answer.
        request_id: String,
    },
    /// A patch of the reported properties.
    Report {
        /// Names the answer.
        request_id: String,
    },
    /// The answer to a direct method.
    AnswerMethod {
        /// Which call it answers.
        request_id: String,
        /// The device's own status.
        status: i32,
    },
}

/// Why nothing can be published to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No topic of this client.
    #[error("the client may not publish to this topic")]
    Unknown,
    /// A topic that names its answer has no name for it.
    #[error("the topic has no request id, or too long a one")]
    NoRequestId,
    /// The status of a method's answer.
    #[error("the topic has no number as status")]
    NoStatus,
    /// The properties of a message.
    #[error(transparent)]
    Properties(#[from] property_bag::Error),
}

impl Request {
    /// What `identity` asks for by publishing to `topic`.
    pub(crate) fn parse(identity: &IdentityId, topic: &str) -> Result<Self, Error> {
        if let Some(rest) = topic.strip_prefix("$iothub/") {
            return Self::parse_command(rest);
        }
        let bag = topic
            .strip_prefix(&Own(identity).to_string())
            .and_then(|rest| rest.strip_prefix("/messages/events"))
            .ok_or(Error::Unknown)?;
        let bag = match bag.strip_prefix('/') {
            Some(bag) => bag,
            None if bag.is_empty() => bag,
            None => return Err(Error::Unknown),
        };
        Ok(Self::Telemetry(property_bag::parse(bag)?))
    }

    fn parse_command(topic: &str) -> Result<Self, Error> {
        let (path, query) = topic.split_once("/?").ok_or(Error::Unknown)?;
        let request_id = || request_id(query).ok_or(Error::NoRequestId);
        match path {
            "twin/GET" => Ok(Self::ReadTwin {
                request_id: request_id()?,
            }),
            "twin/PATCH/properties/reported" => Ok(Self::Report {
                request_id: request_id()?,
            }),
            _ => {
                let status = path.strip_prefix("methods/res/").ok_or(Error::Unknown)?;
                Ok(Self::AnswerMethod {
                    status: status.parse().map_err(|_| Error::NoStatus)?,
                    request_id: request_id()?,
                })
            }
        }
    }
}

/// The request id as it stands in the topic: it comes back in the same form.
fn request_id(query: &str) -> Option<String> {
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    let (_, id) = fields.find(|(name, _)| percent_decode_str(name).eq(b"$rid".iter().copied()))?;
    (id.len() <= REQUEST_ID_BYTES_MAX).then(|| id.to_owned())
}

/// What a client may subscribe to. There are no others: an IoT hub routes nothing between clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    /// Direct methods.
    Methods,
    /// Answers to twin requests.
    TwinAnswers,
    /// Notifications of changed desired properties.
    DesiredProperties,
    /// Cloud-to-device messages, for devices only.
    Messages,
    /// Messages that IoT Edge routes to a module. devhub is no Edge and sends none, but modules
    /// written with Microsoft's SDKs subscribe.
    ModuleInputs,
}

impl Filter {
    /// The filter that `identity` may subscribe to by this text.
    pub(crate) fn parse(identity: &IdentityId, text: &str) -> Option<Self> {
        match text.strip_prefix("$iothub/") {
            Some("methods/POST/#") => return Some(Self::Methods),
            Some("twin/res/#") => return Some(Self::TwinAnswers),
            Some("twin/PATCH/properties/desired/#") => return Some(Self::DesiredProperties),
            Some(_) => return None,
            None => {}
        }
        let rest = text.strip_prefix(&Own(identity).to_string())?;
        match (identity.module_id(), rest) {
            (None, "/messages/devicebound/#") => Some(Self::Messages),
            (Some(_), "/inputs/#") => Some(Self::ModuleInputs),
            _ => None,
        }
    }
}

/// Where a call of a direct method is sent.
pub(crate) fn method(name: &str, request_id: &str) -> String {
    format!("$iothub/methods/POST/{name}/?$rid={request_id}")
}

/// Where the answer to a twin request is sent.
pub(crate) fn twin_answer(status: u16, request_id: &str) -> String {
    format!("$iothub/twin/res/{status}/?$rid={request_id}")
}

/// Where it is said that a patch of the reported properties was taken.
pub(crate) fn reported(request_id: &str, version: u64) -> String {
    format!("$iothub/twin/res/204/?$rid={request_id}&$version={version}")
}

/// Where a change of the desired properties is sent.
pub(crate) fn desired_properties(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// Where a cloud-to-device message with these properties is sent.
pub(crate) fn message(identity: &IdentityId, properties: &[(String, String)]) -> String {
    let bag = property_bag::format(properties);
    format!("{}/messages/devicebound/{bag}", Own(identity))
}

/// Where an identity's own topics begin.
struct Own<'a>(&'a IdentityId);

impl fmt::Display for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "devices/{}", self.0.device_id())?;
        match self.0.module_id() {
            Some(module) => write!(f, "/modules/{module}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device() -> IdentityId {
        IdentityId::device("press-01").unwrap()
    }

    fn module() -> IdentityId {
        IdentityId::module("press-01", "plc").unwrap()
    }

    fn telemetry(properties: &[(&str, &str)]) -> Request {
        let own = |text: &str| text.to_owned();
        Request::Telemetry(properties.iter().map(|(n, v)| (own(n), own(v))).collect())
    }

    #[test]
    fn telemetry_is_sent_with_and_without_properties() {
        let parse = |topic| Request::parse(&device(), topic);
        assert_eq!(
            parse("devices/press-01/messages/events/"),
            Ok(telemetry(&[]))
        );
        assert_eq!(
            parse("devices/press-01/messages/events"),
            Ok(telemetry(&[]))
        );
        assert_eq!(
            parse("devices/press-01/messages/events/%24.ct=a%2Fb&x=1/"),
            Ok(telemetry(&[("$.ct", "a/b"), ("x", "1")]))
        );
        assert_eq!(
            Request::parse(
                &module(),
                "devices/press-01/modules/plc/messages/events/x=1"
            ),
            Ok(telemetry(&[("x", "1")]))
        );
    }

    #[test]
    fn nobody_reaches_the_topics_of_others() {
        let mine = |identity, topic| Request::parse(&identity, topic);
        for topic in [
            "",
            "a/b",
            "devices/press-02/messages/events/",
            "devices/press-011/messages/events/",
            "devices/press-01/messages/eventsx",
            "devices/press-01/messages/devicebound/",
            "devices/press-01/modules/plc/messages/events/",
            "$iothub/methods/POST/reboot/?$rid=1",
            "$iothub/twin/res/200/?$rid=1",
            "$iothub/twin/PATCH/properties/desired/?$rid=1",
        ] {
            assert_eq!(mine(device(), topic), Err(Error::Unknown), "{topic}");
        }
        for topic in [
            "devices/press-01/messages/events/",
            "devices/press-01/modules/plc2/messages/events/",
        ] {
            assert_eq!(mine(module(), topic), Err(Error::Unknown), "{topic}");
        }
    }

    #[test]
    fn commands_name_their_answer() {
        let parse = |topic| Request::parse(&device(), topic);
        let request_id = "a-b".to_owned();
        assert_eq!(
            parse("$iothub/twin/GET/?$rid=a-b"),
            Ok(Request::ReadTwin {
                request_id: request_id.clone()
            })
        );
        assert_eq!(
            parse("$iothub/twin/PATCH/properties/reported/?$version=3&%24rid=a-b"),
            Ok(Request::Report {
                request_id: request_id.clone()
            })
        );
        assert_eq!(
            parse("$iothub/methods/res/-7/?$rid=a-b"),
            Ok(Request::AnswerMethod {
                request_id,
                status: -7
            })
        );
        for (topic, error) in [
            ("$iothub/twin/GET/", Error::Unknown),
            ("$iothub/twin/GET/?rid=1", Error::NoRequestId),
            ("$iothub/methods/res/ok/?$rid=1", Error::NoStatus),
            ("$iothub/methods/res/200/?$rd=1", Error::NoRequestId),
            (
                "devices/press-01/messages/events/=1",
                Error::Properties(property_bag::Error::NoName),
            ),
        ] {
            assert_eq!(parse(topic), Err(error), "{topic}");
        }
        let long = format!("$iothub/twin/GET/?$rid={}", "1".repeat(1025));
        assert_eq!(parse(&long), Err(Error::NoRequestId));
    }

    #[test]
    fn only_the_filters_of_an_iot_hub_are_granted() {
        let of = |identity: IdentityId, text| Filter::parse(&identity, text);
        for (text, filter) in [
            ("$iothub/methods/POST/#", Filter::Methods),
            ("$iothub/twin/res/#", Filter::TwinAnswers),
            (
                "$iothub/twin/PATCH/properties/desired/#",
                Filter::DesiredProperties,
            ),
        ] {
            assert_eq!(of(device(), text), Some(filter));
            assert_eq!(of(module(), text), Some(filter));
        }
        let messages = "devices/press-01/messages/devicebound/#";
        let inputs = "devices/press-01/modules/plc/inputs/#";
        assert_eq!(of(device(), messages), Some(Filter::Messages));
        assert_eq!(of(module(), messages), None);
        assert_eq!(of(module(), inputs), Some(Filter::ModuleInputs));
        assert_eq!(of(device(), inputs), None);
        for text in ["#", "+/press-01/#", "devices/press-01/#", "$iothub/#"] {
            assert_eq!(of(device(), text), None, "{text}");
        }
    }

    #[test]
    fn what_the_hub_sends_names_whom_and_what() {
        let properties = [("$.mid", "a b"), ("x", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(
            message(&device(), &properties),
            "devices/press-01/messages/devicebound/%24.mid=a%20b&x="
        );
        assert_eq!(method("reboot", "7"), "$iothub/methods/POST/reboot/?$rid=7");
        assert_eq!(twin_answer(400, "7"), "$iothub/twin/res/400/?$rid=7");
        assert_eq!(reported("7", 3), "$iothub/twin/res/204/?$rid=7&$version=3");
        assert_eq!(
            desired_properties(4),
            "$iothub/twin/PATCH/properties/desired/?$version=4"
        );
    }

    proptest! {
        #[test]
        fn no_topic_makes_it_panic(topic in ".*") {
            let _ = Request::parse(&device(), &topic);
            let _ = Request::parse(&device(), &format!("$iothub/{topic}"));
            let _ = Request::parse(&device(), &format!("devices/press-01/messages/events{topic}"));
            let _ = Filter::parse(&module(), &topic);
        }
    }
}
