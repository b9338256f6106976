//! Who is let in, and how the others are told.

use aws_lc_rs::digest;

use super::*;
use crate::iot_hub::{IdentityStatus, IfMatch, Thumbprints};

#[tokio::test(start_paused = true)]
async fn devices_and_modules_connect_with_their_own_keys() {
    let bench = Bench::new();
    for id in [device(), module()] {
        let mut client = bench.connected(&id).await;
        client.settled().await;
        assert!(bench.hub.identity(&id).unwrap().is_connected);
        client.send(Packet::Disconnect).await;
        assert!(matches!(client.ended().await, End::Disconnected));
        assert!(!bench.hub.identity(&id).unwrap().is_connected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_with_the_right_lets_any_device_in_and_others_none() {
    let bench = Bench::new();
    for (policy, code) in [
        ("device", ConnectReturnCode::Success),
        ("iothubowner", ConnectReturnCode::Success),
        ("service", ConnectReturnCode::NotAuthorized),
    ] {
        let key = bench.hub.policy_key(policy).unwrap();
        let expires = since_epoch(Duration::from_hours(1));
        let token = sas::sign_for_iot_hub("localhost", Some(policy), &key, expires).unwrap();
        let mut connect = bench.connect_packet(&device());
        connect.login.as_mut().unwrap().password = token;
        let mut client = bench.client();
        client.send(Packet::Connect(connect)).await;
        assert_eq!(client.connack().await.1, code, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_prove_who_it_is_is_not_authorised() {
    let bench = Bench::new();
    let refused = async |change: &dyn Fn(&mut Connect)| {
        let mut connect = bench.connect_packet(&device());
        change(&mut connect);
        bench.refused(connect).await.0
    };
    let not_authorised = ConnectReturnCode::NotAuthorized;
    let of_module = bench.token(&module(), Duration::from_hours(1));
    let expired = bench.token(&device(), Duration::ZERO);
    for password in [String::new(), "secret".to_owned(), of_module, expired] {
        let with = |connect: &mut Connect| {
            connect
                .login
                .as_mut()
                .unwrap()
                .password
                .clone_from(&password);
        };
        assert_eq!(refused(&with).await, not_authorised, "{password}");
    }
    let unknown = |connect: &mut Connect| {
        connect.client_id = "press-02".to_owned();
        connect.login.as_mut().unwrap().username =
            "localhost/press-02/?api-version=2021-04-12".to_owned();
    };
    assert_eq!(refused(&unknown).await, not_authorised);
    let disabled = IdentitySettings {
        status: IdentityStatus::Disabled,
        ..IdentitySettings::default()
    };
    bench
        .hub
        .update_identity(&device(), disabled, &IfMatch::Any)
        .unwrap();
    assert_eq!(refused(&|_| {}).await, not_authorised);
    assert_eq!(bench.connection_changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_about_itself_must_make_sense() {
    let bench = Bench::new();
    for (client_id, username, expected) in [
        (
            "",
            "localhost//?api-version=2021-04-12",
            ConnectReturnCode::BadClientId,
        ),
        (
            "press-01",
            "localhost/press-01/",
            ConnectReturnCode::BadUserNamePassword,
        ),
        (
            "press-01",
            "localhost/press-02/?api-version=2021-04-12",
            ConnectReturnCode::NotAuthorized,
        ),
    ] {
        let mut connect = bench.connect_packet(&device());
        connect.client_id = client_id.to_owned();
        connect.login.as_mut().unwrap().username = username.to_owned();
        let (code, end) = bench.refused(connect).await;
        assert_eq!(code, expected, "{username}");
        assert!(end.is_fault_of_client());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_another_version_of_mqtt_is_told() {
    let bench = Bench::new();
    let mut client = bench.client();
    client
        .send_bytes(b"\x10\x0f\0\x04MQTT\x05\x02\0\x3c\0\0\x02ab")
        .await;
    let (_, code) = client.connack().await;
    assert_eq!(code, ConnectReturnCode::RefusedProtocolVersion);
    client.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_lets_in_whom_it_is_registered_for() {
    let bench = Bench::new();
    let certificate = b"a certificate, to anybody but a TLS library".to_vec();
    let thumbprint = digest::digest(&digest::SHA256, &certificate);
    let digits = thumbprint.as_ref().iter().map(|byte| format!("{byte:02x}"));
    let thumbprint = digits.collect::<Vec<_>>().concat();
    let settings = IdentitySettings {
        authentication: Some(Authentication::SelfSigned(Thumbprints {
            primary: Some(thumbprint),
            secondary: None,
        })),
        ..IdentitySettings::default()
    };
    let id = IdentityId::device("press-02").unwrap();
    bench.hub.create_identity(&id, settings).unwrap();
    let mut connect = Connect::new("press-02");
    connect.set_login("localhost/press-02/?api-version=2021-04-12", "");
    for (shown, expected) in [
        (Some(certificate), ConnectReturnCode::Success),
        (
            Some(b"another one".to_vec()),
            ConnectReturnCode::NotAuthorized,
        ),
        (None, ConnectReturnCode::NotAuthorized),
    ] {
        let mut client = bench.client_with_certificate(shown);
        client.send(Packet::Connect(connect.clone())).await;
        assert_eq!(client.connack().await.1, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_will_must_be_telemetry_of_the_client_itself() {
    let bench = Bench::new();
    for (topic, qos) in [
        ("devices/press-02/messages/events/", QoS::AtMostOnce),
        ("$iothub/twin/GET/?$rid=1", QoS::AtMostOnce),
        ("devices/press-01/messages/events/", QoS::ExactlyOnce),
    ] {
        let mut connect = bench.connect_packet(&device());
        connect.last_will = Some(will(topic, qos));
        let (code, _) = bench.refused(connect).await;
        assert_eq!(code, ConnectReturnCode::NotAuthorized, "{topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_connect_in_time_is_cut_off() {
    let bench = Bench::new();
    let mut silent = bench.client();
    silent.send_bytes(b"\x10").await;
    assert!(matches!(silent.ended().await, End::NoConnect));
}

#[tokio::test(start_paused = true)]
async fn subscriptions_outlive_connections_without_clean_session_only() {
    let bench = Bench::new();
    let filter = "$iothub/methods/POST/#";
    let connect = async |clean_session| {
        let mut connect = bench.connect_packet(&device());
        connect.clean_session = clean_session;
        let mut client = bench.client();
        client.send(Packet::Connect(connect)).await;
        let (is_session_present, code) = client.connack().await;
        assert_eq!(code, ConnectReturnCode::Success);
        (client, is_session_present)
    };
    let (mut client, is_session_present) = connect(false).await;
    assert!(!is_session_present);
    client.subscribe(&[(filter, QoS::AtMostOnce)]).await;
    client.hangs_up().await;
    let (client, is_session_present) = connect(false).await;
    assert!(is_session_present);
    client.hangs_up().await;
    let (mut client, is_session_present) = connect(true).await;
    assert!(!is_session_present);
    client.subscribe(&[(filter, QoS::AtMostOnce)]).await;
    client.hangs_up().await;
    let (_, is_session_present) = connect(false).await;
    assert!(!is_session_present);
}
