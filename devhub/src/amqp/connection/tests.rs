//! The state machine without a socket: what clients that keep the rules never make it do.

use std::time::Duration;

use bytes::BufMut;
use proptest::prelude::*;

use super::{
    super::{
        codec::{
            put_binary, put_bool, put_descriptor, put_list, put_map, put_null, put_string,
            put_uint, validate,
        },
        frame::Frame,
        link::MESSAGE_SIZE_MAX,
        performative::{ATTACH, BEGIN, FLOW, TRANSFER},
        server::Connections,
    },
    *,
};
use crate::{
    cbs::Authority,
    clock::SystemClock,
    event_hub::{ConsumerGroups, EventHub},
    faults::Switches,
    partition_log::LogBounds,
    sas::SharedAccessKey,
};

fn connection() -> Connection {
    let shared = Shared {
        hub: EventHub::new(
            "hub",
            1,
            ConsumerGroups::Any,
            LogBounds::default(),
            Arc::new(SystemClock),
        ),
        authority: Authority {
            policy: "policy".into(),
            key: SharedAccessKey::new("key"),
            accepts_any_token: true,
        },
        faults: Arc::<Switches>::default(),
        connections: Arc::new(Connections::new(1)),
        container_id: "container".into(),
        idle_timeout: Duration::from_mins(1),
    };
    let mailbox = Arc::<Mailbox>::default();
    Connection::new(Arc::new(shared), mailbox, 512, BytesMut::new())
}

fn performative(code: u8, fields: impl FnOnce(&mut BytesMut) -> u32) -> BytesMut {
    let mut body = BytesMut::new();
    put_descriptor(&mut body, code);
    put_list(&mut body, fields);
    body
}

fn begin() -> BytesMut {
    performative(BEGIN, |out| {
        put_null(out);
        put_uint(out, 0);
        put_uint(out, 100);
        put_uint(out, 100);
        4
    })
}

fn attach(handle: u32, is_receiver: bool, address: &str) -> BytesMut {
    let terminus = |out: &mut BytesMut, code| {
        put_descriptor(out, code);
        put_list(out, |out| {
            put_string(out, address);
            1
        });
    };
    performative(ATTACH, |out| {
        put_string(out, "link");
        put_uint(out, handle);
        put_bool(out, is_receiver);
        put_null(out);
        put_null(out);
        terminus(out, 0x28);
        terminus(out, 0x29);
        7
    })
}

fn transfer(handle: u32, payload: &[u8], more: bool) -> BytesMut {
    let mut body = performative(TRANSFER, |out| {
        put_uint(out, handle);
        put_uint(out, 0);
        put_binary(out, b"tag");
        put_uint(out, 0);
        put_bool(out, false);
        put_bool(out, more);
        6
    });
    body.put_slice(payload);
    body
}

/// A connection with a token and a sender to the hub on handle 1.
fn with_sender() -> Connection {
    let mut connection = connection();
    connection.on_frame(0, &begin()).unwrap();
    connection.on_frame(0, &attach(0, false, "$cbs")).unwrap();
    let mut request = BytesMut::new();
    put_descriptor(&mut request, 0x74);
    put_map(&mut request, |out| {
        put_string(out, "operation");
        put_string(out, "put-token");
        put_string(out, "name");
        put_string(out, "sb://h/hub");
        2
    });
    put_descriptor(&mut request, 0x77);
    put_string(&mut request, "any");
    connection
        .on_frame(0, &transfer(0, &request, false))
        .unwrap();
    connection.on_frame(0, &attach(1, false, "hub")).unwrap();
    connection.out.clear();
    connection
}

/// Whether what was put out is whole frames that say `text` somewhere.
fn said(connection: &mut Connection, text: &str) -> bool {
    let out = connection.out.split();
    let mut at = 0;
    while let Some(frame) = Frame::parse(&out[at..], 1 << 20).unwrap() {
        assert!(validate(frame.body).is_ok(), "{:x?}", frame.body);
        at += frame.len;
    }
    assert_eq!(at, out.len());
    text.is_empty()
        || out
            .windows(text.len())
            .any(|window| window == text.as_bytes())
}

#[test]
fn a_message_past_the_limit_detaches_its_link_and_only_that() {
    let mut connection = with_sender();
    let piece = vec![0; 60_000];
    for _ in 0..MESSAGE_SIZE_MAX / piece.len() {
        connection.on_frame(0, &transfer(1, &piece, true)).unwrap();
    }
    assert!(!said(&mut connection, "amqp:"));
    connection.on_frame(0, &transfer(1, &piece, true)).unwrap();
    assert!(said(&mut connection, "amqp:link:message-size-exceeded"));
    // What was on its way already is ignored, and the handle can be attached anew.
    connection.on_frame(0, &transfer(1, &piece, true)).unwrap();
    assert!(!said(&mut connection, "amqp:"));
    connection.on_frame(0, &attach(1, false, "hub")).unwrap();
    assert!(!said(&mut connection, "amqp:"));
}

#[test]
fn credit_is_renewed_as_messages_are_taken() {
    let mut connection = with_sender();
    let event = [0x00, 0x53, 0x75, 0xa0, 1, b'x'];
    for _ in 0..2000 {
        connection.on_frame(0, &transfer(1, &event, false)).unwrap();
    }
    assert!(!said(&mut connection, "amqp:"));
}

#[test]
fn a_handle_in_use_ends_the_session() {
    let mut connection = with_sender();
    connection.on_frame(0, &attach(1, false, "hub")).unwrap();
    assert!(said(&mut connection, "amqp:session:handle-in-use"));
    connection.on_frame(0, &attach(2, false, "hub")).unwrap();
    assert!(!said(&mut connection, "amqp:"), "an ended session is deaf");
}

#[test]
fn frames_for_a_handle_that_nothing_is_attached_to_end_the_session() {
    let flow = performative(FLOW, |out| {
        for field in [0, 100, 0, 100, 9] {
            put_uint(out, field);
        }
        5
    });
    for frame in [flow, transfer(9, b"", false)] {
        let mut connection = with_sender();
        connection.on_frame(0, &frame).unwrap();
        assert!(said(&mut connection, "amqp:session:unattached-handle"));
    }
}

#[test]
fn links_are_bounded_over_all_sessions() {
    let mut connection = with_sender();
    let mut refused = 0;
    for channel in 1..=5 {
        connection.on_frame(channel, &begin()).unwrap();
        for handle in 0..256 {
            let attach = attach(handle, false, "hub");
            connection.on_frame(channel, &attach).unwrap();
            refused += usize::from(said(&mut connection, "amqp:resource-limit-exceeded"));
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn a_connection_that_goes_gives_up_its_readers() {
    let mut connection = with_sender();
    let reader = "hub/ConsumerGroups/$Default/Partitions/0";
    for handle in 2..7 {
        connection
            .on_frame(0, &attach(handle, true, reader))
            .unwrap();
    }
    assert!(!said(&mut connection, "amqp:"));
    connection.on_frame(0, &attach(7, true, reader)).unwrap();
    assert!(said(&mut connection, "amqp:resource-limit-exceeded"));
    let hub = connection.shared.hub.clone();
    let error = idle();
    drop(connection);
    assert_eq!(hub.readers().detach_all(0, &error), 0);
}

proptest! {
    /// Whatever follows, the answer is whole frames, and its size is bounded.
    #[test]
    fn random_performatives_never_break_the_connection(
        frames in proptest::collection::vec((0x10u8..0x19, proptest::collection::vec(any::<u8>(), 0..40), 0u16..3), 0..40)
    ) {
        let mut connection = with_sender();
        for (code, fields, channel) in frames {
            let mut body = vec![0x00, 0x53, code, 0xc0, u8::try_from(fields.len() + 1).unwrap(), 6];
            body.extend(fields);
            if let Err(error) = connection.on_frame(channel, &body) {
                connection.close(Some(&error));
            }
            connection.send();
            said(&mut connection, "");
        }
    }
}
