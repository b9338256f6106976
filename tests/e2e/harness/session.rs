//! A session as its owner sees it: the browser's calls and the security backend's grants.
//!
//! Each call exists twice. A participle (`granted`, `subscribed`) makes it with `admin-client` and requires that it
//! succeeds: the way to where a test begins. The plain verb makes it by hand and hands back what came over the wire, for
//! tests whose subject is that answer, or whose request no typed client would send.

use admin_client::{AdminClient, SessionClient};
use relay_protocol::{Identity, Subscription, SubscriptionRequest};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Answer, PRIMARY_KEY, Rest, Socket};

/// One telemetry key of a device.
pub(crate) fn telemetry(device_id: &str, key: &str) -> Value {
    json!({"deviceId": device_id, "type": "telemetry", "telemetryKey": key})
}

/// Every telemetry key of a device.
pub(crate) fn every_key(device_id: &str) -> Value {
    json!({"deviceId": device_id, "type": "telemetry", "telemetryKey": null})
}

/// The twin of a device.
pub(crate) fn device_twin(device_id: &str) -> Value {
    json!({"deviceId": device_id, "type": "deviceTwin"})
}

/// Online or offline.
pub(crate) fn connection_state(device_id: &str) -> Value {
    json!({"deviceId": device_id, "type": "connectionState"})
}

/// Whole device-to-cloud messages.
pub(crate) fn d2c_messages(device_id: &str) -> Value {
    json!({"deviceId": device_id, "type": "d2cMessages"})
}

/// Changing desired properties.
pub(crate) fn desired_properties(device_id: &str) -> Value {
    json!({"deviceId": device_id, "type": "desiredProperties"})
}

/// The same of a module of the device.
pub(crate) fn of_module(mut what: Value, module_id: &str) -> Value {
    what["moduleId"] = json!(module_id);
    what
}

/// The parts of the twin of a device that `pointers` point to.
pub(crate) fn device_twin_at(device_id: &str, pointers: &[&str]) -> Value {
    json!({"deviceId": device_id, "type": "deviceTwin", "pointers": pointers})
}

/// Calling one direct method.
pub(crate) fn direct_method(device_id: &str, method_name: &str) -> Value {
    json!({"deviceId": device_id, "type": "directMethod", "directMethodName": method_name})
}

/// A session of the relay under test.
pub(crate) struct Session {
    pub(crate) rest: Rest,
    pub(crate) id: String,
}

impl Session {
    pub(crate) async fn create(rest: &Rest) -> Self {
        let admin = rest.admin(PRIMARY_KEY);
        let created = admin.relay().create_session().await;
        Self::with_client(rest, &created.expect("a session can be created"))
    }

    /// The session of `client`.
    pub(crate) fn with_client(rest: &Rest, client: &SessionClient) -> Self {
        Self {
            rest: rest.clone(),
            id: client.id().as_str().to_owned(),
        }
    }

    /// Acts for it.
    pub(crate) fn client(&self) -> SessionClient {
        let id = self.id.as_str().into();
        let client = self.admin().relay().session(id);
        client.expect("the relay issues ids that headers carry")
    }

    /// Decides about it.
    pub(crate) fn admin(&self) -> AdminClient {
        self.rest.admin(PRIMARY_KEY)
    }

    pub(crate) async fn granted(&self, what: &Value) {
        let granted = self.admin().grant(&read(self.request(what))).await;
        granted.unwrap_or_else(|error| panic!("{what} is not granted: {error}"));
    }

    pub(crate) async fn revoked(&self, what: &Value) {
        let revoked = self.admin().revoke(&read(self.request(what))).await;
        revoked.unwrap_or_else(|error| panic!("{what} is not revoked: {error}"));
    }

    pub(crate) async fn subscribed(&self, what: &Value) {
        let (of, subscription) = wanted(what);
        let subscribed = self.client().subscribe(of, &subscription).await;
        subscribed.unwrap_or_else(|error| panic!("{what} is not subscribed: {error}"));
    }

    pub(crate) async fn unsubscribed(&self, what: &Value) {
        let (of, subscription) = wanted(what);
        let unsubscribed = self.client().unsubscribe(of, &subscription).await;
        unsubscribed.unwrap_or_else(|error| panic!("{what} is not unsubscribed: {error}"));
    }

    /// In bulk; all must be granted.
    pub(crate) async fn all_subscribed(&self, all: &[Value]) {
        let all: Vec<_> = all.iter().map(wanted).collect();
        let applied = self.client().subscribe_all(all.clone()).await;
        assert_eq!(applied.expect("they can be subscribed"), all);
    }

    /// In bulk; all must be granted.
    pub(crate) async fn all_unsubscribed(&self, all: &[Value]) {
        let all: Vec<_> = all.iter().map(wanted).collect();
        let removed = self.client().unsubscribe_all(all.clone()).await;
        assert_eq!(removed.expect("they can be unsubscribed"), all);
    }

    /// Granted and subscribed.
    pub(crate) async fn follow(&self, what: &Value) {
        self.granted(what).await;
        self.subscribed(what).await;
    }

    /// Deleted, as an administrator does it.
    pub(crate) async fn deleted(&self) {
        let deleted = self.admin().delete_session(self.client().id()).await;
        deleted.expect("the session can be deleted");
    }

    /// `what` with this session's id in it, as the calls of a client carry it.
    pub(crate) fn request(&self, what: &Value) -> Value {
        let mut request = what.clone();
        request["sessionId"] = json!(self.id);
        request
    }

    pub(crate) async fn grant(&self, what: &Value) -> Answer {
        let call = self.rest.put("/grants").key(PRIMARY_KEY);
        call.json(&self.request(what)).await
    }

    pub(crate) async fn revoke(&self, what: &Value) -> Answer {
        let call = self.rest.delete("/grants").key(PRIMARY_KEY);
        call.json(&self.request(what)).await
    }

    pub(crate) async fn subscribe(&self, what: &Value) -> Answer {
        let call = self.rest.put("/subscription");
        call.json(&self.request(what)).await
    }

    pub(crate) async fn unsubscribe(&self, what: &Value) -> Answer {
        let call = self.rest.delete("/subscription");
        call.json(&self.request(what)).await
    }

    /// Bulk, as a browser sends it: a bare array, the session in every element.
    pub(crate) async fn subscribe_all(&self, wanted: &[Value]) -> Answer {
        let call = self.rest.put("/subscriptions");
        call.json(&self.requests(wanted)).await
    }

    /// Bulk, as a browser sends it.
    pub(crate) async fn unsubscribe_all(&self, unwanted: &[Value]) -> Answer {
        let call = self.rest.delete("/subscriptions");
        call.json(&self.requests(unwanted)).await
    }

    /// `wanted` as the bare array of a bulk call.
    pub(crate) fn requests(&self, wanted: &[Value]) -> Value {
        wanted.iter().map(|what| self.request(what)).collect()
    }

    /// `GET` of a path with this session's header.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.rest.get(path).session(&self.id).await
    }

    /// Ends the session as an administrator does.
    pub(crate) async fn delete(&self) -> Answer {
        let path = format!("/sessions/{}", self.id);
        self.rest.delete(&path).key(PRIMARY_KEY).await
    }

    /// Its socket, admitted.
    pub(crate) async fn connect(&self) -> Socket {
        Socket::connect(&self.rest, &self.id).await
    }
}

/// A request in the words of `admin-client`.
fn read<T: DeserializeOwned>(request: Value) -> T {
    serde_json::from_value(request).expect("the request has a documented shape")
}

fn wanted(what: &Value) -> (Identity, Subscription) {
    let request: SubscriptionRequest = read(what.clone());
    let of = Identity {
        device_id: request.device_id,
        module_id: request.module_id,
    };
    (of, request.subscription)
}
