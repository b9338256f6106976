//! What RFC 6455 demands of every WebSocket endpoint, as tests that any of them can be put to.
//!
//! The cases follow those sections of Autobahn's public suite that matter here; `docs/compatibility.md` lists them. An
//! endpoint becomes a [`Subject`], and [`websocket_conformance_tests!`] makes a test of each case for it.

use std::net::SocketAddr;

mod closing;
mod fragmentation;
mod frames;
mod handshake;
mod limits;
mod raw_client;
mod utf8;

pub(in crate::push) use self::raw_client::{Frame, RawClient};

pub(in crate::push) mod cases {
    //! Every case, by the name of its test.

    pub(in crate::push) use super::closing::*;
    pub(in crate::push) use super::fragmentation::*;
    pub(in crate::push) use super::frames::*;
    pub(in crate::push) use super::handshake::*;
    pub(in crate::push) use super::limits::*;
    pub(in crate::push) use super::utf8::*;
}

/// An endpoint with clients that write and read frames byte by byte. It sends nothing of its own accord during a test.
pub(in crate::push) trait Subject {
    /// Where clients connect.
    fn address(&self) -> SocketAddr;

    /// The path and query at which it gives them.
    fn path(&self) -> String;

    /// Takes what comes before the first message of a client.
    async fn greet(&self, client: &mut RawClient);

    /// A new connection, ready for messages.
    async fn open(&self) -> RawClient {
        let mut client = RawClient::open(self.address(), &self.path()).await;
        self.greet(&mut client).await;
        client
    }

    /// A new text message that the endpoint answers with one text message. It has `filler` in it, which alone decides
    /// how long it is.
    fn question(&self, filler: &str) -> String;

    /// Whether `answer` is what the endpoint says to `question`.
    fn is_answer(&self, question: &str, answer: &str) -> bool;

    /// Longest message in bytes.
    fn message_bytes_max(&self) -> usize;

    /// Whether a text message tells that the endpoint is about to close the connection.
    fn is_goodbye(&self, text: &str) -> bool {
        let _ = text;
        false
    }
}

/// Waits for the answer to a question that was sent.
async fn assert_answered(subject: &impl Subject, client: &mut RawClient, question: &str) {
    let (opcode, payload) = client.frame().await.expect("the connection ended");
    let answer = String::from_utf8(payload).unwrap();
    assert_eq!(opcode, Frame::TEXT, "{answer}");
    assert!(
        subject.is_answer(question, &answer),
        "{answer} to {question}"
    );
}

/// Shows that the connection goes on as before.
async fn assert_goes_on(subject: &impl Subject, client: &mut RawClient) {
    let question = subject.question("still there?");
    client.send(Frame::text(&question)).await;
    assert_answered(subject, client, &question).await;
}

/// Waits for the end of the connection with that code, and nothing before but a goodbye.
async fn assert_fails(subject: &impl Subject, client: &mut RawClient, code: u16, what: &str) {
    loop {
        match client.frame().await {
            Some((Frame::TEXT, text)) => {
                let text = String::from_utf8(text).unwrap();
                assert!(subject.is_goodbye(&text), "{what}: {text}");
            }
            Some((Frame::CLOSE, payload)) => {
                assert_eq!(payload.first_chunk(), Some(&code.to_be_bytes()), "{what}");
                break;
            }
            other => panic!("{what}: {other:?} instead of the end"),
        }
    }
    assert_eq!(client.frame().await, None, "{what}");
}

/// Makes a test of each case for the subject that the expression awaits.
macro_rules! websocket_conformance_tests {
    ($subject:expr) => {
        $crate::push::websocket_conformance::websocket_conformance_tests! { $subject;
            handshakes_that_lack_something_are_refused
            header_names_and_values_are_read_in_any_case
            text_in_fragments_is_one_message
            control_frames_between_fragments_are_answered_at_once
            a_continuation_of_nothing_is_refused
            a_message_inside_another_is_refused
            frames_in_pieces_are_put_together
            valid_text_of_any_script_comes_back
            characters_may_be_cut_by_fragments
            invalid_text_is_refused
            invalid_text_in_fragments_is_refused_before_its_end
            a_close_is_answered_with_its_code
            a_close_without_a_code_is_answered
            malformed_closes_are_refused
            codes_that_must_not_be_sent_are_refused
            nothing_is_answered_after_a_close
            a_client_that_only_stops_sending_is_let_go
            a_client_that_vanishes_in_a_frame_is_let_go
            pings_are_answered_with_their_payload
            pongs_that_nobody_asked_for_are_ignored
            long_or_fragmented_control_frames_are_refused
            reserved_bits_are_refused
            reserved_opcodes_are_refused
            frames_without_a_mask_are_refused
            what_came_before_a_refused_frame_is_answered
            the_longest_message_is_taken
            a_longer_frame_is_refused_before_it_comes
            fragments_of_a_longer_message_are_refused
        }
    };
    ($subject:expr; $($case:ident)+) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::push::websocket_conformance::cases::$case(&$subject).await;
            }
        )+
    };
}
pub(in crate::push) use websocket_conformance_tests;
