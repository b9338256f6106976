//! How connections end (RFC 6455 §5.5.1 and §7; section 7 of Autobahn's suite).

use super::{Frame, RawClient, Subject, assert_fails, assert_goes_on};

pub(in crate::push) async fn a_close_is_answered_with_its_code(subject: &impl Subject) {
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        for reason in ["", "good-bye", &"é".repeat(61)] {
            let mut client = subject.open().await;
            client.send(Frame::close(code, reason)).await;
            assert_eq!(closed_with(&mut client).await, Some(code));
        }
    }
}

/// The code of the close frame that comes next, and is the last frame.
async fn closed_with(client: &mut RawClient) -> Option<u16> {
    let (opcode, payload) = client.frame().await.expect("no close frame came");
    assert_eq!(opcode, Frame::CLOSE);
    assert_eq!(client.frame().await, None);
    let code = payload.first_chunk()?;
    Some(u16::from_be_bytes(*code))
}

pub(in crate::push) async fn a_close_without_a_code_is_answered(subject: &impl Subject) {
    let mut client = subject.open().await;
    client.send(Frame::last(Frame::CLOSE, "")).await;
    assert_eq!(closed_with(&mut client).await, None);
}

pub(in crate::push) async fn malformed_closes_are_refused(subject: &impl Subject) {
    for (what, frame, code) in [
        ("half a code", Frame::last(Frame::CLOSE, [3]), 1002),
        (
            "a reason that is no text",
            Frame::close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"),
            1007,
        ),
        (
            "a reason that is too long",
            Frame::close(1000, [b'x'; 124]),
            1002,
        ),
    ] {
        let mut client = subject.open().await;
        client.send(frame).await;
        assert_fails(subject, &mut client, code, what).await;
    }
}

pub(in crate::push) async fn codes_that_must_not_be_sent_are_refused(subject: &impl Subject) {
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        let mut client = subject.open().await;
        client.send(Frame::close(code, "")).await;
        assert_eq!(closed_with(&mut client).await, Some(1002), "{code}");
    }
}

pub(in crate::push) async fn nothing_is_answered_after_a_close(subject: &impl Subject) {
    for late in [
        Frame::text(&subject.question("late")),
        Frame::ping("late"),
        Frame::close(1001, ""),
    ] {
        let mut client = subject.open().await;
        let both = [Frame::close(1000, "").bytes(), late.bytes()].concat();
        client.send_bytes(&both).await;
        assert_eq!(closed_with(&mut client).await, Some(1000));
    }
}

pub(in crate::push) async fn a_client_that_only_stops_sending_is_let_go(subject: &impl Subject) {
    let mut client = subject.open().await;
    assert_goes_on(subject, &mut client).await;
    client.stop_sending().await;
    assert_eq!(client.frame().await, None);
    let mut client = subject.open().await;
    client.send(Frame::close(1000, "")).await;
    client.stop_sending().await;
    assert_eq!(closed_with(&mut client).await, Some(1000));
}

pub(in crate::push) async fn a_client_that_vanishes_in_a_frame_is_let_go(subject: &impl Subject) {
    let whole = Frame::text(&subject.question("cut off")).bytes();
    for sent in [1, 2, 5, whole.len() - 1] {
        let mut client = subject.open().await;
        client.send_bytes(&whole[..sent]).await;
        client.stop_sending().await;
        assert_eq!(client.frame().await, None, "after {sent} bytes");
    }
}
