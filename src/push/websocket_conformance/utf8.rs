//! Text is UTF-8 (RFC 6455 §8.1; section 6 of Autobahn's suite).

use super::{Frame, Subject, assert_answered, assert_fails};

/// What is no UTF-8 whatever comes before or after it.
const INVALID: &[(&str, &[u8])] = &[
    ("a continuation byte alone", b"\x80"),
    ("a byte that cannot be", b"\xfe"),
    ("an overlong slash of two bytes", b"\xc0\xaf"),
    ("an overlong slash of three bytes", b"\xe0\x80\xaf"),
    ("an overlong slash of four bytes", b"\xf0\x80\x80\xaf"),
    ("an overlong zero", b"\xc0\x80"),
    ("a surrogate", b"\xed\xa0\x80"),
    ("a pair of surrogates", b"\xed\xa1\x8c\xed\xbe\xb4"),
    ("beyond the last character", b"\xf4\x90\x80\x80"),
    ("a character of five bytes", b"\xf8\x88\x80\x80\x80"),
    ("a character that is cut short by another", b"\xe2\x82A"),
];

const VALID: &[&str] = &[
    "",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "日本語 中文 한국어",
    "𐀀 🚀 \u{10ffff}",
    "\u{7f} \u{80} \u{7ff} \u{800} \u{d7ff} \u{e000}",
    "\u{fffd} \u{fffe} \u{ffff} \u{1fffe}",
];

pub(in crate::push) async fn valid_text_of_any_script_comes_back(subject: &impl Subject) {
    let mut client = subject.open().await;
    for text in VALID {
        let question = subject.question(text);
        client.send(Frame::text(&question)).await;
        assert_answered(subject, &mut client, &question).await;
    }
}

pub(in crate::push) async fn characters_may_be_cut_by_fragments(subject: &impl Subject) {
    let mut client = subject.open().await;
    let text = "κόσμε 日本 🚀";
    for place in 0..=subject.question(text).len() {
        let question = subject.question(text);
        let (first, second) = question.as_bytes().split_at(place);
        client.send(Frame::unfinished(Frame::TEXT, first)).await;
        client.send(Frame::last(Frame::CONTINUATION, second)).await;
        assert_answered(subject, &mut client, &question).await;
    }
}

pub(in crate::push) async fn invalid_text_is_refused(subject: &impl Subject) {
    for (what, bytes) in INVALID {
        let mut client = subject.open().await;
        client
            .send(Frame::last(Frame::TEXT, invalid(subject, bytes)))
            .await;
        assert_fails(subject, &mut client, 1007, what).await;
    }
    let mut client = subject.open().await;
    let mut cut = subject.question("").into_bytes();
    cut.extend(b"\xe2\x82");
    client.send(Frame::last(Frame::TEXT, cut)).await;
    assert_fails(subject, &mut client, 1007, "a character that never ends").await;
}

/// As soon as the fragment with it is there. Within a frame the whole of it is awaited, which the standard allows.
pub(in crate::push) async fn invalid_text_in_fragments_is_refused_before_its_end(
    subject: &impl Subject,
) {
    for (what, bytes) in INVALID {
        let text = invalid(subject, bytes);
        let mut client = subject.open().await;
        client.send(Frame::unfinished(Frame::TEXT, "")).await;
        for byte in text {
            let fragment = Frame::unfinished(Frame::CONTINUATION, [byte]);
            client.send(fragment).await;
        }
        assert_fails(subject, &mut client, 1007, what).await;
    }
}

/// The bytes in the middle of a question.
fn invalid(subject: &impl Subject, bytes: &[u8]) -> Vec<u8> {
    let mark = "[here]";
    let question = subject.question(mark);
    let (before, after) = question.split_once(mark).unwrap();
    [before.as_bytes(), b"x", bytes, b"x", after.as_bytes()].concat()
}
