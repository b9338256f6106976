//! Calls to devices, which this release cannot pass on.

use super::*;

const DISABLED: &str = "IoT Hub API disabled, cannot invoke direct method";

#[tokio::test]
async fn a_direct_method_is_checked_in_order_and_then_unavailable() {
    for api in [Api::start(), Api::with_hub()] {
        let session = api.session();
        let method = call("POST", "/directMethod");
        let good = r#"{"deviceId":"d1","methodParams":{"methodName":"reboot","payload":{"delay":1},"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}}"#;
        for missing in [
            method.clone(),
            method.clone().session(""),
            method.clone().session(unknown_session()),
        ] {
            api.send(missing.clone().key(PRIMARY).body(good))
                .await
                .is(404, "No such sessionId");
            api.send(missing.body("{"))
                .await
                .is(404, "No such sessionId");
        }
        for bad in [
            "",
            "{",
            "[]",
            r#"{"deviceId":"d1"}"#,
            r#"{"deviceId":"","methodParams":{"methodName":"m"}}"#,
            r#"{"deviceId":5,"methodParams":{"methodName":"m"}}"#,
            r#"{"deviceId":"d1","methodParams":{}}"#,
            r#"{"deviceId":"d1","methodParams":["m"]}"#,
            r#"{"deviceId":"d1","methodParams":{"methodName":""}}"#,
            r#"{"deviceId":"d1","methodParams":{"methodName":7}}"#,
            r#"{"deviceId":"d1","methodParams":{"methodName":"m","responseTimeoutInSeconds":"30"}}"#,
        ] {
            let answer = api.send(method.clone().session(session).body(bad)).await;
            answer.is(400, "Malformed direct method request");
        }
        for good in [
            good,
            r#"{"deviceId":"d1","methodParams":{"methodName":"m","payload":null}}"#,
        ] {
            api.send(method.clone().session(session).body(good))
                .await
                .is(400, DISABLED);
        }
    }
}

#[tokio::test]
async fn desired_properties_are_checked_in_order_and_then_unavailable() {
    for api in [Api::start(), Api::with_hub()] {
        let session = api.session();
        let patch = call("PATCH", "/deviceTwinDesiredProperties");
        let good = r#"{"deviceId":"d1","desiredPropertyPatch":{"a":null}}"#;
        for missing in [patch.clone(), patch.clone().session("nonsense")] {
            api.send(missing.key(PRIMARY).body(good))
                .await
                .is(404, "No such sessionId");
        }
        for bad in [
            "{",
            "{}",
            r#"{"deviceId":"d1"}"#,
            r#"{"deviceId":"d1","desiredPropertyPatch":null}"#,
            r#"{"deviceId":"d1","desiredPropertyPatch":[]}"#,
            r#"{"deviceId":null,"desiredPropertyPatch":{}}"#,
        ] {
            let answer = api.send(patch.clone().session(session).body(bad)).await;
            answer.is(400, "Malformed desired properties request");
        }
        api.send(patch.clone().session(session).body(good))
            .await
            .is(400, DISABLED);
    }
}
