//! The selector filters with which a receiver names its start, as the Event Hubs SDKs write them:
//! `amqp.annotation.x-opt-sequence-number > '41'`. SDKs differ in quotes and spaces.

use crate::{
    amqp::message::{ENQUEUED_TIME, OFFSET, SEQUENCE_NUMBER},
    partition_log::StartPosition,
};

/// The key under which the filter stands in a source.
pub(crate) const FILTER_KEY: &str = "apache.org:selector-filter:string";

/// A selector that no Event Hubs client writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the filter must be amqp.annotation.<x-opt-offset|x-opt-sequence-number|x-opt-enqueued-time> \
         followed by > or >= and a value"
    )]
    Form,
    #[error("the value of {name} in the filter is not a whole number")]
    Value { name: &'static str },
}

/// Parses a selector.
pub(crate) fn parse(selector: &str) -> Result<StartPosition, Error> {
    let expression = selector
        .trim()
        .strip_prefix("amqp.annotation.")
        .ok_or(Error::Form)?;
    let (name, value) = expression.split_once('>').ok_or(Error::Form)?;
    let (inclusive, value) = match value.strip_prefix('=') {
        Some(value) => (true, value),
        None => (false, value),
    };
    let value = unquote(value.trim()).ok_or(Error::Form)?;
    match name.trim_end() {
        OFFSET => match value {
            "-1" => Ok(StartPosition::Earliest),
            "@latest" => Ok(StartPosition::Latest),
            _ => Ok(StartPosition::Offset {
                offset: number(OFFSET, value)?,
                inclusive,
            }),
        },
        SEQUENCE_NUMBER => Ok(StartPosition::Sequence {
            number: number(SEQUENCE_NUMBER, value)?,
            inclusive,
        }),
        ENQUEUED_TIME => Ok(StartPosition::EnqueuedTime {
            ms: number(ENQUEUED_TIME, value)?,
            inclusive,
        }),
        _ => Err(Error::Form),
    }
}

fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('\'') {
        Some(rest) => rest.strip_suffix('\''),
        None => Some(value),
    }
}

fn number(name: &'static str, value: &str) -> Result<i64, Error> {
    value.parse().map_err(|_| Error::Value { name })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_the_sdks_is_read() {
        let sequence = |number, inclusive| Ok(StartPosition::Sequence { number, inclusive });
        for (selector, start) in [
            (
                "amqp.annotation.x-opt-offset > '@latest'",
                Ok(StartPosition::Latest),
            ),
            (
                "amqp.annotation.x-opt-offset > '-1'",
                Ok(StartPosition::Earliest),
            ),
            (
                "amqp.annotation.x-opt-offset >= '120'",
                Ok(StartPosition::Offset {
                    offset: 120,
                    inclusive: true,
                }),
            ),
            (
                "amqp.annotation.x-opt-sequence-number > '41'",
                sequence(41, false),
            ),
            (
                "amqp.annotation.x-opt-sequence-number >= 41",
                sequence(41, true),
            ),
            (
                "amqp.annotation.x-opt-sequence-number >'-1'",
                sequence(-1, false),
            ),
            (
                "amqp.annotation.x-opt-enqueued-time > '1700000000000'",
                Ok(StartPosition::EnqueuedTime {
                    ms: 1_700_000_000_000,
                    inclusive: false,
                }),
            ),
        ] {
            assert_eq!(parse(selector), start, "{selector}");
        }
    }

    #[test]
    fn other_selectors_are_refused() {
        for selector in [
            "",
            "amqp.annotation.x-opt-offset",
            "amqp.annotation.x-opt-offset < '3'",
            "amqp.annotation.x-opt-colour > '3'",
            "amqp.annotation.x-opt-offset > 'open",
        ] {
            assert_eq!(parse(selector), Err(Error::Form), "{selector}");
        }
        assert_eq!(
            parse("amqp.annotation.x-opt-sequence-number > 'abc'"),
            Err(Error::Value {
                name: SEQUENCE_NUMBER
            })
        );
    }

    proptest! {
        #[test]
        fn random_text_never_panics(tail in "[a-z>=' 0-9@-]{0,40}") {
            let _ = parse(&format!("amqp.annotation.{tail}"));
        }
    }
}
