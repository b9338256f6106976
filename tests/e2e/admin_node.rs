//! The calls of `ux4iot-admin-node` 4.2.0, header by header and body by body as it sends them from Node.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Answer, DeviceEvent, PRIMARY_KEY, SECONDARY_KEY, Session, Testbed, connection_state,
    d2c_messages, desired_properties, device_twin, direct_method, every_key, telemetry,
};

/// The SDK with one connection string.
struct AdminNode<'a> {
    testbed: &'a Testbed,
    key: &'static str,
}

impl AdminNode<'_> {
    /// A call as the SDK's HTTP library makes it: with the key, and with the session in a header where one is given.
    /// What has no body, and could have one, claims to be a form.
    async fn call(
        &self,
        method: Method,
        path: &str,
        session_id: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let form = body.is_none() && matches!(method, Method::POST | Method::PUT);
        let mut call = self
            .testbed
            .rest
            .call(method, path)
            .key(self.key)
            .header("Accept", "application/json, text/plain, */*")
            .header("Accept-Encoding", "gzip, compress, deflate, br");
        if let Some(session_id) = session_id {
            call = call.session(session_id);
        }
        match body {
            Some(body) => call.json_text(body.to_string()).await,
            None if form => {
                call.header("Content-Type", "application/x-www-form-urlencoded")
                    .body("")
                    .await
            }
            None => call.await,
        }
    }

    async fn grant(&self, grant: &Value) -> Answer {
        self.call(Method::PUT, "/grants", None, Some(grant)).await
    }

    async fn subscribe(&self, subscription: &Value) -> Answer {
        self.call(Method::PUT, "/subscription", None, Some(subscription))
            .await
    }

    /// The list goes into an object here, and stands alone in [`Self::unsubscribe_all`].
    async fn subscribe_all(&self, session: &Session, subscriptions: &Value) -> Answer {
        let body = json!({"subscriptionRequests": subscriptions});
        self.call(
            Method::PUT,
            "/subscriptions",
            Some(&session.id),
            Some(&body),
        )
        .await
    }

    async fn unsubscribe_all(&self, session: &Session, subscriptions: &Value) -> Answer {
        self.call(
            Method::DELETE,
            "/subscriptions",
            Some(&session.id),
            Some(subscriptions),
        )
        .await
    }

    async fn get(&self, path: &str, session: &Session) -> Answer {
        self.call(Method::GET, path, Some(&session.id), None).await
    }
}

fn sdk(testbed: &Testbed) -> AdminNode<'_> {
    AdminNode {
        testbed,
        key: PRIMARY_KEY,
    }
}

#[tokio::test]
async fn the_admin_sdk_asks_for_version_status_and_log_level() {
    let testbed = Testbed::start().await;
    let sdk = sdk(&testbed);
    let version = sdk.call(Method::GET, "/version", None, None).await.is(200);
    // It tries to read every answer as JSON; this must stay a text.
    assert_eq!(version.body.split('.').count(), 3, "{version:?}");
    sdk.call(Method::GET, "/status", None, None)
        .await
        .says(200, "OK");
    sdk.call(Method::PUT, "/logLevel/verbose", None, None)
        .await
        .is(204);
    sdk.call(Method::PUT, "/logLevel/loud", None, None)
        .await
        .says(400, "Unknown log level");
}

#[tokio::test]
async fn the_admin_sdk_makes_and_revokes_sessions() {
    let testbed = Testbed::start().await;
    for key in [PRIMARY_KEY, SECONDARY_KEY] {
        let testbed = &testbed;
        let sdk = AdminNode { testbed, key };
        let answer = sdk.call(Method::POST, "/session", None, None).await.is(200);
        let id = answer.json()["sessionId"].clone();
        let id = id.as_str().expect("a string");
        let grant = json!({"sessionId": id, "deviceId": "d1", "type": "connectionState"});
        sdk.grant(&grant).await.is(204);
        let path = format!("/sessions/{id}");
        sdk.call(Method::DELETE, &path, None, None).await.is(204);
        sdk.grant(&grant).await.says(404, "No such sessionId");
        sdk.call(Method::DELETE, &path, None, None).await.is(204);
    }
    let (session, mut socket) = testbed.connected_session().await;
    sdk(&testbed)
        .call(Method::DELETE, "/sessions", None, None)
        .await
        .is(204);
    assert!(socket.ends_with_disconnect().await);
    session.get("/lastValue/d1").await.is(404);
}

#[tokio::test]
async fn the_admin_sdk_grants_and_revokes() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let sdk = sdk(&testbed);
    for grant in [
        telemetry("d1", "t"),
        every_key("d1"),
        device_twin("d1"),
        connection_state("d1"),
        d2c_messages("d1"),
    ] {
        let grant = session.request(&grant);
        sdk.grant(&grant).await.is(204);
        let revoked = sdk
            .call(Method::DELETE, "/grants", None, Some(&grant))
            .await;
        revoked.is(204);
        sdk.subscribe(&grant)
            .await
            .says(403, "subscription request not granted");
    }
    for grant in [desired_properties("d1"), direct_method("d1", "reboot")] {
        let grant = session.request(&grant);
        sdk.grant(&grant).await.says(400, "Grant unavailable");
    }
    let no_session = json!({"deviceId": "d1", "type": "deviceTwin"});
    sdk.grant(&no_session).await.says(400, "unknown grant type");
}

#[tokio::test]
async fn the_admin_sdk_subscribes_for_a_session() {
    let mut testbed = Testbed::start().await;
    let (session, mut socket) = testbed.connected_session().await;
    let (t, u) = (telemetry("d1", "t"), telemetry("d1", "u"));
    {
        let sdk = sdk(&testbed);
        sdk.grant(&session.request(&every_key("d1"))).await.is(204);
        sdk.subscribe(&session.request(&t)).await.is(204);
        // Elements carry the session or leave it to the header.
        let wanted = json!([session.request(&t), u, device_twin("d1")]);
        let applied = sdk.subscribe_all(&session, &wanted).await.is(200);
        assert_eq!(
            applied.json(),
            json!([session.request(&t), session.request(&u)])
        );
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 1, "u": 1})))
        .await;
    assert_eq!(
        socket.next_data().await.telemetry(),
        json!({"t": 1, "u": 1})
    );
    {
        let sdk = sdk(&testbed);
        let removed = sdk
            .unsubscribe_all(&session, &json!([session.request(&u)]))
            .await;
        assert_eq!(removed.is(200).json(), json!([session.request(&u)]));
    }
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 2, "u": 2})))
        .await;
    assert_eq!(socket.next_data().await.telemetry(), json!({"t": 2}));
    let unsubscribed = sdk(&testbed)
        .call(
            Method::DELETE,
            "/subscription",
            None,
            Some(&session.request(&t)),
        )
        .await;
    unsubscribed.is(204);
    session.follow(&d2c_messages("d1")).await;
    testbed
        .inject(DeviceEvent::telemetry("d1", &json!({"t": 3})))
        .await;
    assert_eq!(socket.next_data().await.message(), json!({"t": 3}));
}

#[tokio::test]
async fn the_admin_sdk_reads_and_deletes_what_is_known_of_a_device() {
    let mut testbed = Testbed::with(&[("HUBRELAY_DEVICE_TWIN_CACHE_TTL", "0")]).await;
    let twin = json!({"version": 2, "properties": {"reported": {"r": 1}, "desired": {}}});
    testbed
        .inject(DeviceEvent::twin_change("d1", "replaceTwin", &twin))
        .await;
    testbed.process("d1", json!({"t": 1})).await;
    let session = testbed.session().await;
    let sdk = sdk(&testbed);

    // The session has no grant at all; the key that comes with it is enough.
    let one = sdk.get("/lastValue/d1/t", &session).await.is(200).json();
    assert_eq!(one["data"], json!({"t": 1}));
    let known = sdk.get("/deviceTwin/d1", &session).await.is(200).json();
    assert_eq!(known["data"], twin);
    let state = sdk
        .get("/connectionState/d1", &session)
        .await
        .is(200)
        .json();
    assert_eq!(state["data"], true);
    let deleted = sdk
        .call(Method::DELETE, "/lastValue/d1", None, None)
        .await
        .is(200);
    assert_eq!(deleted.json()["data"]["t"]["value"], 1);
    sdk.get("/lastValue/d1/t", &session)
        .await
        .says(404, "No last telemetry found");
}

#[tokio::test]
async fn the_admin_sdk_is_told_that_devices_cannot_be_called() {
    let testbed = Testbed::start().await;
    let session = testbed.session().await;
    let sdk = sdk(&testbed);
    let method = json!({"deviceId": "d1", "methodParams": {"methodName": "m", "payload": {}}});
    let patch = json!({"deviceId": "d1", "desiredPropertyPatch": {"a": 1}});
    for (verb, path, body) in [
        (Method::POST, "/directMethod", method),
        (Method::PATCH, "/deviceTwinDesiredProperties", patch),
    ] {
        let answer = sdk.call(verb, path, Some(&session.id), Some(&body)).await;
        answer.says(400, "IoT Hub API disabled, cannot invoke direct method");
    }
}
