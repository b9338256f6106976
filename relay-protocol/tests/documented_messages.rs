//! The examples of `docs/protocol.md`: each is a message, and every message and code is shown.

use std::collections::BTreeSet;

use relay_protocol::GrantRequest;
use relay_protocol::native::{ClientMessage, ErrorCode, GoodbyeCode, ServerMessage};
use serde::Serialize;
use serde::de::DeserializeOwned;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// Every JSON block: who sends it, and its text without the line breaks that are for the reader.
fn examples() -> impl Iterator<Item = (&'static str, String)> {
    DOCUMENT.split("```json ").skip(1).map(|block| {
        let (sender, rest) = block.split_once('\n').expect("a block has lines");
        let (text, _) = rest.split_once("```").expect("a block ends");
        (sender, text.lines().map(str::trim).collect())
    })
}

#[track_caller]
fn reads_and_writes<T: DeserializeOwned + Serialize>(text: &str) -> T {
    let message: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let written = serde_json::to_string(&message).expect("it can be written");
    assert_eq!(written, text);
    message
}

#[test]
fn every_example_reads_and_writes_as_it_stands() {
    let mut senders = BTreeSet::new();
    for (sender, text) in examples() {
        senders.insert(sender);
        match sender {
            "client" => drop(reads_and_writes::<ClientMessage>(&text)),
            "server" => drop(reads_and_writes::<ServerMessage>(&text)),
            "grant" | "revoke" => drop(reads_and_writes::<GrantRequest>(&text)),
            "device" => {
                serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");
            }
            other => panic!("nobody is called {other}"),
        }
    }
    assert_eq!(
        senders.into_iter().collect::<Vec<_>>(),
        ["client", "device", "grant", "revoke", "server"]
    );
}

/// A type that is not shown makes this fail to compile or to pass.
#[test]
fn every_message_is_shown() {
    let type_of = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        value["type"].as_str().map(str::to_owned)
    };
    let shown = |wanted: &str| -> BTreeSet<String> {
        examples()
            .filter(|(sender, _)| *sender == wanted)
            .filter_map(|(_, text)| type_of(&text))
            .collect()
    };
    let client: BTreeSet<_> = ClientMessage::TYPES
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown("client"), client);
    let server: BTreeSet<_> = ServerMessage::TYPES
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown("server"), server);
}

#[test]
fn every_code_is_explained() {
    for code in ErrorCode::ALL {
        assert!(DOCUMENT.contains(&format!("`{code}`")), "{code}");
    }
    for code in GoodbyeCode::ALL {
        let row = format!("| `{code}` | {} |", code.close_code());
        assert!(DOCUMENT.contains(&row), "{row}");
    }
}
