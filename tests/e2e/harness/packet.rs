//! Engine.IO 4 and Socket.IO 5 packets, read strictly: what the relay may not send is a panic.

use relay_protocol::{DataEvent, ModuleId, Update};
use serde_json::{Value, value::RawValue};

/// One packet from the relay.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packet {
    /// `0{…}`: the transport is open.
    Open(Value),
    /// `2`, or `2` with text while a transport is probed.
    Ping,
    /// `3` with what was probed.
    Pong(String),
    /// `6`: a pending poll is released.
    Noop,
    /// `1`: the transport closes.
    Close,
    /// `40{…}`: the session was admitted.
    Admitted { namespace: String, data: Value },
    /// `41`: the server ends the connection.
    Disconnect { namespace: String },
    /// `44{…}`: the session was refused.
    Refused { namespace: String, data: Value },
    /// `42["data",{…}]`.
    Data { namespace: String, event: Event },
    /// The transport ended.
    TransportEnd,
}

impl Packet {
    /// Reads one packet.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_at_checked(1) {
            Some(("0", data)) => Self::Open(json(data)),
            Some(("1", "")) => Self::Close,
            Some(("2", "" | "probe")) => Self::Ping,
            Some(("3", probed)) => Self::Pong(probed.to_owned()),
            Some(("4", message)) => Self::parse_message(message),
            Some(("6", "")) => Self::Noop,
            _ => panic!("the relay sent {text:?}"),
        }
    }

    fn parse_message(text: &str) -> Self {
        let (kind, rest) = text.split_at_checked(1).expect("a message has a type");
        let (namespace, data) = match rest.split_once(',') {
            Some((namespace, data)) if rest.starts_with('/') => (namespace.to_owned(), data),
            _ => ("/".to_owned(), rest),
        };
        match kind {
            "0" => Self::Admitted {
                namespace,
                data: json(data),
            },
            "1" => Self::Disconnect { namespace },
            "2" => Self::Data {
                namespace,
                event: Event::parse(data),
            },
            "4" => Self::Refused {
                namespace,
                data: json(data),
            },
            _ => panic!("the relay sent the message {text:?}"),
        }
    }
}

/// The argument of one `data` event. It was read through the protocol's own type, which requires a string
/// `deviceId`, a string `timestamp` and exactly one kind of update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// The argument as it was written.
    pub(crate) text: String,
    data: DataEvent,
}

impl Event {
    fn parse(arguments: &str) -> Self {
        let (name, text): (String, Box<RawValue>) = serde_json::from_str(arguments)
            .unwrap_or_else(|error| panic!("{error} in the event {arguments}"));
        assert_eq!(name, "data", "the only event of the protocol");
        let text = text.get().to_owned();
        let data = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        Self { text, data }
    }

    pub(crate) fn device_id(&self) -> &str {
        self.data.device_id.as_str()
    }

    pub(crate) fn module_id(&self) -> Option<&str> {
        self.data.module_id.as_ref().map(ModuleId::as_str)
    }

    pub(crate) fn timestamp(&self) -> &str {
        &self.data.timestamp
    }

    /// Its telemetry; it must be of that kind.
    #[track_caller]
    pub(crate) fn telemetry(&self) -> Value {
        match self.data.update {
            Update::Telemetry(_) => json(&self.text)["telemetry"].take(),
            _ => panic!("expected telemetry, got {}", self.text),
        }
    }

    /// Its connection state; it must be of that kind.
    #[track_caller]
    pub(crate) fn connection_state(&self) -> bool {
        match self.data.update {
            Update::ConnectionState(connected) => connected,
            _ => panic!("expected a connection state, got {}", self.text),
        }
    }

    /// Its twin; it must be of that kind.
    #[track_caller]
    pub(crate) fn device_twin(&self) -> Value {
        match &self.data.update {
            Update::DeviceTwin(twin) => twin.to_value(),
            _ => panic!("expected a device twin, got {}", self.text),
        }
    }

    /// Its message; it must be of that kind.
    #[track_caller]
    pub(crate) fn message(&self) -> Value {
        match &self.data.update {
            Update::Message(body) => body.to_value(),
            _ => panic!("expected a message, got {}", self.text),
        }
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}
