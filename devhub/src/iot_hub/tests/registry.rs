//! Identities: created, changed, deleted, and what proves who they are.

use super::*;

#[test]
fn creating_and_deleting_is_told_with_the_twin_and_modules_go_with_their_device() {
    let fixture = Fixture::new();
    let hub = &fixture.hub;
    assert_eq!(
        code(hub.create_identity(&spindle(), IdentitySettings::default())),
        ErrorCode::DeviceNotFound
    );
    let first = fixture.create(&press());
    fixture.create(&spindle());
    assert_eq!(
        code(hub.create_identity(&press(), IdentitySettings::default())),
        ErrorCode::DeviceAlreadyExists
    );
    assert_eq!(
        code(hub.create_identity(&spindle(), IdentitySettings::default())),
        ErrorCode::ModuleAlreadyExistsOnDevice
    );
    let stale = IfMatch::Etag("AAAA".to_owned());
    assert_eq!(
        code(hub.delete_identity(&press(), &stale)),
        ErrorCode::PreconditionFailed
    );
    hub.delete_identity(&press(), &IfMatch::Any).unwrap();
    assert_eq!(code(hub.identity(&spindle())), ErrorCode::DeviceNotFound);
    let again = fixture.create(&press());
    assert_ne!(first.generation_id, again.generation_id);
    assert_ne!(first.authentication, again.authentication);
    assert_eq!(code(hub.identity(&spindle())), ErrorCode::ModuleNotFound);

    let side =
        json!({ "$metadata": { "$lastUpdated": "2022-01-16T16:36:53.8140000Z" }, "$version": 1 });
    let twin = json!({
        "deviceId": "press",
        "etag": "AAAAAAAAAAE=",
        "version": 2,
        "properties": { "desired": side, "reported": side },
    });
    assert_eq!(
        fixture.told()[0],
        told(
            "deviceLifecycleEvents",
            "createDeviceIdentity",
            "press",
            twin
        )
    );
    assert_eq!(
        fixture.operations(0),
        operations(&[
            ("createDeviceIdentity", "press"),
            ("createModuleIdentity", "press/spindle"),
            ("deleteModuleIdentity", "press/spindle"),
            ("deleteDeviceIdentity", "press"),
            ("createDeviceIdentity", "press"),
        ])
    );
}

#[test]
fn a_registration_changes_only_by_its_etag_and_counts() {
    let fixture = Fixture::new();
    let created = fixture.create(&press());
    let disabled = IdentitySettings {
        status: IdentityStatus::Disabled,
        status_reason: Some("stolen".to_owned()),
        authentication: None,
    };
    let stale = IfMatch::Etag("AAAA".to_owned());
    assert_eq!(
        code(
            fixture
                .hub
                .update_identity(&press(), disabled.clone(), &stale)
        ),
        ErrorCode::PreconditionFailed
    );
    let etag = IfMatch::Etag(created.etag.clone());
    let updated = fixture
        .hub
        .update_identity(&press(), disabled, &etag)
        .unwrap();
    assert_ne!(updated.etag, created.etag);
    assert_eq!(updated.status_updated_ms, Some(START_MS));
    assert_eq!(updated.authentication, created.authentication);
    assert_eq!(
        fixture.hub.device_statistics(),
        DeviceStatistics {
            enabled: 0,
            disabled: 1,
            connected: 0,
        }
    );
    assert_eq!(
        code(fixture.hub.connect(&press(), AUTH)),
        ErrorCode::DeviceDisabled
    );
    let long = IdentitySettings {
        status_reason: Some("x".repeat(129)),
        ..IdentitySettings::default()
    };
    assert_eq!(
        code(fixture.hub.update_identity(&press(), long, &IfMatch::Any)),
        ErrorCode::ArgumentInvalid
    );
}

#[tokio::test]
async fn a_disabled_or_deleted_identity_loses_its_connection() {
    let fixture = Fixture::new();
    fixture.create(&press());
    let mut link = fixture.connect(&press());
    let disabled = IdentitySettings {
        status: IdentityStatus::Disabled,
        ..IdentitySettings::default()
    };
    fixture
        .hub
        .update_identity(&press(), disabled, &IfMatch::Any)
        .unwrap();
    assert_eq!(link.next().await, ToDevice::End(EndReason::Disabled));
    fixture
        .hub
        .update_identity(&press(), IdentitySettings::default(), &IfMatch::Any)
        .unwrap();
    let mut link = fixture.connect(&press());
    fixture
        .hub
        .delete_identity(&press(), &IfMatch::Any)
        .unwrap();
    assert_eq!(link.next().await, ToDevice::End(EndReason::Deleted));
    assert_eq!(
        code(link.send_telemetry(TelemetryMessage::json("1"))),
        ErrorCode::DeviceNotFound
    );
}

#[test]
fn connection_strings_and_authentication_go_together() {
    let fixture = Fixture::new();
    let keys = fixture.hub.kept_keys(&press());
    let settings = IdentitySettings {
        authentication: Some(Authentication::Sas(keys.clone())),
        ..IdentitySettings::default()
    };
    fixture.hub.create_identity(&press(), settings).unwrap();
    assert_eq!(
        fixture.hub.device_connection_string(&press(), "localhost"),
        Some(format!(
            "HostName=localhost;DeviceId=press;SharedAccessKey={}",
            keys.primary.expose()
        ))
    );
    let expires = Duration::from_millis(START_MS.unsigned_abs()) + Duration::from_mins(1);
    let token =
        sas::sign_for_iot_hub("localhost/devices/press", None, &keys.primary, expires).unwrap();
    let checked = |id: &IdentityId| fixture.hub.authenticate(id, Credential::Token(&token));
    assert_eq!(
        checked(&press()).map(|method| method.scope),
        Ok(AuthScope::Device)
    );
    assert_eq!(checked(&spindle()), Err(AuthError::UnknownIdentity));
    let disabled = IdentitySettings {
        status: IdentityStatus::Disabled,
        ..IdentitySettings::default()
    };
    fixture
        .hub
        .update_identity(&press(), disabled, &IfMatch::Any)
        .unwrap();
    assert_eq!(checked(&press()), Err(AuthError::Disabled));
}
