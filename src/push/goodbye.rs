//! The last word to a native client, whatever it is connected by.

use relay_protocol::native::{Goodbye, GoodbyeCode};

use crate::domain::disconnect::Disconnect;

/// How a client is told why the relay ends its connection.
pub(super) fn code_of(disconnect: Disconnect) -> GoodbyeCode {
    match disconnect {
        Disconnect::SessionDeleted => GoodbyeCode::SessionDeleted,
        Disconnect::Replaced => GoodbyeCode::SessionReplaced,
        Disconnect::Retired | Disconnect::SessionExpired => GoodbyeCode::SessionExpired,
        Disconnect::SlowConsumer => GoodbyeCode::SlowConsumer,
        Disconnect::ShuttingDown => GoodbyeCode::ShuttingDown,
    }
}

/// The whole message for a code.
pub(super) fn goodbye(code: GoodbyeCode) -> Goodbye {
    let (message, reconnect) = match &code {
        GoodbyeCode::HelloRefused => ("the hello was refused", false),
        GoodbyeCode::HelloTimeout => ("no hello came in time", true),
        GoodbyeCode::PingTimeout => ("nothing was heard of the client for too long", true),
        GoodbyeCode::SessionDeleted => ("the session was deleted", true),
        GoodbyeCode::SessionExpired => ("the session's time is over", true),
        GoodbyeCode::SessionReplaced => ("another connection took the session over", false),
        GoodbyeCode::SlowConsumer => ("the client reads too slowly", true),
        GoodbyeCode::ShuttingDown => ("the relay shuts down", true),
        GoodbyeCode::BinaryFrame => ("messages are text", false),
        GoodbyeCode::InvalidUtf8 => ("messages are UTF-8", false),
        GoodbyeCode::MessageTooLarge => ("the message is too long", false),
        GoodbyeCode::MalformedFrame => ("a frame is not as RFC 6455 wants it", false),
        GoodbyeCode::Other(_) => ("the connection ends", true),
    };
    Goodbye {
        code,
        message: message.to_owned(),
        reconnect,
    }
}
