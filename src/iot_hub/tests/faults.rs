//! Hubs that are gone, slow, broken or lie: each call ends, and is repeated only where that is safe.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

async fn method(client: &IotHub) -> HubError {
    let answered = client.invoke_method(session(1), &device(), ECHO).await;
    answered.expect_err("the method fails")
}

async fn patch(client: &IotHub) -> HubError {
    let answered = client
        .patch_twin(session(1), &device(), TwinSection::Tags, "{}", None)
        .await;
    answered.expect_err("the patch fails")
}

#[tokio::test]
async fn an_answer_that_is_no_json_object_is_none() {
    for text in ["", "no", "[]", "{", "{\"status\":200", "{} {}", "\"{}\""] {
        let hub = Hub::start([Answer::ok(text)]).await;
        assert_eq!(method(&hub.client()).await, HubError::NoAnswer, "{text}");
        assert_eq!(hub.requests(), 1);
        assert_eq!(hub.count("direct_method", "no_answer"), 1);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_the_end_and_a_call_not_repeated_for_it() {
    let hub = Hub::start([Answer::Endless, Answer::Endless]).await;
    let client = hub.client();
    assert_eq!(method(&client).await, HubError::NoAnswer);
    assert_eq!(patch(&client).await, HubError::NoAnswer);
    assert_eq!(hub.requests(), 2);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_repeats_a_read_and_no_call() {
    let twin = Answer::ok("{}");
    let hub = Hub::start([Answer::Cut, Answer::Cut, Answer::Cut, twin]).await;
    let client = hub.client();
    assert_eq!(method(&client).await, HubError::NoAnswer);
    assert_eq!(patch(&client).await, HubError::NoAnswer);
    assert_eq!(hub.requests(), 2);
    assert!(client.read_twin(None, &device()).await.is_ok());
    assert_eq!(hub.requests(), 4);
}

/// Nothing says whether the hub read the request before it hung up.
#[tokio::test]
async fn a_connection_that_ends_without_an_answer_does_not_repeat_a_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hub = Hub::start([]).await;
    hub.address = listener.local_addr().unwrap();
    let client = hub.client();
    let hang_up = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut some = [0; 16];
        socket.read_exact(&mut some).await.unwrap();
    };
    let (error, ()) = tokio::join!(method(&client), hang_up);
    assert_eq!(error, HubError::NoAnswer);
    let more = tokio::time::timeout(Duration::from_millis(500), listener.accept()).await;
    assert!(more.is_err(), "no second connection");
}

#[tokio::test]
async fn a_hub_that_is_gone_is_tried_again_and_told_so() {
    let mut hub = Hub::start([]).await;
    hub.address = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap()
    };
    let client = hub.client();
    assert_eq!(method(&client).await, HubError::Unreachable);
    let read = client.read_twin(None, &device()).await;
    assert_eq!(read, Err(HubError::Unreachable));
    assert_eq!(hub.count("direct_method", "unreachable"), 1);
    assert_eq!(
        client
            .inner
            .metrics
            .retries
            .get(HubCall::DirectMethod)
            .get(),
        1
    );
    assert_eq!(client.inner.metrics.retries.get(HubCall::TwinRead).get(), 2);
}

#[tokio::test]
async fn an_answer_that_never_ends_is_waited_for_as_long_as_the_device_may_take_and_no_longer() {
    let hub = Hub::start([Answer::Stuck, Answer::Stuck, Answer::Stuck]).await;
    let timing = Timing {
        method_margin: Duration::from_millis(200),
        twin_timeout: Duration::from_millis(200),
        twin_deadline: Duration::from_millis(300),
        ..Timing::default()
    };
    let client = hub.client_in(timing, |_| {});
    let told = MethodCall {
        response_timeout_s: 1,
        connect_timeout_s: 0,
        ..ECHO
    };
    let begun = Instant::now();
    let answered = client.invoke_method(session(1), &device(), told).await;
    assert_eq!(answered, Err(HubError::NoAnswer));
    assert!(begun.elapsed() >= Duration::from_millis(1200));
    assert_eq!(patch(&client).await, HubError::NoAnswer);
    let read = client.read_twin(None, &device()).await;
    assert_eq!(read, Err(HubError::NoAnswer));
    assert_eq!(hub.under_way(), 0);
}

#[tokio::test]
async fn a_throttled_read_is_repeated_when_the_hub_says_soon_and_a_call_never() {
    let soon = Answer::text(429, "").with("Retry-After", "0");
    let late = Answer::text(429, "").with("Retry-After", "60");
    let hub = Hub::start([soon.clone(), Answer::ok("{}"), late, soon]).await;
    let client = hub.client();
    assert!(client.read_twin(None, &device()).await.is_ok());
    let refused = refusal(client.read_twin(None, &device()).await.unwrap_err());
    assert_eq!(
        (refused.cause, refused.retry_after_s),
        (Cause::Throttled, Some(60))
    );
    assert_eq!(hub.requests(), 3);

    let refused = refusal(method(&client).await);
    assert_eq!(
        (refused.cause, refused.retry_after_s),
        (Cause::Throttled, Some(0))
    );
    assert_eq!(hub.requests(), 4);
}

#[tokio::test]
async fn a_hub_that_fails_is_read_again_so_often_and_called_once() {
    let hub = Hub::start([]).await;
    let client = hub.client();
    let refused = refusal(client.read_twin(None, &device()).await.unwrap_err());
    assert_eq!((refused.status, refused.cause), (500, Cause::HubFailure));
    assert_eq!(hub.requests(), 3);
    assert_eq!(refusal(method(&client).await).status, 500);
    assert_eq!(hub.requests(), 4);
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let away = Answer::text(307, "").with("Location", "http://127.0.0.1:1/");
    let hub = Hub::start([away]).await;
    let refused = refusal(method(&hub.client()).await);
    assert_eq!((refused.status, refused.cause), (307, Cause::HubFailure));
}

#[tokio::test]
async fn an_id_that_the_hub_does_not_take_is_that_of_no_device() {
    let said = json!({"Message": "ErrorCode:ArgumentInvalid;deviceId must have other characters"});
    let hub = Hub::start([Answer::json(400, &said)]).await;
    let read = ReadTwin::read_twin(&hub.client(), &device(), None).await;
    assert_eq!(read.unwrap_err(), TwinReadError::NoSuchDevice);
}
