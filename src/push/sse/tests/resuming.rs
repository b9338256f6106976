//! Coming back after a loss.

use super::harness::{EVERY_KEY, Server, all_of_d1, token};

const HEADER: &str = "Last-Event-ID";

#[tokio::test]
async fn a_client_that_comes_back_in_time_gets_all_that_it_missed() {
    let server = Server::start().await;
    let token = token(60_000, &all_of_d1());
    let request = || server.get("telemetry=d1").bearer_auth(&token);
    let mut events = server.open(request()).await;
    let session = events.next_of("snapshot").await.data["sessionId"].clone();
    server.send(1).await;
    let seen = events.next_of("updates").await.id().to_owned();
    for by_query in [false, true] {
        drop(events);
        server.connections_become(0).await;
        for number in 2..=4 {
            server.settle(number).await;
        }
        let again = if by_query {
            let query = format!("telemetry=d1&lastEventId={seen}");
            server.get(&query).bearer_auth(&token)
        } else {
            request().header(HEADER, &seen)
        };
        events = server.open(again).await;
        let start = events.next_of("snapshot").await;
        assert_eq!(start.data["recovered"], true);
        assert_eq!(start.data.get("snapshot"), None);
        assert_eq!(start.data["sessionId"], session);
        let missed = events.numbers_until(4).await;
        assert_eq!(&missed[..3], [2, 3, 4]);
        if by_query {
            assert_eq!(missed, [2, 3, 4, 2, 3, 4], "both losses are in the window");
        }
    }
}

#[tokio::test]
async fn a_place_that_nobody_remembers_begins_with_a_new_snapshot() {
    let server = Server::start().await;
    let token = token(60_000, &all_of_d1());
    server.settle(1).await;
    let places: [&[u8]; 4] = [
        b"x",
        b"1",
        b"0199b1de-0000-7000-8000-000000000000.1.1",
        b"\xe9",
    ];
    for place in places {
        let request = server.get("telemetry=d1").bearer_auth(&token);
        let mut events = server.open(request.header(HEADER, place)).await;
        let start = events.next_of("snapshot").await;
        assert_eq!(start.data["recovered"], false);
        assert_eq!(start.data["snapshot"][0]["telemetry"]["n"]["value"], 1);
    }
}

#[tokio::test]
async fn a_session_keeps_what_it_has_when_its_place_is_lost() {
    let server = Server::start().await;
    let (session, events) = server.following().await;
    drop(events);
    server.connections_become(0).await;
    server.settle(3).await;
    let place = format!("{session}.999.5");
    for query in ["", "&telemetry=d1"] {
        let request = server.get(&format!("sessionId={session}{query}"));
        let mut events = server.open(request.header(HEADER, &place)).await;
        let start = events.next_of("snapshot").await;
        assert_eq!(start.data["recovered"], false);
        assert_eq!(start.data["snapshot"][0]["telemetry"]["n"]["value"], 3);
    }
}

#[tokio::test]
async fn the_place_in_another_session_is_none_in_the_one_that_is_named() {
    let server = Server::start().await;
    let (_, mut events) = server.following().await;
    server.send(1).await;
    let foreign = events.next_of("updates").await;
    let session = server.session([EVERY_KEY]).await;
    let request = server.get(&format!("sessionId={session}&telemetry=d1"));
    let mut other = server.open(request.header(HEADER, foreign.id())).await;
    let start = other.next_of("snapshot").await;
    assert_eq!(start.data["sessionId"], session.to_string());
    assert_eq!(start.data["recovered"], false);
    server.send(2).await;
    assert_eq!(events.numbers_until(2).await, [2]);
}

#[tokio::test]
async fn an_expired_token_does_not_bring_a_client_back_and_a_fresh_one_does() {
    let server = Server::start().await;
    let short = token(1_000, &all_of_d1());
    let request = || server.get("telemetry=d1");
    let mut events = server.open(request().bearer_auth(&short)).await;
    let start = events.next_of("snapshot").await;
    let ended = events.next_of("ended").await;
    assert_eq!(ended.data["reason"], "expired");
    let again = request().bearer_auth(&short).header(HEADER, start.id());
    let (status, text) = server.refusal(again).await;
    assert_eq!(
        (status, &*text),
        (401, "Unauthorized: the grant token has expired (`exp`)")
    );
    drop(events);
    server.connections_become(0).await;
    let fresh = token(60_000, &all_of_d1());
    let again = request().bearer_auth(&fresh).header(HEADER, start.id());
    let mut events = server.open(again).await;
    let on = events.next_of("snapshot").await;
    assert_eq!(on.data["sessionId"], start.data["sessionId"]);
    assert_eq!(on.data["recovered"], false, "its subscription had ended");
    server.send(9).await;
    assert_eq!(events.numbers_until(9).await, [9]);
}

#[tokio::test]
async fn a_client_that_comes_back_wanting_more_gets_a_snapshot_of_everything_until_it_arrives() {
    let server = Server::start().await;
    server.send_telemetry(&[("m", "1")]).await;
    server.settle(1).await;
    let session = server.session([EVERY_KEY]).await;
    let request = server.get(&format!("sessionId={session}&telemetry=d1/n"));
    let mut events = server.open(request).await;
    let seen = events.next_of("snapshot").await;
    drop(events);
    server.connections_become(0).await;
    server.settle(2).await;
    let query = format!("sessionId={session}&telemetry=d1/n&telemetry=d1/m");
    // The first answer may be lost as well; its client then says again where it was.
    for _ in 0..2 {
        let request = server.get(&query).header(HEADER, seen.id());
        let mut events = server.open(request).await;
        let start = events.next_of("snapshot").await;
        assert_eq!(start.data["recovered"], false);
        let telemetry = &start.data["snapshot"][0]["telemetry"];
        assert_eq!(
            (&telemetry["m"]["value"], &telemetry["n"]["value"]),
            (&serde_json::json!(1), &serde_json::json!(2))
        );
        drop(events);
        server.connections_become(0).await;
    }
}
