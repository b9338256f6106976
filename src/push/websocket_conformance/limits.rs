//! How long messages and frames may be (RFC 6455 §10.4; sections 1 and 9 of Autobahn's suite).

use super::{Frame, Subject, assert_answered, assert_fails};

pub(in crate::push) async fn the_longest_message_is_taken(subject: &impl Subject) {
    let mut client = subject.open().await;
    let longest = subject.message_bytes_max();
    let around = subject.question("").len();
    // The lengths at which the header changes its form, and the limit.
    for bytes in [around, 125, 126, 127, 128, 65_535, 65_536, longest] {
        let filler = "*".repeat(bytes.saturating_sub(around));
        let question = subject.question(&filler);
        client.send(Frame::text(&question)).await;
        assert_answered(subject, &mut client, &question).await;
    }
}

pub(in crate::push) async fn a_longer_frame_is_refused_before_it_comes(subject: &impl Subject) {
    let longest = subject.message_bytes_max();
    let header = Frame::last(Frame::TEXT, vec![b'x'; longest + 1]).header();
    let mut client = subject.open().await;
    client.send_bytes(&header).await;
    assert_fails(subject, &mut client, 1009, "one byte too long").await;
    let mut header = header;
    header[2..10].copy_from_slice(&(u64::MAX >> 1).to_be_bytes());
    let mut client = subject.open().await;
    client.send_bytes(&header).await;
    assert_fails(subject, &mut client, 1009, "the longest of all frames").await;
}

pub(in crate::push) async fn fragments_of_a_longer_message_are_refused(subject: &impl Subject) {
    let longest = subject.message_bytes_max();
    let mut client = subject.open().await;
    client
        .send(Frame::unfinished(Frame::TEXT, vec![b'x'; longest / 2]))
        .await;
    let rest = vec![b'x'; longest - longest / 2];
    client
        .send(Frame::unfinished(Frame::CONTINUATION, rest))
        .await;
    client
        .send(Frame::unfinished(Frame::CONTINUATION, "x"))
        .await;
    assert_fails(subject, &mut client, 1009, "one byte too long").await;
}
