//! Why a request failed, or a connection ends.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($(#[$documentation:meta])* $name:ident { $($(#[$variant_documentation:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$documentation])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_documentation])* $variant,)*
            /// A code that this version does not know.
            Other(String),
        }

        impl $name {
            /// Every code of this version.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code as it stands on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(code: $name) -> Self {
                code.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// Why a request, a part of it, or a message that is none failed.
    ErrorCode {
        /// The text is not JSON.
        MalformedJson = "malformedJson",
        /// A member is missing or has the wrong type; `field` says which.
        InvalidMessage = "invalidMessage",
        /// No message has that `type`.
        UnknownType = "unknownType",
        /// A request came before the hello.
        HelloExpected = "helloExpected",
        /// A second hello came.
        HelloRepeated = "helloRepeated",
        /// The id is not greater than that of the request before.
        DuplicateId = "duplicateId",
        /// A device id is empty or too long.
        InvalidDeviceId = "invalidDeviceId",
        /// A module id is empty or too long.
        InvalidModuleId = "invalidModuleId",
        /// A telemetry key is empty or too long.
        InvalidTelemetryKey = "invalidTelemetryKey",
        /// A pattern is empty, too long or has too many `*`.
        InvalidPattern = "invalidPattern",
        /// The kind of values cannot be had in this way.
        InvalidSelector = "invalidSelector",
        /// The message names more keys than one message may.
        TooManyKeys = "tooManyKeys",
        /// The session would have more subscriptions than it may have.
        TooManySubscriptions = "tooManySubscriptions",
        /// All that would have to be sent at once is too much; ask for less in one message.
        SnapshotTooLarge = "snapshotTooLarge",
        /// The telemetry of the device would be delivered in more different ways than it may be.
        TooManyDeliveries = "tooManyDeliveries",
        /// There would be more patterns for the device than there may be.
        TooManyPatterns = "tooManyPatterns",
        /// The session would have more grants than it may have.
        TooManyGrants = "tooManyGrants",
        /// The relay has as many sessions as it may have.
        TooManySessions = "tooManySessions",
        /// No grant covers it.
        NotGranted = "notGranted",
        /// The session does not exist, or no longer.
        NoSuchSession = "noSuchSession",
        /// This relay takes no grant tokens.
        TokensNotAccepted = "tokensNotAccepted",
        /// The token is longer than any may be.
        TokenTooLong = "tokenTooLong",
        /// The token is not a JWT in compact form.
        TokenMalformed = "tokenMalformed",
        /// The token is signed in a way that is not allowed.
        TokenAlgorithm = "tokenAlgorithm",
        /// The token names a key that is not known.
        TokenKeyUnknown = "tokenKeyUnknown",
        /// The keys that tokens are verified with are not there yet; later it may be accepted.
        TokenKeysUnavailable = "tokenKeysUnavailable",
        /// The token's signature is not right.
        TokenSignature = "tokenSignature",
        /// The token is by another issuer.
        TokenIssuer = "tokenIssuer",
        /// The token is for another audience.
        TokenAudience = "tokenAudience",
        /// A claim of the token is missing or not what it must be.
        TokenClaim = "tokenClaim",
        /// The token is valid for longer than any may be.
        TokenLifetime = "tokenLifetime",
        /// The token carries more grants than a session may have.
        TokenTooManyGrants = "tokenTooManyGrants",
        /// The token is not valid yet.
        TokenNotYetValid = "tokenNotYetValid",
        /// The token is not valid any more.
        TokenExpired = "tokenExpired",
    }
}

codes! {
    /// Why the relay ends a connection.
    GoodbyeCode {
        /// The hello could not be granted; the error before says why.
        HelloRefused = "helloRefused",
        /// No hello came in time.
        HelloTimeout = "helloTimeout",
        /// Nothing was heard of the client for too long.
        PingTimeout = "pingTimeout",
        /// The session was deleted.
        SessionDeleted = "sessionDeleted",
        /// The session's time is over.
        SessionExpired = "sessionExpired",
        /// Another connection took the session over.
        SessionReplaced = "sessionReplaced",
        /// The client reads too slowly even for the newest values.
        SlowConsumer = "slowConsumer",
        /// The relay shuts down.
        ShuttingDown = "shuttingDown",
        /// A binary frame came.
        BinaryFrame = "binaryFrame",
        /// A text frame was not UTF-8.
        InvalidUtf8 = "invalidUtf8",
        /// A message was longer than allowed.
        MessageTooLarge = "messageTooLarge",
        /// A frame was not as RFC 6455 wants it.
        MalformedFrame = "malformedFrame",
    }
}

impl GoodbyeCode {
    /// Code of the close frame that follows: one of RFC 6455 §7.4.1 where that says enough, else one of the range for
    /// applications.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::ShuttingDown => 1001,
            Self::MalformedFrame => 1002,
            Self::BinaryFrame => 1003,
            Self::InvalidUtf8 => 1007,
            Self::Other(_) => 1008,
            Self::MessageTooLarge => 1009,
            Self::HelloRefused => 4403,
            Self::HelloTimeout | Self::PingTimeout => 4408,
            Self::SessionReplaced => 4409,
            Self::SessionDeleted | Self::SessionExpired => 4410,
            Self::SlowConsumer => 4429,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        for code in ErrorCode::ALL {
            assert_eq!(&ErrorCode::from(code.as_str()), code);
        }
        for code in GoodbyeCode::ALL {
            assert_eq!(&GoodbyeCode::from(code.as_str()), code);
        }
        assert_eq!(ErrorCode::from("new"), ErrorCode::Other("new".to_owned()));
    }
}
