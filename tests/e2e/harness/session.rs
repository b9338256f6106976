//! A session as its owner sees it: the browser's calls and the security backend's grants.

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
        let answer = rest.post("/session").await.is(200);
        let id = answer.json()["sessionId"]
            .as_str()
            .expect("sessionId is a string")
            .to_owned();
        Self {
            rest: rest.clone(),
            id,
        }
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

    /// Grants and subscribes; both must succeed.
    pub(crate) async fn follow(&self, what: &Value) {
        self.grant(what).await.is(204);
        self.subscribe(what).await.is(204);
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
