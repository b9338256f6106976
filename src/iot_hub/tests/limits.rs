//! Calls that end although nobody waits, that are not passed on, and that are cut off.

use tokio::sync::Notify;

use super::*;

/// A hub that holds its first answers back until it is told.
async fn holding(calls: usize) -> (Hub, Arc<Notify>) {
    let release = Arc::new(Notify::new());
    let held = Answer::Held(release.clone(), Box::new(Answer::ok("{}")));
    let hub = Hub::start(std::iter::repeat_n(held, calls).chain([Answer::ok("{}")])).await;
    (hub, release)
}

#[tokio::test]
async fn a_call_runs_to_its_end_when_whoever_made_it_goes_away() {
    let (hub, release) = holding(1).await;
    let client = hub.client();
    let caller = client.clone();
    let call = tokio::spawn(async move { caller.invoke_method(session(1), &device(), ECHO).await });
    hub.asked().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(hub.under_way(), 1, "its place is taken");

    release.notify_one();
    client.inner.tasks.close();
    client.inner.tasks.wait().await;
    assert_eq!(hub.count("direct_method", "succeeded"), 1);
    assert_eq!(hub.under_way(), 0);
}

#[tokio::test]
async fn a_session_with_too_many_calls_is_refused_and_others_are_not() {
    let (hub, release) = holding(2).await;
    let client = hub.client_with(|config| config.calls_per_session_max = 2);
    let call = |session| {
        let client = client.clone();
        async move { client.invoke_method(session, &device(), ECHO).await }
    };
    let first = tokio::spawn(call(session(1)));
    hub.asked().await;
    let second = tokio::spawn(call(session(1)));
    hub.asked().await;
    assert_eq!(call(session(1)).await, Err(HubError::TooManyCalls));
    assert_eq!(hub.count("direct_method", "too_many"), 1);
    assert!(call(session(2)).await.is_ok());

    release.notify_one();
    release.notify_one();
    assert!(first.await.unwrap().is_ok());
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test]
async fn calls_beyond_what_the_tier_takes_are_not_passed_on() {
    let hub = Hub::start(std::iter::repeat_n(Answer::ok("{}"), 100)).await;
    let client = hub.client();
    let call = async || client.invoke_method(session(1), &device(), ECHO).await;
    let mut passed = 0;
    let refused = loop {
        match call().await {
            Ok(_) => passed += 1,
            Err(error) => break error,
        }
    };
    assert!((60..=80).contains(&passed), "{passed}");
    assert_eq!(refused, HubError::OverBudget { retry_after_s: 1 });
    assert_eq!(hub.requests(), passed);
    assert_eq!(hub.count("direct_method", "over_budget"), 1);
    assert_eq!(hub.under_way(), 0);

    hub.clock.advance(Duration::from_secs(1));
    assert!(call().await.is_ok());
}

#[tokio::test]
async fn without_a_budget_everything_is_passed_on() {
    let hub = Hub::start(std::iter::repeat_n(Answer::ok("{}"), 200)).await;
    let client = hub.client_with(|config| config.tier = IotHubTier::Unlimited);
    for _ in 0..200 {
        client
            .invoke_method(session(1), &device(), ECHO)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn stopping_cuts_off_what_is_under_way() {
    let (hub, _never) = holding(1).await;
    let client = hub.client();
    let caller = client.clone();
    let call = tokio::spawn(async move { caller.invoke_method(session(1), &device(), ECHO).await });
    hub.asked().await;
    client.stop().await;
    assert_eq!(call.await.unwrap(), Err(HubError::Stopping));
    assert_eq!(hub.under_way(), 0);
    let late = client.invoke_method(session(1), &device(), ECHO).await;
    assert_eq!(late, Err(HubError::Stopping));
}

#[tokio::test]
async fn what_is_larger_than_anything_the_hub_takes_is_not_sent() {
    let hub = Hub::start([]).await;
    let client = hub.client();
    let payload = format!("\"{}\"", "x".repeat(REQUEST_BYTES_MAX));
    let call = MethodCall {
        payload: &payload,
        ..ECHO
    };
    let refused = client.invoke_method(session(1), &device(), call).await;
    assert_eq!(refused, Err(HubError::TooLarge));
    let patch = format!(r#"{{"a":{payload}}}"#);
    let tags = TwinSection::Tags;
    let refused = client
        .patch_twin(session(1), &device(), tags, &patch, None)
        .await;
    assert_eq!(refused, Err(HubError::TooLarge));
    assert_eq!(hub.requests(), 0);
    assert_eq!(hub.count("direct_method", "invalid"), 1);
}
