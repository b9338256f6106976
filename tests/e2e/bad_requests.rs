//! Requests that are malformed, oversized, or never finished.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{
    DeviceEvent, PATIENCE, PRIMARY_KEY, Rest, Session, Testbed, every_key, telemetry,
};

/// Values of every JSON type, for fields that take a non-empty string.
fn not_a_name() -> Vec<Value> {
    vec![
        json!(17),
        json!(true),
        json!([]),
        json!({}),
        json!([1]),
        json!({"a": 1}),
        json!(""),
    ]
}

#[tokio::test]
async fn every_field_of_a_grant_refuses_every_wrong_type() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let valid = session.request(&telemetry("d1", "t"));
    for field in ["sessionId", "deviceId", "type", "telemetryKey"] {
        let mut wrong_values = not_a_name();
        if field != "telemetryKey" {
            wrong_values.push(Value::Null);
        }
        for wrong in wrong_values {
            let mut body = valid.clone();
            body[field] = wrong;
            for call in [testbed.rest.put("/grants"), testbed.rest.delete("/grants")] {
                call.key(PRIMARY_KEY)
                    .json(&body)
                    .await
                    .says(400, "unknown grant type");
            }
        }
    }
    assert_has_no_grant(&session).await;
}

#[tokio::test]
async fn every_field_of_a_subscription_refuses_every_wrong_type() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed.connected_session().await;
    session.granted(&every_key("d1")).await;
    let valid = session.request(&telemetry("d1", "t"));
    for field in ["deviceId", "type", "telemetryKey"] {
        let mut wrong_values = not_a_name();
        if field != "telemetryKey" {
            wrong_values.push(Value::Null);
        }
        for wrong in wrong_values {
            let mut body = valid.clone();
            body[field] = wrong;
            let one = testbed.rest.put("/subscription").json(&body).await;
            one.says(400, "unknown subscription type");
            let bulk = json!([valid, body]);
            let many = testbed.rest.put("/subscriptions").json(&bulk).await;
            many.says(
                400,
                "Not all elements in the request body are subscription requests",
            );
        }
    }
    session.subscribed(&telemetry("d1", "u")).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1})))
        .await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"u": 1})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"u": 1}));
}

#[tokio::test]
async fn bodies_that_are_not_the_expected_json_get_the_endpoints_own_message() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "17",
        "\"text\"",
        "{\"a\":1}",
        "\u{0}",
        deep.as_str(),
    ];
    for body in bodies {
        for call in [testbed.rest.put("/grants"), testbed.rest.delete("/grants")] {
            call.key(PRIMARY_KEY)
                .json_text(body)
                .await
                .says(400, "unknown grant type");
        }
        for call in [
            testbed.rest.put("/subscription"),
            testbed.rest.delete("/subscription"),
        ] {
            let answer = call.session(&session.id).json_text(body).await;
            answer.says(400, "unknown subscription type");
        }
        if body == "[]" {
            continue;
        }
        for call in [
            testbed.rest.put("/subscriptions"),
            testbed.rest.delete("/subscriptions"),
        ] {
            let answer = call.session(&session.id).json_text(body).await;
            answer.says(
                400,
                "Not all elements in the request body are subscription requests",
            );
        }
    }
    assert_has_no_grant(&session).await;
}

#[tokio::test]
async fn a_json_body_needs_no_content_type() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let call = testbed.rest.put("/grants").key(PRIMARY_KEY);
    let body = session.request(&every_key("d1")).to_string();
    call.body(body).await.is(204);
}

#[tokio::test]
async fn unknown_members_are_ignored() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let mut what = telemetry("d1", "t");
    what["nobodyKnows"] = json!({"this": [1, 2, 3]});
    session.granted(&what).await;
    session.subscribed(&what).await;
}

#[tokio::test]
async fn an_oversized_body_is_refused_before_it_is_sent() {
    let mut testbed = Testbed::start().await;
    for (method, path) in [("PUT", "/grants"), ("PUT", "/subscriptions")] {
        let mut stream = TcpStream::connect(testbed.rest.authority()).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: relay\r\nShared-Access-Key: {PRIMARY_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = first_line(&mut stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 413"),
            "{method} {path}: {answer}"
        );
    }
    testbed.still_serves().await;
}

#[tokio::test]
async fn an_oversized_body_of_unknown_length_is_refused() {
    let mut testbed = Testbed::start().await;
    let mut stream = TcpStream::connect(testbed.rest.authority()).await.unwrap();
    let head = format!(
        "PUT /grants HTTP/1.1\r\nHost: relay\r\nShared-Access-Key: {PRIMARY_KEY}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut incoming, mut outgoing) = stream.split();
    let chunk = [
        format!("{:x}\r\n", 1 << 20).into_bytes(),
        vec![b' '; 1 << 20],
        b"\r\n".to_vec(),
    ]
    .concat();
    let send = async {
        // The relay stops reading at its limit; without that, this would go on.
        for _ in 0..100 {
            if outgoing.write_all(&chunk).await.is_err() {
                return;
            }
        }
        panic!("100 MiB were taken");
    };
    let answer = async {
        let mut answer = vec![0; 12];
        let read = timeout(PATIENCE, incoming.read_exact(&mut answer)).await;
        read.expect("an answer in time").expect("an answer");
        String::from_utf8(answer).unwrap()
    };
    let answer = tokio::select! {
        answer = answer => answer,
        () = send => String::new(),
    };
    assert!(answer.is_empty() || answer == "HTTP/1.1 413", "{answer}");
    testbed.still_serves().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_closed() {
    let mut testbed = Testbed::start().await;
    let mut unfinished = Vec::new();
    for start in [
        "",
        "G",
        "GET /version HTTP/1.1\r\n",
        "GET /version HTTP/1.1\r\nHost: relay\r\nX-Slow: ",
    ] {
        let mut stream = TcpStream::connect(testbed.rest.authority()).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        unfinished.push((start, stream));
    }
    testbed.still_serves().await;
    for (start, mut stream) in unfinished {
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the connection stays open after {start:?}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_closed() {
    let testbed = Testbed::start().await;
    let mut stream = TcpStream::connect(testbed.rest.authority()).await.unwrap();
    let head = format!(
        "PUT /grants HTTP/1.1\r\nHost: relay\r\nShared-Access-Key: {PRIMARY_KEY}\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(2 * PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection stays open");
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_client_errors_that_pages_can_read() {
    let testbed = Testbed::start().await;
    let rest = &testbed.rest;
    for (answer, status) in [
        (rest.get("/nothing/here").await, 404),
        (rest.get("/lastValue").key(PRIMARY_KEY).await, 404),
        (rest.post("/grants").key(PRIMARY_KEY).await, 405),
        (rest.get("/session").await, 405),
    ] {
        let answer = answer.is(status);
        assert!(!answer.header("access-control-allow-origin").is_empty());
    }
}

#[tokio::test]
async fn hostile_paths_are_answered_and_change_nothing() {
    let mut testbed = Testbed::start().await;
    let long = format!("/lastValue/{}", "x".repeat(6_000));
    for path in [
        "/lastValue/%",
        "/lastValue/%zz/t",
        "/lastValue/%00/t",
        "/lastValue/%ff%fe/t",
        "/lastValue//t",
        "/lastValue/d1/",
        long.as_str(),
    ] {
        let status = raw_status(&testbed.rest, path).await;
        assert!(
            matches!(status, 200 | 400 | 404 | 414 | 431),
            "{path}: {status}"
        );
    }
    testbed.still_serves().await;
}

#[tokio::test]
async fn an_empty_key_never_matches() {
    let testbed = Testbed::with(&[("SECONDARY_ADMIN_SECRET", "")]).await;
    testbed.rest.delete("/sessions").key("").await.is(401);
    testbed.rest.put("/logLevel/debug").key("").await.is(401);
    // An empty header counts as absent where a session would do as well.
    testbed.rest.get("/lastValue/d1").key("").await.is(401);
}

async fn assert_has_no_grant(session: &Session) {
    session.get("/lastValue/d1").await.is(403);
    session.subscribe(&telemetry("d1", "t")).await.is(403);
}

/// The status of a `GET` with the key, the path sent as it is.
async fn raw_status(rest: &Rest, path: &str) -> u16 {
    let mut stream = TcpStream::connect(rest.authority())
        .await
        .expect("the relay listens");
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: relay\r\nShared-Access-Key: {PRIMARY_KEY}\r\n\r\n");
    stream
        .write_all(head.as_bytes())
        .await
        .expect("the request is sent");
    let line = first_line(&mut stream).await;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {line:?}"))
}

async fn first_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut buffer = [0; 1024];
    while !line.contains(&b'\n') {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await;
        let count = read.expect("an answer in time").expect("an answer");
        assert!(count > 0, "closed without an answer");
        line.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&line)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
