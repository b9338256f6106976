//! Clients that lost their connection and come back.

use relay_protocol::native::{ClientMessage, ErrorCode, Hello, Resume, ServerHello, ServerMessage};

use super::harness::{Client, EVERY_KEY, Server, every_key, json, numbers, roomy};
use crate::domain::id::SessionId;
use crate::domain::limits::OutboxLimits;
use crate::push::Settings;
use crate::relay;

fn resume(session: SessionId, epoch: u64, sequence: u64) -> Hello {
    Hello {
        token: None,
        session_id: Some(session.to_string().as_str().into()),
        resume: Some(Resume { epoch, sequence }),
    }
}

/// A client that has got the numbers 1 to 3 and is gone.
async fn lost(server: &Server) -> (SessionId, ServerHello) {
    let mut client = server.client().await;
    let hello = client.hello(Hello::default()).await;
    let session = SessionId::parse(hello.session_id.as_str()).unwrap();
    server.grant(session, "d1", EVERY_KEY).await;
    client.subscribe([every_key("d1").into()]).await;
    for number in 1..=3 {
        server.send(number).await;
        assert_eq!(client.numbers().await, [number]);
    }
    drop(client);
    server.connections_become(0).await;
    (session, hello)
}

/// Reads numbers up to a last one.
async fn read_to(client: &mut Client, last: u64) -> (Vec<u64>, u64) {
    let mut got = Vec::new();
    loop {
        let updates = client.updates().await;
        got.extend(numbers(&updates));
        if got.last() == Some(&last) {
            return (got, updates.sequence);
        }
    }
}

#[tokio::test]
async fn what_was_missed_follows_and_nothing_else() {
    let server = Server::start().await;
    let (session, before) = lost(&server).await;
    for number in 4..=6 {
        server.send(number).await;
    }
    let mut client = server.client().await;
    let hello = client.hello(resume(session, before.epoch, 3)).await;
    assert_eq!((hello.recovered, &hello.snapshot), (Some(true), &None));
    assert_eq!((hello.epoch, hello.sequence), (before.epoch, 3));
    assert_eq!(hello.session_id, before.session_id);
    assert_eq!(read_to(&mut client, 6).await, (vec![4, 5, 6], 6));
    server.send(7).await;
    assert_eq!(read_to(&mut client, 7).await, (vec![7], 7));
}

#[tokio::test]
async fn what_was_sent_but_did_not_arrive_is_sent_again() {
    let server = Server::start().await;
    let (session, before) = lost(&server).await;
    server.send(4).await;
    let mut client = server.client().await;
    let hello = client.hello(resume(session, before.epoch, 1)).await;
    assert_eq!(hello.recovered, Some(true));
    assert_eq!(read_to(&mut client, 4).await, (vec![2, 3, 4], 4));
}

#[tokio::test]
async fn what_is_no_longer_remembered_is_replaced_by_a_snapshot() {
    let settings = relay::Settings {
        outbox_limits: OutboxLimits {
            replay_frames_max: 1,
            ..roomy().outbox_limits
        },
        ..roomy()
    };
    let server = Server::with(Settings::default(), settings).await;
    let (session, before) = lost(&server).await;
    server.send(4).await;
    let mut client = server.client().await;
    let hello = client.hello(resume(session, before.epoch, 0)).await;
    assert_eq!(hello.recovered, Some(false));
    let snapshot = hello.snapshot.unwrap();
    assert_eq!(snapshot.len(), 1);
    assert_eq!(snapshot[0].telemetry["n"].value, json("4"));
    assert_ne!(hello.epoch, before.epoch);
    server.send(5).await;
    let (got, sequence) = read_to(&mut client, 5).await;
    assert_eq!((got, sequence), (vec![5], hello.sequence + 1));
}

#[tokio::test]
async fn numbers_of_another_epoch_or_of_the_future_recover_nothing() {
    let server = Server::start().await;
    let (session, before) = lost(&server).await;
    for (epoch, sequence) in [(before.epoch + 7, 3), (before.epoch, 99), (0, 0)] {
        let mut client = server.client().await;
        let hello = client.hello(resume(session, epoch, sequence)).await;
        assert_eq!(hello.recovered, Some(false), "{epoch} {sequence}");
        assert_eq!(hello.snapshot.unwrap()[0].telemetry["n"].value, json("3"));
        drop(client);
        server.connections_become(0).await;
    }
}

#[tokio::test]
async fn after_the_window_the_session_is_gone() {
    let settings = relay::Settings {
        resume_window_ms: 0,
        ..roomy()
    };
    let server = Server::with(Settings::default(), settings).await;
    let (session, before) = lost(&server).await;
    let mut client = server.client().await;
    let hello = resume(session, before.epoch, 3);
    client.send(&ClientMessage::Hello(hello)).await;
    assert_eq!(client.error().await.code, ErrorCode::NoSuchSession);
    assert_eq!(client.end().await.close_code, Some(4403));
}

#[tokio::test]
async fn a_resume_replaces_a_connection_that_is_still_there() {
    let server = Server::start().await;
    let (mut first, session) = server.following().await;
    server.send(1).await;
    assert_eq!(first.numbers().await, [1]);
    let mut second = server.client().await;
    let hello = second.hello(resume(session, 1, 1)).await;
    assert_eq!(hello.recovered, Some(true));
    let end = first.end().await;
    assert_eq!(end.close_code, Some(4409));
    let goodbye = end.goodbye.unwrap();
    assert_eq!(goodbye.code.as_str(), "sessionReplaced");
    assert!(!goodbye.reconnect);
    server.send(2).await;
    assert_eq!(second.numbers().await, [2]);
}

#[tokio::test]
async fn what_was_revoked_meanwhile_is_not_sent_again() {
    let server = Server::start().await;
    let (session, before) = lost(&server).await;
    server.send(4).await;
    server.revoke(session, EVERY_KEY).await;
    let mut client = server.client().await;
    client.hello(resume(session, before.epoch, 0)).await;
    let ended = client.message().await;
    assert!(matches!(ended, ServerMessage::Ended(_)), "{ended:?}");
    client.still_answers().await;
}

async fn expect_ended(client: &mut Client) {
    match client.message().await {
        ServerMessage::Ended(ended) => assert_eq!(ended.subscriptions, [every_key("d1")]),
        other => panic!("{other:?} instead of an end"),
    }
}

#[tokio::test]
async fn an_end_that_may_not_have_arrived_is_told_again() {
    for remembered in [true, false] {
        let server = Server::start().await;
        let (session, before) = lost(&server).await;
        let mut client = server.client().await;
        client.hello(resume(session, before.epoch, 3)).await;
        server.revoke(session, EVERY_KEY).await;
        expect_ended(&mut client).await;
        drop(client);
        server.connections_become(0).await;

        let mut client = server.client().await;
        let epoch = if remembered { before.epoch } else { 77 };
        let hello = client.hello(resume(session, epoch, 3)).await;
        assert_eq!(hello.recovered, Some(remembered));
        expect_ended(&mut client).await;

        // What is there again has not ended.
        server.grant(session, "d1", EVERY_KEY).await;
        client.subscribe([every_key("d1").into()]).await;
        drop(client);
        server.connections_become(0).await;
        let mut client = server.client().await;
        client
            .hello(resume(session, hello.epoch, hello.sequence))
            .await;
        server.send(4).await;
        assert_eq!(client.numbers().await, [4]);
    }
}

#[tokio::test]
async fn the_end_of_a_subscription_is_not_told_when_it_is_there_again() {
    let server = Server::start().await;
    let (session, before) = lost(&server).await;
    // Whether the end or the request is looked at first is left to chance.
    for _ in 0..16 {
        server.revoke(session, EVERY_KEY).await;
        server.grant(session, "d1", EVERY_KEY).await;
        let mut client = server.client().await;
        let hello = ClientMessage::Hello(resume(session, before.epoch, 3));
        client.send(&hello).await;
        client.ask_to_subscribe([every_key("d1").into()]).await;
        let ServerMessage::Hello(hello) = client.message().await else {
            panic!("no hello")
        };
        assert_eq!(hello.recovered, Some(true));
        let mut next = client.message().await;
        if let ServerMessage::Ended(ended) = next {
            assert_eq!(ended.subscriptions, [every_key("d1")]);
            next = client.message().await;
        }
        assert!(matches!(next, ServerMessage::Subscribed(_)), "{next:?}");
        client.still_answers().await;
        drop(client);
        server.connections_become(0).await;
    }
}
