//! Twins and connection states that have to be read from the hub.

use tokio::sync::Notify;

use super::*;
use crate::iot_hub::tests::hub::Answer as HubAnswer;

const TWIN: &str = r#"{"deviceId":"d1","etag":"AAAAAAAAAAI=","version":7,"connectionState":"Connected","lastActivityTime":"2024-03-14T09:54:49.6536567Z","tags":{"site":"x"},"properties":{"desired":{"a":1.50,"$version":3},"reported":{"r":1,"$version":1}}}"#;
const SEEN: &str = r#"{"version":7,"properties":{"reported":{"r":1,"$version":1},"desired":{"a":1.50,"$version":3}},"tags":{"site":"x"}}"#;

fn twin() -> Call {
    call("GET", "/deviceTwin/d1").key(PRIMARY)
}

fn connection() -> Call {
    call("GET", "/connectionState/d1").key(PRIMARY)
}

#[tokio::test]
async fn a_twin_is_read_each_time_unless_it_is_kept() {
    for (cache, reads) in [(DeviceTwinCache::Off, 2), (DeviceTwinCache::Forever, 1)] {
        let hub = Hub::start([HubAnswer::ok(TWIN), HubAnswer::ok(TWIN)]).await;
        let api = Api::calling(Some(&hub), |config| config.device_twin_cache = cache);
        let body = format!(r#"{{"deviceId":"d1","data":{SEEN},"timestamp":"{SENT_AT}"}}"#);
        for _ in 0..2 {
            api.send(twin()).await.is_json(&body);
        }
        assert_eq!(hub.requests(), reads, "{cache:?}");
        assert_eq!(hub.request().uri, "/twins/d1?api-version=2021-04-12");
    }
}

#[tokio::test]
async fn a_session_reads_what_it_was_granted_of_the_twin() {
    let hub = Hub::start([HubAnswer::ok(TWIN)]).await;
    let api = Api::calling(Some(&hub), |_| {});
    let session = api.session();
    let read = call("GET", "/deviceTwin/d1").session(session);
    let answer = api.send(read.clone()).await;
    answer.is(403, "Forbidden to read last value of device: missing grant");
    assert_eq!(hub.requests(), 0);
    api.grant(session, r#""deviceId":"d1","type":"deviceTwin""#)
        .await;
    let body = format!(r#"{{"deviceId":"d1","data":{SEEN},"timestamp":"{SENT_AT}"}}"#);
    api.send(read).await.is_json(&body);
}

#[tokio::test]
async fn a_connection_state_is_read_with_the_time_of_the_last_activity() {
    let hub = Hub::start([
        HubAnswer::ok(TWIN),
        HubAnswer::ok(r#"{"version":1,"connectionState":"Disconnected","lastActivityTime":"0001-01-01T00:00:00Z","properties":{"desired":{},"reported":{}}}"#),
    ])
    .await;
    let api = Api::calling(Some(&hub), |_| {});
    let answer = api.send(connection()).await;
    answer.is_json(r#"{"deviceId":"d1","data":true,"timestamp":"2024-03-14T09:54:49.653Z"}"#);
    let other = call("GET", "/connectionState/d2").key(PRIMARY);
    let body = format!(r#"{{"deviceId":"d2","data":false,"timestamp":"{SENT_AT}"}}"#);
    api.send(other).await.is_json(&body);
}

#[tokio::test]
async fn a_connection_state_is_not_read_when_telemetry_alone_decides() {
    let hub = Hub::start([]).await;
    let api = Api::calling(Some(&hub), |config| {
        config.decoding.custom_connection_state_key = Some("online".to_owned());
    });
    api.send(connection()).await.is(404, "No device found");
    assert_eq!(hub.requests(), 0);
}

#[tokio::test]
async fn a_device_that_the_hub_does_not_know_is_not_found() {
    let unknown = HubAnswer::text(404, r#"{"Message":"ErrorCode:DeviceNotFound;no"}"#);
    let hub = Hub::start([unknown.clone(), unknown]).await;
    let api = Api::calling(Some(&hub), |_| {});
    api.send(twin()).await.is(404, "No last devicetwin found");
    api.send(connection()).await.is(404, "No device found");
}

#[tokio::test]
async fn a_hub_that_fails_or_throttles_is_told_without_its_words() {
    let busy = HubAnswer::text(429, "at hub.example.net").with("Retry-After", "30");
    let forbidden = HubAnswer::text(401, "key of hub.example.net");
    let hub = Hub::start([busy.clone(), busy, forbidden.clone(), forbidden]).await;
    let api = Api::calling(Some(&hub), |_| {});
    for read in [twin(), connection()] {
        let answer = api.send(read).await;
        answer.is(429, "Too many calls to the IoT hub, try again later");
        assert_eq!(answer.headers["retry-after"], "30");
    }
    for read in [twin(), connection()] {
        api.send(read).await.is(502, "IoTHub Response: error");
    }
}

#[tokio::test]
async fn a_revocation_that_was_answered_while_the_hub_was_asked_wins() {
    for (path, grant) in [
        ("/deviceTwin/d1", r#""deviceId":"d1","type":"deviceTwin""#),
        (
            "/connectionState/d1",
            r#""deviceId":"d1","type":"connectionState""#,
        ),
    ] {
        let release = Arc::new(Notify::new());
        let late = HubAnswer::Held(release.clone(), Box::new(HubAnswer::ok(TWIN)));
        let hub = Hub::start([late]).await;
        let api = Api::calling(Some(&hub), |_| {});
        let session = api.session();
        api.grant(session, grant).await;
        let revoke = async {
            hub.asked().await;
            let body = format!(r#"{{"sessionId":"{session}",{grant}}}"#);
            let revoked = api.send(call("DELETE", "/grants").key(PRIMARY).body(body));
            revoked.await.is(204, "");
            release.notify_one();
        };
        let read = api.send(call("GET", path).session(session));
        let (answer, ()) = tokio::join!(read, revoke);
        answer.is(403, "Forbidden to read last value of device: missing grant");
    }
}
