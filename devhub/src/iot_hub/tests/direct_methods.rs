//! Direct methods: the answer, and each way to get none.

use super::*;

#[tokio::test]
async fn a_call_reaches_the_device_and_its_answer_the_caller() {
    let fixture = Fixture::new();
    fixture.create(&spindle().to_device());
    fixture.create(&spindle());
    let mut link = fixture.connect(&spindle());
    link.listen(Listen::Methods, true).unwrap();
    let id = spindle();
    let (answer, ()) = tokio::join!(
        fixture.hub.invoke_method(&id, call(NEVER, Duration::ZERO)),
        async {
            let (request_id, name, payload) = method(&mut link).await;
            assert_eq!(
                (name.as_str(), payload),
                ("echo", Bytes::from_static(b"null"))
            );
            link.answer_method("0", 500, Bytes::new()).unwrap();
            link.answer_method(&request_id, 200, Bytes::from_static(b"1.50"))
                .unwrap();
            link.answer_method(&request_id, 500, Bytes::new()).unwrap();
        }
    );
    assert_eq!(
        answer,
        Ok(MethodAnswer {
            status: 200,
            payload: Bytes::from_static(b"1.50")
        })
    );
}

#[tokio::test]
async fn each_way_a_call_can_fail_has_its_code() {
    let fixture = Fixture::new();
    let hub = &fixture.hub;
    let id = press();
    assert_eq!(
        code(hub.invoke_method(&id, call(NEVER, Duration::ZERO)).await),
        ErrorCode::DeviceNotFound
    );
    fixture.create(&id);
    assert_eq!(
        code(
            hub.invoke_method(&spindle(), call(NEVER, Duration::ZERO))
                .await
        ),
        ErrorCode::ModuleNotFound
    );
    let offline = hub
        .invoke_method(&id, call(NEVER, Duration::ZERO))
        .await
        .unwrap_err();
    assert_eq!(offline.code(), ErrorCode::DeviceNotOnline);
    assert_eq!(offline.timeout(), Some(Duration::ZERO));

    let mut link = fixture.connect(&id);
    let started = Instant::now();
    assert_eq!(
        code(hub.invoke_method(&id, call(NEVER, SOON)).await),
        ErrorCode::DeviceNotOnline
    );
    assert!(started.elapsed() >= SOON, "connected, but deaf to methods");

    link.listen(Listen::Methods, true).unwrap();
    let started = Instant::now();
    assert_eq!(
        code(hub.invoke_method(&id, call(SOON, NEVER)).await),
        ErrorCode::GatewayTimeout
    );
    assert!(started.elapsed() >= SOON);
    let (late, ..) = method(&mut link).await;
    link.answer_method(&late, 200, Bytes::new()).unwrap();

    for bad in [&b"{"[..], b"oops", &vec![b'1'; 128 * 1024 + 1]] {
        let (answer, ()) =
            tokio::join!(hub.invoke_method(&id, call(NEVER, Duration::ZERO)), async {
                let (request_id, ..) = method(&mut link).await;
                link.answer_method(&request_id, 200, Bytes::copy_from_slice(bad))
                    .unwrap();
            });
        assert_eq!(code(answer), ErrorCode::BadDeviceResponse);
    }

    let (answer, ()) = tokio::join!(hub.invoke_method(&id, call(NEVER, Duration::ZERO)), async {
        method(&mut link).await;
        drop(link);
    });
    assert_eq!(code(answer), ErrorCode::DeviceConnectionClosedRemotely);
}

#[tokio::test]
async fn a_call_waits_for_the_device_to_come_and_listen() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let id = press();
    let (answer, ()) = tokio::join!(fixture.hub.invoke_method(&id, call(NEVER, NEVER)), async {
        let mut link = fixture.connect(&id);
        tokio::task::yield_now().await;
        link.listen(Listen::Methods, true).unwrap();
        let (request_id, ..) = method(&mut link).await;
        link.answer_method(&request_id, 201, Bytes::new()).unwrap();
    });
    assert_eq!(
        answer,
        Ok(MethodAnswer {
            status: 201,
            payload: Bytes::from_static(b"null")
        })
    );
    let (answer, ()) = tokio::join!(fixture.hub.invoke_method(&id, call(NEVER, NEVER)), async {
        fixture.hub.delete_identity(&id, &IfMatch::Any).unwrap();
    });
    assert_eq!(code(answer), ErrorCode::DeviceNotFound);
}

#[tokio::test]
async fn calls_in_flight_are_bounded_and_free_their_place() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let mut link = fixture.connect(&press());
    link.listen(Listen::Methods, true).unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..direct_method::PENDING_CALLS_MAX {
        let hub = fixture.hub.clone();
        calls.spawn(async move {
            hub.invoke_method(&press(), call(NEVER, Duration::ZERO))
                .await
        });
    }
    for _ in 0..direct_method::PENDING_CALLS_MAX {
        method(&mut link).await;
    }
    assert_eq!(
        code(
            fixture
                .hub
                .invoke_method(&press(), call(NEVER, Duration::ZERO))
                .await
        ),
        ErrorCode::DeviceMaximumInflightMethodExceeded
    );
    calls.shutdown().await;
    assert_eq!(
        code(
            fixture
                .hub
                .invoke_method(&press(), call(SOON, Duration::ZERO))
                .await
        ),
        ErrorCode::GatewayTimeout
    );
}

#[test]
fn calls_are_checked_before_they_are_made() {
    let make = |name: &str, payload: &[u8], response_s, connect_s| {
        MethodCall::new(
            name,
            Bytes::copy_from_slice(payload),
            Duration::from_secs(response_s),
            Duration::from_secs(connect_s),
        )
        .map(drop)
        .map_err(|error| error.code())
    };
    let invalid = Err(ErrorCode::ArgumentInvalid);
    assert_eq!(make("m", b"null", 5, 0), Ok(()));
    assert_eq!(make("m", b"null", 300, 300), Ok(()));
    assert_eq!(make("m", b"null", 4, 0), invalid);
    assert_eq!(make("m", b"null", 301, 0), invalid);
    assert_eq!(make("m", b"null", 5, 301), invalid);
    assert_eq!(make("", b"null", 5, 0), invalid);
    assert_eq!(make(&"m".repeat(1024), b"null", 5, 0), Ok(()));
    assert_eq!(make(&"m".repeat(1025), b"null", 5, 0), invalid);
    assert_eq!(make("m", b"nul", 5, 0), invalid);
    let large = vec![b'1'; 128 * 1024 + 1];
    assert_eq!(make("m", &large, 5, 0), Err(ErrorCode::MessageTooLarge));
}
