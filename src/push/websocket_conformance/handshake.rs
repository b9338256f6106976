//! How a WebSocket is asked for (RFC 6455 §4.2).

use super::raw_client::HANDSHAKE;
use super::{RawClient, Subject, assert_goes_on};

pub(in crate::push) async fn handshakes_that_lack_something_are_refused(subject: &impl Subject) {
    let get = format!("GET {} HTTP/1.1", subject.path());
    let mut requests = vec![
        (get.replacen("GET", "POST", 1), HANDSHAKE.to_vec()),
        (get.replacen("HTTP/1.1", "HTTP/1.0", 1), HANDSHAKE.to_vec()),
    ];
    for (place, (name, _)) in HANDSHAKE.iter().enumerate() {
        let mut without = HANDSHAKE.to_vec();
        without.remove(place);
        requests.push((get.clone(), without));
        if *name != "Sec-WebSocket-Key" {
            let mut wrong = HANDSHAKE.to_vec();
            wrong[place].1 = "12";
            requests.push((get.clone(), wrong));
        }
    }
    for (line, headers) in requests {
        let (head, _) = RawClient::ask(subject.address(), &line, &headers).await;
        let status = head.split(' ').nth(1).unwrap();
        assert!(status.starts_with('4'), "{line} {headers:?}: {head}");
    }
}

pub(in crate::push) async fn header_names_and_values_are_read_in_any_case(subject: &impl Subject) {
    let line = format!("GET {} HTTP/1.1", subject.path());
    let headers = [
        ("CONNECTION", "keep-alive, UPGRADE"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("SEC-WEBSOCKET-KEY", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let (head, mut client) = RawClient::ask(subject.address(), &line, &headers).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    subject.greet(&mut client).await;
    assert_goes_on(subject, &mut client).await;
}
