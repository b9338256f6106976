//! Every message, as a client meets it.

use relay_protocol::native::{
    ClientMessage, ErrorCode, GrantToken, Hello, NewSubscription, Refused, Selector, ServerMessage,
    Values,
};

use super::harness::{EVERY_KEY, Server, every_key, json, key, keys, roomy, whole};
use crate::domain::device_message::Content;
use crate::domain::grant::Grant;
use crate::domain::limits::SessionLimits;
use crate::push::Settings;
use crate::relay;

#[tokio::test]
async fn a_hello_tells_the_session_and_the_limits() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let hello = client.hello(Hello::default()).await;
    assert_eq!((hello.protocol, hello.sequence), (1, 0));
    assert_eq!(hello.server.name, "hubrelay");
    assert_eq!(hello.limits.message_bytes_max, 1_000_000);
    assert_eq!(hello.limits.keys_per_message_max, 10_000);
    assert_eq!(hello.ping_interval_ms, 25_000);
    assert_eq!((hello.recovered, hello.snapshot), (None, None));
    assert!((server.relay.unix_ms() - hello.time).abs() < 60_000);
    let other = server.client().await.hello(Hello::default()).await;
    assert_ne!(hello.session_id, other.session_id);
}

#[tokio::test]
async fn a_hello_may_name_a_session() {
    let server = Server::start().await;
    let session = server.relay.create_session().unwrap();
    let mut client = server.client().await;
    let named = Hello {
        session_id: Some(session.to_string().as_str().into()),
        ..Hello::default()
    };
    let hello = client.hello(named.clone()).await;
    assert_eq!(hello.session_id, named.session_id.unwrap());
}

#[tokio::test]
async fn a_hello_that_names_no_session_is_refused() {
    let server = Server::start().await;
    for id in ["", "x", "0190163d-8694-739b-aea5-966c26f8ad91"] {
        let mut client = server.client().await;
        let hello = Hello {
            session_id: Some(id.into()),
            ..Hello::default()
        };
        client.send(&ClientMessage::Hello(hello)).await;
        assert_eq!(client.error().await.code, ErrorCode::NoSuchSession);
        let end = client.end().await;
        assert_eq!(end.close_code, Some(4403));
        let goodbye = end.goodbye.unwrap();
        assert_eq!(goodbye.code.as_str(), "helloRefused");
        assert!(!goodbye.reconnect);
    }
    server.connections_become(0).await;
}

#[tokio::test]
async fn a_full_relay_says_that_the_same_hello_may_do_later() {
    let settings = relay::Settings {
        sessions_max: 1,
        ..roomy()
    };
    let server = Server::with(Settings::default(), settings).await;
    let (_first, _) = server.granted([]).await;
    let mut client = server.client().await;
    client.send(&ClientMessage::Hello(Hello::default())).await;
    assert_eq!(client.error().await.code, ErrorCode::TooManySessions);
    assert!(client.end().await.goodbye.unwrap().reconnect);
}

#[tokio::test]
async fn sessions_are_not_created_faster_than_over_rest() {
    let server = Server::start().await;
    let rate = &server.push.0.session_rate;
    let exhausting = async {
        loop {
            let now = std::time::Instant::now();
            while rate.take([0, 0, 0, 0].into(), now).is_ok() {}
            tokio::task::yield_now().await;
        }
    };
    let mut client = server.client().await;
    let refused = async {
        client.send(&ClientMessage::Hello(Hello::default())).await;
        (client.error().await, client.end().await)
    };
    let (error, end) = tokio::select! {
        biased;
        () = exhausting => unreachable!("it goes on for ever"),
        refused = refused => refused,
    };
    assert_eq!(error.code, ErrorCode::TooManySessions);
    assert!(end.goodbye.unwrap().reconnect);
}

#[tokio::test]
async fn the_answer_to_a_subscribe_carries_what_is_known() {
    let server = Server::start().await;
    let (mut client, _) = server
        .granted([
            key("a"),
            key("b"),
            Grant::ConnectionState,
            Grant::DeviceTwin(None),
        ])
        .await;
    let before = server.relay.unix_ms();
    server
        .send_telemetry("d1", &[("a", "9007199254740993"), ("c", "3")])
        .await;
    server
        .send_content(
            "d1",
            Content::ConnectionState {
                connected: true,
                sequence: None,
            },
        )
        .await;
    let subscribed = client
        .subscribe([
            keys("d1", ["a", "b"]).into(),
            whole("d1", Values::ConnectionState).into(),
            whole("d1", Values::DeviceTwin).into(),
        ])
        .await;
    assert_eq!((subscribed.sequence, subscribed.refused.len()), (0, 0));
    let [device] = &subscribed.snapshot[..] else {
        panic!("{subscribed:?}");
    };
    assert_eq!(device.device_id.as_str(), "d1");
    assert_eq!(device.telemetry.keys().collect::<Vec<_>>(), ["a"]);
    let value = &device.telemetry["a"];
    assert_eq!(value.value, json("9007199254740993"));
    assert_eq!(value.timestamp, "2024-05-01T10:00:00.000Z");
    assert!((before..=subscribed.time).contains(&value.received_at));
    assert!(device.connection_state.as_ref().unwrap().value);
    assert_eq!(device.device_twin, None);
}

#[tokio::test]
async fn what_is_not_granted_is_refused_in_its_place_and_the_rest_is_granted() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([key("a")]).await;
    let pattern = Selector {
        device_id: "d1".into(),
        module_id: None,
        values: Values::Telemetry {
            keys: Vec::new(),
            patterns: vec!["a*".to_owned()],
        },
    };
    let subscribed = client
        .subscribe([
            keys("d1", ["b", "a", "c"]).into(),
            keys("d1", ["a"]).into(),
            pattern.into(),
            every_key("d1").into(),
            keys("d2", ["a"]).into(),
            whole("d1", Values::D2cMessages).into(),
        ])
        .await;
    let refused: Vec<_> = subscribed
        .refused
        .iter()
        .map(|refused| {
            assert_eq!(refused.code, ErrorCode::NotGranted);
            (
                refused.index,
                refused.telemetry_keys.join(","),
                refused.telemetry_key_patterns.join(","),
            )
        })
        .collect();
    let place = |index, keys: &str, patterns: &str| (index, keys.to_owned(), patterns.to_owned());
    assert_eq!(
        refused,
        [
            place(0, "b,c", ""),
            place(2, "", "a*"),
            place(3, "", ""),
            place(4, "a", ""),
            place(5, "", "")
        ]
    );
    server
        .send_telemetry("d1", &[("a", "1"), ("b", "2"), ("ab", "3")])
        .await;
    let updates = client.updates().await;
    let relay_protocol::Update::Telemetry(values) = &updates.updates[0].update else {
        panic!("{updates:?}");
    };
    assert_eq!(values.keys().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test]
async fn after_an_unsubscribe_nothing_follows() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([EVERY_KEY]).await;
    client
        .subscribe([keys("d1", ["n", "m"]).into(), every_key("d1").into()])
        .await;
    client
        .unsubscribe([every_key("d1"), keys("d1", ["n"])])
        .await;
    // Also of what was never there.
    client.unsubscribe([keys("d9", ["x"])]).await;
    server.send(1).await;
    server.send_telemetry("d1", &[("m", "2")]).await;
    let updates = client.updates().await;
    let relay_protocol::Update::Telemetry(values) = &updates.updates[0].update else {
        panic!("{updates:?}");
    };
    assert_eq!(values.keys().collect::<Vec<_>>(), ["m"]);
}

#[tokio::test]
async fn last_values_are_answered_without_a_subscription() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([key("n")]).await;
    server.send(7).await;
    let answer = client
        .last_values([keys("d1", ["n", "m"]), whole("d1", Values::DeviceTwin)])
        .await;
    assert_eq!(answer.values[0].telemetry["n"].value, json("7"));
    let refused: Vec<_> = answer.refused.iter().map(|refused| refused.index).collect();
    assert_eq!(refused, [0, 1]);
    server.send(8).await;
    // No update of it comes before the answer.
    client.still_answers().await;
}

#[tokio::test]
async fn requests_are_answered_in_their_order() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([EVERY_KEY]).await;
    for round in 0..20 {
        let id = client.next_id();
        client
            .send(&match round % 3 {
                0 => ClientMessage::Ping { id },
                1 => ClientMessage::LastValues {
                    id,
                    of: vec![every_key("d1")],
                },
                _ => ClientMessage::Subscribe {
                    id,
                    subscriptions: vec![every_key("d1").into()],
                },
            })
            .await;
    }
    for id in 1..=20 {
        let answered = match client.message().await {
            ServerMessage::Pong { id, .. } => id,
            ServerMessage::LastValues(values) => values.id,
            ServerMessage::Subscribed(subscribed) => subscribed.id,
            other => panic!("{other:?}"),
        };
        assert_eq!(answered, id);
    }
}

#[tokio::test]
async fn a_session_has_a_bound_of_subscriptions_and_stays_as_it_was_beyond() {
    let settings = relay::Settings {
        session_limits: SessionLimits {
            grants_max: 10,
            subscriptions_max: 2,
        },
        ..roomy()
    };
    let server = Server::with(Settings::default(), settings).await;
    let (mut client, _) = server.granted([EVERY_KEY]).await;
    client
        .ask_to_subscribe([keys("d1", ["a", "b", "n"]).into()])
        .await;
    assert_eq!(client.error().await.code, ErrorCode::TooManySubscriptions);
    server.send(1).await;
    client.still_answers().await;
    client.subscribe([keys("d1", ["a", "n"]).into()]).await;
    server.send(2).await;
    assert_eq!(client.numbers().await, [2]);
}

#[tokio::test]
async fn a_device_has_a_bound_of_patterns_for_one_session() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([EVERY_KEY]).await;
    let patterns = |names: std::ops::Range<u32>| Selector {
        device_id: "d1".into(),
        module_id: None,
        values: Values::Telemetry {
            keys: Vec::new(),
            patterns: names.map(|number| format!("key-{number}*")).collect(),
        },
    };
    let refused = |refused: &[Refused]| -> Vec<_> {
        refused
            .iter()
            .map(|refused| (refused.code.clone(), refused.telemetry_key_patterns.clone()))
            .collect()
    };
    let over = [(ErrorCode::TooManyPatterns, vec!["key-32*".to_owned()])];
    let subscribed = client.subscribe([patterns(0..33).into()]).await;
    assert_eq!(refused(&subscribed.refused), over);
    let again = client.subscribe([patterns(0..32).into()]).await;
    assert_eq!(refused(&again.refused), []);
    let values = client.last_values([patterns(0..33)]).await;
    assert_eq!(refused(&values.refused), over);
}

#[tokio::test]
async fn ten_thousand_keys_fit_into_one_message() {
    let server = Server::start().await;
    let (mut client, _) = server.granted([EVERY_KEY]).await;
    let names: Vec<_> = (0..10_000).map(|number| format!("key-{number}")).collect();
    let wanted: NewSubscription = Selector::telemetry("d1", names).into();
    let subscribed = client.subscribe([wanted]).await;
    assert_eq!(
        (subscribed.snapshot.len(), subscribed.refused.len()),
        (0, 0)
    );
    server.send_telemetry("d1", &[("key-9999", "1")]).await;
    assert_eq!(client.updates().await.updates.len(), 1);
}

/// Without a secret or key set, which none of these tests configures.
#[tokio::test]
async fn a_token_is_refused_where_none_are_taken() {
    let server = Server::start().await;
    let (mut client, _) = server.following().await;
    let id = client.next_id();
    let token = GrantToken::from("a.b.c");
    let authorize = ClientMessage::Authorize {
        id,
        token: token.clone(),
    };
    client.send(&authorize).await;
    let error = client.error().await;
    assert_eq!(
        (error.code, error.id),
        (ErrorCode::TokensNotAccepted, Some(id))
    );
    client.still_answers().await;

    let mut client = server.client().await;
    let hello = Hello {
        token: Some(token),
        ..Hello::default()
    };
    client.send(&ClientMessage::Hello(hello)).await;
    assert_eq!(client.error().await.code, ErrorCode::TokensNotAccepted);
    assert_eq!(client.end().await.close_code, Some(4403));
}

#[tokio::test]
async fn a_session_made_over_rest_may_be_granted_before_and_after_its_hello() {
    let server = Server::start().await;
    let session = server.relay.create_session().unwrap();
    server.grant(session, "d1", key("n")).await;
    let mut client = server.client().await;
    let hello = Hello {
        session_id: Some(session.to_string().as_str().into()),
        ..Hello::default()
    };
    client.hello(hello).await;
    assert_eq!(
        client.subscribe([keys("d1", ["n"]).into()]).await.refused,
        []
    );
    let refused = client.subscribe([keys("d2", ["n"]).into()]).await.refused;
    assert_eq!(refused.len(), 1);
    server.grant(session, "d2", key("n")).await;
    assert_eq!(
        client.subscribe([keys("d2", ["n"]).into()]).await.refused,
        []
    );
}
