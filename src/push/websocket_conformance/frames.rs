//! Single frames: control frames, reserved bits and opcodes, masks (RFC 6455 §5.1, §5.2 and §5.5; sections 2 to 4 of
//! Autobahn's suite).

use super::{Frame, Subject, assert_answered, assert_fails, assert_goes_on};

pub(in crate::push) async fn pings_are_answered_with_their_payload(subject: &impl Subject) {
    let mut client = subject.open().await;
    for payload in [
        vec![],
        b"hello".to_vec(),
        vec![0, 255, 254, 253],
        vec![b'x'; 125],
    ] {
        client.send(Frame::ping(&payload)).await;
        assert_eq!(client.frame().await, Some((Frame::PONG, payload)));
    }
    let pings: Vec<_> = (0..10).flat_map(|n| Frame::ping([n]).bytes()).collect();
    client.send_bytes(&pings).await;
    // A server may leave out all but the last answer when pings come faster than it answers.
    let mut answered = 0;
    while answered < 9 {
        let (opcode, payload) = client.frame().await.unwrap();
        assert_eq!(opcode, Frame::PONG);
        assert!(payload[0] == 0 || payload[0] > answered);
        answered = payload[0];
    }
    assert_goes_on(subject, &mut client).await;
}

pub(in crate::push) async fn pongs_that_nobody_asked_for_are_ignored(subject: &impl Subject) {
    let mut client = subject.open().await;
    for payload in ["", "unasked"] {
        client.send(Frame::last(Frame::PONG, payload)).await;
    }
    assert_goes_on(subject, &mut client).await;
}

pub(in crate::push) async fn long_or_fragmented_control_frames_are_refused(subject: &impl Subject) {
    for opcode in [Frame::PING, Frame::PONG, Frame::CLOSE] {
        let code = 1000_u16.to_be_bytes();
        let mut client = subject.open().await;
        client
            .send(Frame::last(
                opcode,
                [code.as_slice(), &[b'x'; 124]].concat(),
            ))
            .await;
        assert_fails(subject, &mut client, 1002, "126 bytes").await;
        let mut client = subject.open().await;
        client.send(Frame::unfinished(opcode, code)).await;
        assert_fails(subject, &mut client, 1002, "a fragment").await;
    }
}

pub(in crate::push) async fn reserved_bits_are_refused(subject: &impl Subject) {
    let question = subject.question("reserved");
    for bits in 1..8_u8 {
        for frame in [
            Frame::text(&question),
            Frame::last(Frame::BINARY, "x"),
            Frame::ping("x"),
            Frame::close(1000, ""),
        ] {
            let head = frame.head | (bits << 4);
            let mut client = subject.open().await;
            client.send(Frame { head, ..frame }).await;
            assert_fails(subject, &mut client, 1002, &format!("{head:#x}")).await;
        }
    }
}

pub(in crate::push) async fn reserved_opcodes_are_refused(subject: &impl Subject) {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in ["", "x"] {
            let mut client = subject.open().await;
            client.send(Frame::last(opcode, payload)).await;
            assert_fails(subject, &mut client, 1002, &format!("opcode {opcode}")).await;
        }
    }
}

pub(in crate::push) async fn frames_without_a_mask_are_refused(subject: &impl Subject) {
    let question = subject.question("unmasked");
    for frame in [
        Frame::text(&question),
        Frame::ping("x"),
        Frame::close(1000, ""),
    ] {
        let mut client = subject.open().await;
        let is_masked = false;
        client.send(Frame { is_masked, ..frame }).await;
        assert_fails(subject, &mut client, 1002, "unmasked").await;
    }
}

pub(in crate::push) async fn what_came_before_a_refused_frame_is_answered(subject: &impl Subject) {
    let mut client = subject.open().await;
    let question = subject.question("in time");
    let both = [Frame::text(&question), Frame::last(3, "")].map(|frame| frame.bytes());
    client.send_bytes(&both.concat()).await;
    assert_answered(subject, &mut client, &question).await;
    assert_fails(subject, &mut client, 1002, "a reserved opcode").await;
}
