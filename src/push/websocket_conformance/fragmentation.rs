//! Messages in several frames (RFC 6455 §5.4; sections 5 and 1.x.6 to 1.x.8 of Autobahn's suite).

use super::{Frame, Subject, assert_answered, assert_fails, assert_goes_on};

pub(in crate::push) async fn text_in_fragments_is_one_message(subject: &impl Subject) {
    let mut client = subject.open().await;
    for bytes in [1, 2, 7, 1000] {
        let question = subject.question("in pieces");
        client.send(Frame::unfinished(Frame::TEXT, "")).await;
        for piece in question.as_bytes().chunks(bytes) {
            let piece = Frame::unfinished(Frame::CONTINUATION, piece);
            client.send(piece).await;
        }
        client.send(Frame::last(Frame::CONTINUATION, "")).await;
        assert_answered(subject, &mut client, &question).await;
    }
}

pub(in crate::push) async fn control_frames_between_fragments_are_answered_at_once(
    subject: &impl Subject,
) {
    let mut client = subject.open().await;
    let question = subject.question("interrupted");
    let (first, second) = question.as_bytes().split_at(5);
    client.send(Frame::unfinished(Frame::TEXT, first)).await;
    client.send(Frame::last(Frame::PONG, "unasked")).await;
    for payload in ["", "between"] {
        client.send(Frame::ping(payload)).await;
        let pong = (Frame::PONG, payload.as_bytes().to_vec());
        assert_eq!(client.frame().await, Some(pong));
    }
    client.send(Frame::last(Frame::CONTINUATION, second)).await;
    assert_answered(subject, &mut client, &question).await;
}

pub(in crate::push) async fn a_continuation_of_nothing_is_refused(subject: &impl Subject) {
    for frame in [
        Frame::last(Frame::CONTINUATION, "x"),
        Frame::unfinished(Frame::CONTINUATION, "x"),
    ] {
        let mut client = subject.open().await;
        client.send(frame.clone()).await;
        assert_fails(subject, &mut client, 1002, "as the first frame").await;
        let mut client = subject.open().await;
        assert_goes_on(subject, &mut client).await;
        client.send(frame).await;
        assert_fails(subject, &mut client, 1002, "after a message").await;
    }
}

pub(in crate::push) async fn a_message_inside_another_is_refused(subject: &impl Subject) {
    for opcode in [Frame::TEXT, Frame::BINARY] {
        let mut client = subject.open().await;
        client.send(Frame::unfinished(Frame::TEXT, "x")).await;
        client.send(Frame::last(opcode, "y")).await;
        assert_fails(subject, &mut client, 1002, "a second beginning").await;
    }
}

pub(in crate::push) async fn frames_in_pieces_are_put_together(subject: &impl Subject) {
    let mut client = subject.open().await;
    let question = subject.question(&"byte by byte ".repeat(20));
    for byte in Frame::text(&question).bytes() {
        client.send_bytes(&[byte]).await;
    }
    assert_answered(subject, &mut client, &question).await;
}
