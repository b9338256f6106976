//! Socket.IO over HTTP long-polling.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::harness::{PATIENCE, Server, number, often_pinging, quick};
use crate::push::Settings;

#[tokio::test]
async fn a_poll_is_held_until_there_is_something_to_say() {
    let server = Server::start(Settings::default()).await;
    let client = server
        .connected_polling(server.subscribed_session().await)
        .await;
    let polling = client.clone();
    let mut poll = tokio::spawn(async move { polling.packets().await });
    assert!(
        timeout(Duration::from_millis(100), &mut poll)
            .await
            .is_err(),
        "the poll was not held"
    );
    server.send(5).await;
    let packets = timeout(PATIENCE, poll).await.unwrap().unwrap();
    assert_eq!(
        packets
            .iter()
            .map(|packet| number(packet))
            .collect::<Vec<_>>(),
        [5]
    );
}

#[tokio::test]
async fn updates_between_polls_come_together_and_in_order() {
    let server = Server::start(Settings::default()).await;
    let client = server
        .connected_polling(server.subscribed_session().await)
        .await;
    for number in 0..300 {
        server.send(number).await;
    }
    let mut numbers = Vec::new();
    let mut polls = 0;
    while numbers.len() < 300 {
        polls += 1;
        numbers.extend(client.packets().await.iter().map(|packet| number(packet)));
    }
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    assert!(polls < 20, "{polls} polls for 300 updates that were ready");
}

#[tokio::test]
async fn payloads_longer_than_any_buffer_arrive_whole() {
    let server = Server::start(Settings::default()).await;
    let client = server
        .connected_polling(server.subscribed_session().await)
        .await;
    let value = format!("\"{}\"", "v".repeat(500_000));
    server.send_value(&value).await;
    let packets = client.packets().await;
    assert!(packets[0].contains(&value));
    server.send(1).await;
    assert_eq!(number(&client.packets().await[0]), 1);
}

#[tokio::test]
async fn heartbeats_go_by_poll_and_post() {
    let server = Server::start(often_pinging()).await;
    let client = server
        .connected_polling(server.relay.create_session().unwrap())
        .await;
    for _ in 0..3 {
        assert_eq!(client.poll().await, (200, "2".to_owned()));
        assert_eq!(client.post("3").await, (200, "ok".to_owned()));
    }
}

#[tokio::test]
async fn a_client_that_stops_polling_is_forgotten() {
    let server = Server::start(quick()).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;
    server.all_gone().await;
    assert_eq!(client.poll().await.0, 400);
    assert!(!server.relay.has_session(session));
}

#[tokio::test]
async fn a_client_whose_poll_breaks_off_has_gone() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;
    assert!(
        timeout(Duration::from_millis(200), client.poll())
            .await
            .is_err()
    );
    server.all_gone().await;
    assert!(!server.relay.has_session(session));
}

#[tokio::test]
async fn a_second_poll_closes_the_connection() {
    let server = Server::start(Settings::default()).await;
    let client = server
        .connected_polling(server.subscribed_session().await)
        .await;
    let (first, second) = tokio::join!(client.poll(), client.poll());
    let mut answers = [first, second];
    answers.sort();
    assert_eq!(answers[0], (200, "1".to_owned()));
    assert_eq!(answers[1].0, 400);
    assert_eq!(client.poll().await.0, 400);
    server.all_gone().await;
}

#[tokio::test]
async fn malformed_packets_close_the_connection() {
    let server = Server::start(Settings::default()).await;
    for body in ["abc", "", "4\u{1e}", "b*", "42[]", "2", "bAQID"] {
        let client = server
            .connected_polling(server.relay.create_session().unwrap())
            .await;
        assert_eq!(client.post(body).await.0, 400, "{body:?}");
        assert_eq!(client.poll().await.0, 400, "{body:?}");
    }
    let client = server
        .connected_polling(server.relay.create_session().unwrap())
        .await;
    let not_text = server
        .http
        .post(&client.url)
        .body(vec![0xff, 0xfe])
        .send()
        .await
        .unwrap();
    assert_eq!(not_text.status(), 400);
    server.all_gone().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let server = Server::start(Settings {
        payload_bytes_max: 1000,
        ..Settings::default()
    })
    .await;
    let client = server
        .connected_polling(server.relay.create_session().unwrap())
        .await;
    assert_eq!(client.post(&format!("4{}", "2".repeat(1000))).await.0, 413);
    server.all_gone().await;
}

#[tokio::test]
async fn a_second_post_closes_the_connection() {
    let server = Server::start(Settings::default()).await;
    let client = server
        .connected_polling(server.relay.create_session().unwrap())
        .await;
    let (body, first) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let slow =
        reqwest::Body::wrap_stream(futures_util::stream::unfold(first, async |mut first| {
            first.recv().await.map(|chunk| (chunk, first))
        }));
    body.send(Ok(b"4".to_vec())).await.unwrap();
    let slow = tokio::spawn(server.http.post(&client.url).body(slow).send());
    let refused = async {
        // The slow one must have begun to count as running.
        while server
            .push
            .0
            .polling
            .get(&client.sid)
            .is_some_and(|handle| handle.start_post().is_some())
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(client.post("3").await.0, 400);
    server.all_gone().await;
    drop(body);
    let slow = timeout(PATIENCE, slow).await.unwrap().unwrap();
    assert!(slow.is_err() || slow.is_ok_and(|response| response.status() == 400));
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let server = Server::start(Settings {
        ping_timeout: Duration::from_millis(100),
        ..Settings::default()
    })
    .await;
    let client = server.polling(server.relay.create_session().unwrap()).await;
    let start = futures_util::stream::once(async { Ok::<_, std::io::Error>("4") });
    let endless = start.chain(futures_util::stream::pending());
    let post = server.http.post(&client.url);
    let refused = post.body(reqwest::Body::wrap_stream(endless)).send().await;
    assert_eq!(refused.unwrap().status(), 400);
    assert_eq!(client.poll().await.0, 400);
    server.all_gone().await;
}

#[tokio::test]
async fn a_client_that_says_goodbye_has_its_poll_released() {
    let server = Server::start(Settings::default()).await;
    let client = server
        .connected_polling(server.relay.create_session().unwrap())
        .await;
    let polling = client.clone();
    let poll = tokio::spawn(async move { polling.poll().await });
    // Whichever comes first, the poll is answered: released when it was open, refused when it comes too late.
    assert_eq!(client.post("1").await, (200, "ok".to_owned()));
    let (status, body) = timeout(PATIENCE, poll).await.unwrap().unwrap();
    assert!(
        (status, body.as_str()) == (200, "6") || status == 400,
        "{status} {body}"
    );
    assert_eq!(client.poll().await.0, 400);
    server.all_gone().await;
}

#[tokio::test]
async fn a_deleted_session_is_told_on_the_next_poll() {
    let server = Server::start(Settings::default()).await;
    let session = server.subscribed_session().await;
    let client = server.connected_polling(session).await;
    server.relay.delete_session(session).await;
    assert_eq!(client.poll().await, (200, "41".to_owned()));
    assert_eq!(client.poll().await, (200, "1".to_owned()));
    assert_eq!(client.poll().await.0, 400);
    server.all_gone().await;
}

#[tokio::test]
async fn an_ended_session_is_refused() {
    let server = Server::start(Settings::default()).await;
    let session = server.relay.create_session().unwrap();
    server.relay.delete_session(session).await;
    let client = server.polling(session).await;
    client.post("40").await;
    assert_eq!(
        client.packets().await,
        ["44{\"message\":\"No such sessionId\"}"]
    );
}
